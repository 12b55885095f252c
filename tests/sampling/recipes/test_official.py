import math

import pytest
import torch

from synood_ray.sampling.recipes.official import official_loss, official_step


def test_official_loss_by_hand() -> None:
    logits = torch.tensor([[1.0, 3.0]])
    energy = 2.0 - math.log(math.exp(1) + math.exp(3))
    assert float(official_loss(logits)) == pytest.approx((-5 - energy) ** 2, rel=1e-6)


def test_the_official_target_is_out_of_reach() -> None:
    # Jensen: mean(l) - logsumexp(l) <= -ln C, with equality for equal logits.
    logits = torch.randn(1000, 1000)
    assert (logits.mean(-1) - logits.logsumexp(-1) <= -math.log(1000)).all()


def test_official_step_is_the_released_update() -> None:
    # eps <- eps - 10 * d mean_over_2(loss) / d (z_0 / scaling_factor)
    gradient = torch.full((1, 4, 2, 2), 2.0)
    assert torch.allclose(official_step(gradient, 0.5), torch.full((1, 4, 2, 2), -10 * 2.0 * 0.5 / 2))


def test_the_target_is_out_of_reach_of_149_classes_or_more() -> None:
    """E' is largest, -ln C, where all logits are equal: the loss can be 0 for 148 classes, not for 149."""
    least = [official_loss(torch.zeros(1, classes)).item() for classes in (148, 149)]
    assert -math.log(148) > -5 > -math.log(149)
    assert least[1] == pytest.approx((-5 + math.log(149)) ** 2, rel=1e-3)
    logits = torch.randn(1000, 149, generator=torch.Generator().manual_seed(0)) * 5
    assert official_loss(logits).min() > least[1] > 0
