"""The class margin by hand: densities of the classes' own images, the largest over the second."""

import math
from dataclasses import replace

import pytest
import torch

from synood_ray.scores import SCORES, IdImages, ScoreInput
from synood_ray.scores.margin import EXEMPLARS, class_margin, exemplars

ANGLES = [0.0, 10, 100, 120, 240, 250, 245]
LABELS = torch.tensor([5, 5, 7, 7, 9, 9, 9])


def plane(*degrees: float) -> torch.Tensor:
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_it_is_the_log_of_the_ratio_of_the_two_largest_densities() -> None:
    state = exemplars(plane(*ANGLES), LABELS)
    centre = plane(*ANGLES).mean(0)
    image = plane(60.0)

    def density(label: int) -> float:
        own = plane(*ANGLES)[label == LABELS] - centre
        seen = image[0] - centre
        cosines = (own @ seen) / (own.norm(dim=1) * seen.norm())
        return math.fsum(math.exp(20 * cosine) for cosine in cosines.tolist()) / len(own)

    first, second, _ = sorted((density(label) for label in (5, 7, 9)), reverse=True)
    assert class_margin(image, state).item() == pytest.approx(math.log(first / second) / 20)


def test_between_two_classes_it_is_lowest() -> None:
    state = exemplars(plane(0.0, 90, 180, 270), torch.arange(4))
    margins = class_margin(plane(0.0, 15, 30, 45), state)
    assert (margins.diff() < 0).all() and margins[3].item() == pytest.approx(0, abs=1e-6)


def test_a_class_keeps_its_first_images_whatever_the_order_of_classes() -> None:
    features = plane(*range(0, 60, 3))
    state = exemplars(features, torch.tensor([3, 1, 3, 1, *[3] * 16]))
    expected = (features - features.mean(0))[[1, 3, 0, 2, *range(4, 18)]]
    assert state["exemplar_classes"].tolist() == [0, 0, *[1] * EXEMPLARS]
    assert torch.allclose(state["exemplars"], expected / expected.norm(dim=1, keepdim=True))


def test_of_one_class_it_is_the_density() -> None:
    state = exemplars(plane(0.0, 90), torch.zeros(2, dtype=torch.int64))
    near, far = class_margin(plane(0.0, 225), state).tolist()
    assert near > far


def test_what_it_learns_as_a_score_of_its_own_is_the_same() -> None:
    known = plane(*ANGLES)
    seen = ScoreInput(known, frozen=plane(60.0, 130, 200))
    score = SCORES["margin"]
    state = score.learned(IdImages(known, LABELS, ScoreInput(known, frozen=known)))
    assert torch.equal(score(replace(seen, state=state)), class_margin(seen.features, exemplars(known, LABELS)))
