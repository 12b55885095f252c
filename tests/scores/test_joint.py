import math

import pytest
import torch
from torch.nn import functional as F

from synood_ray.scores.joint import RELATIVE_TEMPERATURE, joint_score, relative_joint, relative_texts


def test_joint_is_the_log_probability_of_the_nearest_class_by_hand() -> None:
    known, negative = [24.0, 20.0], [21.0, 19.0, 10.0]
    total = sum(math.exp(logit / 2) for logit in known + negative)
    found = joint_score(torch.tensor([known]), torch.tensor([negative]))
    assert found.item() == pytest.approx(math.log(math.exp(24 / 2) / total), abs=1e-5)


def test_being_torn_between_two_classes_lowers_it() -> None:
    sure, torn = joint_score(torch.tensor([[24.0, 10.0], [24.0, 24.0]]), torch.full((2, 3), 15.0)).tolist()
    assert sure > torn + 0.5


def test_it_survives_large_logits() -> None:
    assert joint_score(torch.tensor([[1000.0]]), torch.tensor([[0.0]])).item() == pytest.approx(0, abs=1e-6)


def test_relative_joint_is_of_cosines_seen_from_the_middle_by_hand() -> None:
    text = torch.tensor([[0.6, 0.8, 0], [0, 0.6, 0.8], [0.8, 0, 0.6]])  # two classes, one negative label
    origin, image = torch.tensor([0.5, 0.5, 0]), torch.tensor([0.0, 0.6, 0.8])
    state = relative_texts(text[:2], text[2:]) | {"origin": origin}
    away, middle = image - origin, (text[0] + text[1]) / 2
    cosines = [float(away @ (one - middle)) / float(away.norm() * (one - middle).norm()) for one in text]
    relative = [cosine / RELATIVE_TEMPERATURE for cosine in cosines]
    expected = max(relative[:2]) - math.log(math.fsum(map(math.exp, relative)))
    assert relative_joint(image[None], 2, state).item() == pytest.approx(expected, abs=1e-4)


def test_what_all_images_have_in_common_does_not_count() -> None:
    """Texts that are nearer to it win the joint score, not the relative one."""
    common = torch.tensor([0.0, 0, 1])
    text = torch.tensor([[1.0, 0, 0], [0, 0.8, 0.6], [0, -0.8, 0.6]])  # the negative label, last, is nearer to it
    images = F.normalize(torch.tensor([[0.3, 0, 0], [-0.3, 0, 0]]) + common, dim=1)
    state = relative_texts(text[:2], text[2:]) | {"origin": images.mean(0)}
    logits = 100 * images[:1] @ text.T
    assert logits.argmax().item() != 0
    assert relative_joint(images[:1], 2, state).exp().item() > 0.9
