import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synood_ray.sampling.recipes.newton import OVERSHOOT, REACH, Bracket, between, beyond, newton_step


def test_newton_step_moves_a_linear_score_by_the_residual() -> None:
    gradient = torch.randn(3, 4, 8, 8)
    residual = torch.tensor([0.5, -2.0, 0.01])
    mask = torch.ones(3, 1, 8, 8)
    step = newton_step(gradient, residual, mask, max_rms=100.0)
    assert torch.allclose((step * gradient).flatten(1).sum(1), residual, atol=1e-5)


def test_newton_step_stays_inside_the_mask_and_below_its_bound() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 3:6] = 1
    step = newton_step(torch.randn(1, 4, 8, 8), torch.tensor([1e6]), mask, max_rms=0.3)
    assert step[(mask == 0).expand_as(step)].abs().max() == 0
    inside = step[(mask == 1).expand_as(step)]
    assert inside.square().mean().sqrt() == pytest.approx(0.3, rel=1e-4)


def test_newton_step_without_gradient_is_finite() -> None:
    step = newton_step(torch.zeros(1, 4, 2, 2), torch.tensor([1.0]), torch.ones(1, 1, 2, 2), max_rms=0.3)
    assert torch.isfinite(step).all()


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_each_sample_has_its_own_step(batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(batch, 4, 4, 4, generator=generator)
    residual = torch.randn(batch, generator=generator)
    mask = torch.ones(batch, 1, 4, 4)
    together = newton_step(gradient, residual, mask, 0.3)
    for index in range(batch):
        one = slice(index, index + 1)
        assert torch.equal(together[one], newton_step(gradient[one], residual[one], mask[one], 0.3))


def test_between_two_latents_is_where_a_linear_score_would_be_tau() -> None:
    low, high = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    assert torch.allclose(between(-1.0, low, 3.0, high, 0.0), torch.full((1, 1, 2, 2), 0.25))


@given(low=st.floats(-5, 0), high=st.floats(0, 5), z_low=st.floats(-2, 2, width=32), z_high=st.floats(-2, 2, width=32))
def test_a_bracket_always_shrinks(low: float, high: float, z_low: float, z_high: float) -> None:
    found = float(between(low, torch.full((1, 1, 1, 1), z_low), high, torch.full((1, 1, 1, 1), z_high), 0.0))
    width = abs(z_high - z_low)
    assert max(abs(found - z_low), abs(found - z_high)) <= 0.9 * width + 1e-5


@given(
    first=st.floats(-5, 5),
    nearer=st.floats(0, 0.99),
    tau=st.floats(-1, 1),
    start=st.floats(-2, 2, width=32),
    way=st.floats(-2, 2, width=32),
)
def test_beyond_goes_on_the_same_way_a_little_past_the_boundary(
    first: float, nearer: float, tau: float, start: float, way: float
) -> None:
    """S(z_first + s way) = first + s (last - first) is at tau where s = (tau - first) / (last - first)."""
    last = tau + nearer * (first - tau)
    if abs(last - first) < 1e-6:
        return
    z_first, z_last = (torch.full((1, 1, 1, 1), value) for value in (start, start + way))
    share = min(OVERSHOOT / (1 - nearer), REACH)
    assert share >= OVERSHOOT  # further than the last round, always
    assert float(beyond(first, z_first, last, z_last, tau)) == pytest.approx(start + share * way, abs=1e-4)


def test_a_bracket_that_creeps_is_cut_by_the_illinois_rule() -> None:
    bracket, scores = Bracket(goal=0.0), []
    z = [torch.full((1, 1), float(i)) for i in range(4)]
    for score, at in ((4.0, z[0]), (-1.0, z[1]), (-0.9, z[2])):
        scores.append(score)
        bracket.take(scores, at)
    assert bracket.below == (-0.9, z[2]) and bracket.above == (2.0, z[0])
