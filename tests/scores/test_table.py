"""The table of scores: its names are the settings' names, every entry works on a batch, and it is light to import."""

import subprocess
import sys
from typing import get_args

import pytest
import torch

from synood_ray.config.settings import EvaluationSettings, ScoreName
from synood_ray.scores import SCORES, Need, ScoreInput


def test_the_settings_offer_exactly_the_scores_of_the_table() -> None:
    assert get_args(ScoreName) == tuple(SCORES)
    assert set(EvaluationSettings().scores) <= set(SCORES)


def test_every_score_says_what_it_is_and_where_it_is_from() -> None:
    for score in SCORES.values():
        assert score.summary and "\n" not in score.summary
        assert score.paper[-4:].isdigit()  # names and the year
        assert score.prompt is None or "{}" in score.prompt


def seen(logits: torch.Tensor) -> ScoreInput:
    return ScoreInput(logits[:, :4], logits[:, 4:], temperature=1.5, groups=3)


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_right(name: str) -> None:
    logits = torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert SCORES[name].differentiable
    assert SCORES[name](seen(logits)).shape == (3,)
    assert torch.autograd.gradcheck(lambda x: SCORES[name](seen(x)), (logits,))


@pytest.mark.parametrize("name", SCORES)
def test_a_score_looks_at_what_it_says_it_needs(name: str) -> None:
    logits = 10 * torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    if Need.NEGATIVES in SCORES[name].needs:
        with pytest.raises(ValueError, match="negative labels are needed"):
            SCORES[name](ScoreInput(logits[:, :4]))
    else:
        assert torch.equal(SCORES[name](ScoreInput(logits[:, :4], None, 1.5)), SCORES[name](seen(logits)))


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
