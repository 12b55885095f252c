import math

import pytest
import torch

from synood_ray.scores.formulas import energy, group_order, mcm, msp, neglabel_score


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


def test_neglabel_equals_the_formula_written_out() -> None:
    generator = torch.Generator().manual_seed(5)
    id_logits = 5 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    negative = 5 * torch.randn(4, 23, generator=generator, dtype=torch.float64)

    torch.manual_seed(0)  # the published code permutes with the global generator
    kept = negative[:, : 23 - 23 % 5][:, torch.randperm(20)].view(4, 5, 4)
    share = [id_logits.exp().sum(1) / (id_logits.exp().sum(1) + kept[:, group].exp().sum(1)) for group in range(5)]
    expected = torch.stack(share).mean(0)

    assert torch.allclose(neglabel_score(id_logits, negative, groups=5), expected, atol=1e-12)


def test_neglabel_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    neglabel_score(torch.zeros(1, 2), torch.zeros(1, 10), groups=5)
    assert torch.equal(torch.rand(3), expected)


def test_more_groups_than_negatives_means_one_label_a_group() -> None:
    assert group_order(7, groups=100).shape == (7, 1)
    score = neglabel_score(torch.zeros(2, 3), torch.zeros(2, 7), groups=100)
    assert score.tolist() == pytest.approx([0.75, 0.75])


def test_groups_are_disjoint_and_drop_the_trailing_labels() -> None:
    order = group_order(23, groups=5)
    assert sorted(order.flatten().tolist()) == list(range(20))


def test_no_negatives_is_refused() -> None:
    with pytest.raises(ValueError, match="negative labels"):
        neglabel_score(torch.zeros(1, 3), torch.zeros(1, 0))


@pytest.mark.parametrize("name", ["mcm", "msp", "energy", "neglabel"])
def test_gradients_are_right(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    score = {
        "mcm": mcm,
        "msp": msp,
        "energy": energy,
        "neglabel": lambda x: neglabel_score(x[:, :4], x[:, 4:], groups=3),
    }[name]
    assert torch.autograd.gradcheck(score, (logits,))


@pytest.mark.parametrize("score", [mcm, msp, energy])
def test_a_clear_match_scores_higher(score: object) -> None:
    clear, unclear = score(torch.tensor([[30.0, 10.0, 10.0], [15.0, 15.0, 15.0]])).tolist()  # type: ignore[operator]
    assert clear > unclear
