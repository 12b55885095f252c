from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from synood_ray.scores import SCORES, IdImages, ScoreInput
from synood_ray.scores.fused import parts
from synood_ray.scores.joint import joint_score, relative_joint, relative_texts
from synood_ray.scores.mahalanobis import background_distance, id_statistics, relative_mahalanobis
from synood_ray.scores.margin import class_margin, exemplars
from synood_ray.scores.neglabel import neglabel_score


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def look(features: torch.Tensor) -> ScoreInput:
    return ScoreInput.of_features(features, unit(3, 1), unit(5, 2))


IMAGES = IdImages(unit(12, 3), torch.arange(3).repeat(4), look(unit(7, 4)))


def z(features: torch.Tensor) -> torch.Tensor:
    """All six parts [B, 6], in standard deviations from the mean of held-out images."""
    statistics = id_statistics(IMAGES.features, IMAGES.labels)
    kept = exemplars(IMAGES.features, IMAGES.labels)
    columns = []
    for score in (
        lambda x: joint_score(look(x).id_logits, look(x).negatives),
        lambda x: relative_mahalanobis(x, statistics),
        lambda x: neglabel_score(look(x).id_logits, look(x).negatives),
        lambda x: class_margin(x, kept),
        lambda x: relative_joint(x, 3, kept | relative_texts(unit(3, 1), unit(5, 2))),
        lambda x: -background_distance(x, statistics),
    ):
        held_out = score(unit(7, 4))
        columns.append((score(features) - held_out.mean()) / held_out.std())
    return torch.stack(columns, dim=1)


def test_fused_is_the_soft_maximum_of_texts_and_images_in_held_out_standard_deviations() -> None:
    fused = SCORES["fused"]
    seen = replace(look(unit(4, 5)), state=fused.learned(IMAGES))
    joint, mahalanobis, neglabel, margin, relative, likeness = z(unit(4, 5)).T
    assert torch.allclose(parts(seen), z(unit(4, 5)), atol=1e-4)
    texts = 0.7 * (joint + relative) + 0.15 * neglabel + 0.1 * likeness
    images = mahalanobis + margin
    expected = 2 * (((texts / 2).exp() + (images / 2).exp()) / 2).log()
    assert torch.allclose(fused(seen), expected, atol=1e-4)
    assert torch.allclose(fused.answer(seen), expected.sigmoid(), atol=1e-5)
    assert fused.parts is not None
    assert list(fused.parts(seen)) == ["joint", "mahalanobis", "neglabel", "margin", "relative_joint", "likeness"]


def test_what_detectors_of_before_have_learned_means_what_it_meant() -> None:
    """Two parts, none of exemplars; then four."""
    fused, learned = SCORES["fused"], SCORES["fused"].learned(IMAGES)
    four = {name: value for name, value in learned.items() if name != "relative_text"}
    two = {name: value for name, value in four.items() if name not in ("exemplars", "exemplar_classes", "origin")}

    def seen_before(state: dict[str, torch.Tensor], count: int) -> ScoreInput:
        shorter = {name: learned[name][:count] for name in ("centres", "spreads")}
        return replace(look(unit(4, 5)), state=state | shorter)

    joint, mahalanobis, neglabel, margin, *_ = z(unit(4, 5)).T
    texts, images = joint + 0.25 * neglabel, mahalanobis + margin
    seen = seen_before(four, 4)
    assert torch.allclose(fused(seen), 2 * (((texts / 2).exp() + (images / 2).exp()) / 2).log(), atol=1e-4)
    seen = seen_before(two, 2)
    both = z(unit(4, 5))[:, :2]
    assert torch.allclose(fused(seen), 2 * ((both / 2).exp().sum(1) / 2).log(), atol=1e-4)
    assert fused.parts is not None and list(fused.parts(seen)) == ["joint", "mahalanobis"]


def test_images_unlike_the_runs_own_are_judged_by_texts_alone() -> None:
    """z(Mahalanobis) of -20 as of -10: the order is that of the texts."""
    state = SCORES["fused"].learned(IMAGES)
    seen = look(unit(40, 5))
    far = replace(
        seen, state=state | {"centres": state["centres"] + torch.tensor([0.0, 20, 0, 0, 0, 0]) * state["spreads"]}
    )
    joint, _, neglabel, _, relative, likeness = parts(far).T
    order = (0.7 * (joint + relative) + 0.15 * neglabel + 0.1 * likeness).argsort()
    assert (SCORES["fused"](far)[order].diff() > -1e-2).all()


@pytest.mark.parametrize("name", SCORES)
def test_every_score_has_an_answer_from_0_to_1_in_the_same_order(name: str) -> None:
    score = SCORES[name]
    seen = look(unit(50, 6))
    seen = ScoreInput(
        seen.id_logits / 10,
        seen.negatives / 10,
        seen.frozen,
        unit=seen.unit,
        state=score.learned(IMAGES, unit(5, 6) / 10),
    )
    answers, scores = score.answer(seen), score(seen)
    assert (answers >= 0).all() and (answers <= 1).all()
    assert (answers[scores.argsort()].diff() >= 0).all() and answers.unique().numel() > 25
