import pytest
import torch

from synood_ray.scores.neglabel import group_order, neglabel_score


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
