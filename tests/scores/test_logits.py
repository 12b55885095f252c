import math

import pytest
import torch

from synood_ray.scores.logits import energy, maxlogit, mcm, msp


def by_hand_softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


ROWS = [[25.0, 21.5, 19.0], [18.0, 18.5, 18.25]]


def test_mcm_is_the_largest_softmax_of_cosines() -> None:
    expected = [max(by_hand_softmax([value / 100 / 0.5 for value in row])) for row in ROWS]
    assert mcm(torch.tensor(ROWS), temperature=0.5).tolist() == pytest.approx(expected, rel=1e-6)


def test_msp_is_the_largest_softmax_of_logits() -> None:
    expected = [max(by_hand_softmax([value / 2 for value in row])) for row in ROWS]
    assert msp(torch.tensor(ROWS), temperature=2.0).tolist() == pytest.approx(expected, rel=1e-6)


def test_energy_is_a_soft_maximum() -> None:
    expected = [3 * math.log(sum(math.exp(value / 3) for value in row)) for row in ROWS]
    assert energy(torch.tensor(ROWS), temperature=3.0).tolist() == pytest.approx(expected, rel=1e-6)


def test_energy_survives_large_logits() -> None:
    assert energy(torch.full((1, 10), 1000.0)).item() == pytest.approx(1000 + math.log(10), rel=1e-6)


def test_maxlogit_is_the_largest_logit() -> None:
    assert maxlogit(torch.tensor(ROWS)).tolist() == [25.0, 18.5]


@pytest.mark.parametrize("score", [mcm, msp, energy, maxlogit])
def test_a_clear_match_scores_higher(score: object) -> None:
    clear, unclear = score(torch.tensor([[30.0, 10.0, 10.0], [15.0, 15.0, 15.0]])).tolist()  # type: ignore[operator]
    assert clear > unclear
