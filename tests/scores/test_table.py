"""The table of scores: its names are the settings' names, every entry works on a batch, and it is light to import."""

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import pytest
import torch

from synood_ray.config.models import ScoreName
from synood_ray.config.settings import EvaluationSettings
from synood_ray.scores import FALLBACK, SCORES, IdImages, Need, ScoreInput, lacking


def test_the_settings_offer_exactly_the_scores_of_the_table() -> None:
    assert get_args(ScoreName) == tuple(SCORES)
    assert set(EvaluationSettings().scores) <= set(SCORES)


def test_every_score_says_what_it_is_and_where_it_is_from() -> None:
    for score in SCORES.values():
        assert score.summary and "\n" not in score.summary
        assert score.paper[-4:].isdigit()  # names and the year
        assert all("{}" in prompt for prompt in score.prompts)


def seen(features: torch.Tensor, name: str, negatives: bool = True) -> ScoreInput:
    """Four ID classes, eight negative labels, and what the score learned from ID images."""
    g = torch.Generator().manual_seed(7)
    text = torch.randn(12, 6, generator=g, dtype=features.dtype) / 40
    known = torch.randn(20, 6, generator=g, dtype=features.dtype)
    options = {"temperature": 1.5, "groups": 3}
    look = ScoreInput.of_features(features, text[:4], text[4:] if negatives else None, **options)
    held_out = ScoreInput.of_features(known[:5], text[:4], text[4:], **options)
    pool = torch.randn(7, 6, generator=g, dtype=features.dtype) / 40
    state = SCORES[name].learned(IdImages(known, torch.arange(4).repeat(5), held_out), pool)
    return replace(look, state={key: value.to(features) for key, value in state.items()})


def features() -> torch.Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_right(name: str) -> None:
    assert SCORES[name].differentiable
    assert SCORES[name](seen(features(), name)).shape == (3,)
    assert torch.autograd.gradcheck(lambda x: SCORES[name](seen(x, name)), (features().requires_grad_(True),))


@pytest.mark.parametrize("name", SCORES)
def test_a_score_looks_at_what_it_says_it_needs(name: str) -> None:
    score, without = SCORES[name], seen(features(), name, negatives=False)
    if Need.NEGATIVES in score.needs:
        with pytest.raises(ValueError, match="negative labels are needed"):
            score(without)
    else:
        assert torch.equal(score(without), score(seen(features(), name)))
    if {Need.ID_IMAGES, Need.POOL} & score.needs:
        with pytest.raises(KeyError):
            score(replace(seen(features(), name), state={}))
    elif score.share is not None:
        assert not score.learned(IdImages(features(), torch.arange(3), without))


def test_what_lacks_id_images_is_said() -> None:
    labels = torch.tensor([0, 0, 1, 2, 2])
    assert lacking("fused", labels, ["fox", "bus", "cup"]) == (
        "fused needs at least two ID images of every class; 'bus' has 1"
    )
    assert "'cup' has 0" in lacking("mahalanobis", labels[:2].repeat(2), ["fox", "cup"])
    assert lacking("fused", labels.repeat(2), ["fox", "bus", "cup"]) == lacking(FALLBACK, labels, ["fox"]) == ""


def test_features_become_logits_of_100_cos() -> None:
    unit, id_text, negative_text = (torch.eye(3)[rows] for rows in ([0, 1], [0, 2], [1]))
    found = ScoreInput.of_features(unit, id_text, negative_text)
    assert found.id_logits.tolist() == [[100, 0], [0, 0]] and found.negatives.tolist() == [[0], [100]]
    assert found.logits.tolist() == [[100, 0, 0], [0, 0, 100]]
    assert torch.equal(ScoreInput.of_features(unit, id_text).logits, found.id_logits)


def test_the_table_loads_no_torch() -> None:
    code = "import sys, synood_ray.scores; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
