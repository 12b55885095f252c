from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from synood_ray.scores import SCORES, IdImages, ScoreInput
from synood_ray.scores.joint import joint_score
from synood_ray.scores.mahalanobis import id_statistics, relative_mahalanobis


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def look(features: torch.Tensor) -> ScoreInput:
    return ScoreInput.of_features(features, unit(3, 1), unit(5, 2))


IMAGES = IdImages(unit(12, 3), torch.arange(3).repeat(4), look(unit(7, 4)))


def test_fused_is_the_sum_of_both_scores_in_held_out_standard_deviations() -> None:
    statistics = id_statistics(IMAGES.features, IMAGES.labels)

    def z(features: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(features))
        for score in (
            lambda x: joint_score(look(x).id_logits, look(x).negatives),
            lambda x: relative_mahalanobis(x, statistics),
        ):
            held_out = score(unit(7, 4))
            total += (score(features) - held_out.mean()) / held_out.std()
        return total

    fused = SCORES["fused"]
    seen = replace(look(unit(4, 5)), state=fused.learned(IMAGES))
    assert torch.allclose(fused(seen), z(unit(4, 5)), atol=1e-4)
    assert torch.allclose(fused.answer(seen), z(unit(4, 5)).sigmoid(), atol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_has_an_answer_from_0_to_1_in_the_same_order(name: str) -> None:
    score = SCORES[name]
    seen = look(unit(50, 6))
    seen = ScoreInput(seen.id_logits / 10, seen.negatives / 10, seen.frozen, state=score.learned(IMAGES))
    answers, scores = score.answer(seen), score(seen)
    assert (answers >= 0).all() and (answers <= 1).all()
    assert (answers[scores.argsort()].diff() >= 0).all() and answers.unique().numel() > 25
