"""How a sample moves on: our Newton step and the secant through two rounds, and the released recipe's update."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CLEARANCE = 0.1
OVERSHOOT, REACH = 1.2, 2.0
OFFICIAL_STEP = 10.0
OFFICIAL_TARGET = -5.0  # the released recipe's target of E' = mean(l) - logsumexp(l); E' <= -ln C, so out of reach
OFFICIAL_BATCH = 2  # its loss is a mean over the batch, so the batch size is part of its step


def newton_step(gradient: Tensor, residual: Tensor, mask: Tensor, max_rms: float) -> Tensor:
    """The change d of each sample's latents that moves its score by ``residual``, to first order.

    d = residual * g / |g|^2, with g = dS/dz_0 inside the mask (skip gradient: the denoiser counts as identity),
    the root mean square of d inside the mask bounded by ``max_rms``.

    gradient: [B, C, h, w]; residual: tau - S [B]; mask: [B, 1, h, w], 1 = repaint. Each sample has its own
    step: nothing depends on the batch.
    """
    g = gradient.float() * mask
    squared = g.flatten(1).square().sum(1).clamp_min(1e-20)
    step = (residual / squared).view(-1, 1, 1, 1) * g
    inside = (mask.flatten(1).sum(1) * gradient.shape[1]).clamp_min(1)
    rms = (step.flatten(1).square().sum(1) / inside).sqrt().clamp_min(1e-20)
    return step * (max_rms / rms).clamp_max(1.0).view(-1, 1, 1, 1)


def between(low: float, z_low: Tensor, high: float, z_high: Tensor, tau: float) -> Tensor:
    """The latents on the way from z_low to z_high where a linear score would be tau (regula falsi).

    low <= tau <= high: the scores at both ends; z: [1, C, h, w]. The score is not linear, so the point keeps a
    distance of `CLEARANCE` of the way from either end: the bracket shrinks with every round.
    """
    share = (tau - low) / max(high - low, 1e-12)
    share = min(max(share, CLEARANCE), 1 - CLEARANCE)
    return z_low + share * (z_high - z_low)


def beyond(first: float, z_first: Tensor, last: float, z_last: Tensor, tau: float) -> Tensor:
    """The latents beyond z_last, on the way from z_first, where a linear score would be a little past tau (secant).

    first, last: the scores of both, on the same side of tau, the last one nearer. A little past it, because a bracket
    is worth more than another near miss; at most `REACH` times the way, because the score is not linear.
    """
    share = OVERSHOOT * (tau - first) / (last - first)
    return z_first + min(share, REACH) * (z_last - z_first)


def official_loss(logits: Tensor) -> Tensor:
    """The released loss (-5 - E')^2 a sample [B], from class logits [B, C]; E' = mean(l) - logsumexp(l)."""
    energy = logits.mean(-1) - logits.logsumexp(-1)
    return (OFFICIAL_TARGET - energy).square()


def official_step(gradient: Tensor, scaling_factor: float) -> Tensor:
    """The released update of the noise, from dL/dz_0 [B, C, h, w] of `official_loss`.

    The gradient is taken with respect to z_0 / scaling_factor, the loss is the mean over a batch of 2, and the
    noise is not brought back to unit variance.
    """
    return -OFFICIAL_STEP * gradient * scaling_factor / OFFICIAL_BATCH
