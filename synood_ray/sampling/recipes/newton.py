"""Ours: one full pass, a step along the score's gradient, then the secant. Reaches the band in a round or two.

A sample that a pass leaves in the band stays as it is; another one aims at the score of the point in the band that lies
nearest to it (`Recipe.aim`), the boundary of what follows.

The step is too long on purpose, since the one solver step that takes it back to the manifold undoes a part of it. From
there the secant through two rounds says where to go, which needs neither denoiser nor gradient: between them, once they
lie on either side of the boundary, or else on beyond the later one. Where that leads nowhere, the next step has a
gradient of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from synood_ray.config.sampling import SamplingSettings
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.recipes.base import Recipe, Walk
from synood_ray.sampling.sample import Due, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter

CLEARANCE = 0.1
OVERSHOOT, REACH = 1.2, 2.0
WIDE = 1.0
"""ID standard deviations: of a band as wide as this, most first passes end inside (blends in [-0.5, 2]: 19 of 20; empty
scenes in [-0.25, 0.25]: one of three)."""


@dataclass(slots=True)
class Bracket:
    """What is known of the way to a sample's goal, a score: rounds as (score, z_0).

    below, above: the last round on this side of the goal; stepped: the round that the last step began with.
    """

    goal: float = float("nan")  # set after the first round

    below: tuple[float, Tensor] | None = None
    above: tuple[float, Tensor] | None = None
    stepped: tuple[float, Tensor] | None = None
    rounds: int = 0  # taken in so far

    def take(self, scores: list[float], z: Tensor) -> None:
        """Take the last round in as one end; scores: of all rounds so far, z: the last one's z_0.

        Illinois rule: an end that stays a second time counts as half as far from the goal, or the other end would
        creep towards it (the score bends).
        """
        goal = self.goal
        if len(scores) == self.rounds:  # the sample came back for its gradient alone
            return
        self.rounds = len(scores)
        score, below, above = scores[-1], self.below, self.above
        before = scores[-2] if below and above else goal
        if score < goal:
            self.below = score, z
            self.above = (goal + (above[0] - goal) / 2, above[1]) if above and before < goal else above
        else:
            self.above = score, z
            self.below = (goal + (below[0] - goal) / 2, below[1]) if below and before > goal else below


class Newton(Recipe):
    """Between two rounds on either side of the goal, if there are such; else on, or along a new gradient."""

    def __init__(self, settings: SamplingSettings, calibration: Calibration, inpainter: Inpainter) -> None:
        super().__init__(settings, calibration, inpainter)
        # One solver step. It keeps what the first pass composed: guidance there moves the score away.
        self.walks[Due.RESTART] = Walk(round(1 / settings.restart), settings.restart, 1.0)
        low, high = settings.band
        self.narrow = high - low < WIDE

    def memory(self) -> Bracket:
        return Bracket()

    def steers(self, sample: Sample) -> bool:
        """After the first round most samples need a gradient, if the band is narrow; else, and after a later one, few:
        `move` asks then."""
        return self.narrow and not sample.scores

    def move(self, group: list[Sample]) -> None:
        for sample in group:
            score, bracket = sample.scores[-1], cast(Bracket, sample.memory)
            if not bracket.rounds:
                bracket.goal = self.calibration.score_at(self.aim(sample.margins[0]))
            bracket.take(sample.scores, sample.z)
            goal = bracket.goal
            if bracket.below is not None and bracket.above is not None:
                sample.put(between(*bracket.below, *bracket.above, goal), Due.LOOK)
            elif bracket.stepped is not None and abs(score - goal) < abs(bracket.stepped[0] - goal):
                sample.put(beyond(*bracket.stepped, score, sample.z, goal), Due.LOOK)
                bracket.stepped = None
            elif sample.gradient is None:
                sample.due = Due.STEER
            else:
                self._step(sample, sample.gradient)

    def _step(self, sample: Sample, gradient: Tensor) -> None:
        """A step along the gradient, too long on purpose."""
        import torch

        residual = torch.tensor([self.settings.gain * (sample.memory.goal - sample.scores[-1])]).to(gradient)
        step = newton_step(gradient, residual, sample.canvas.mask.float(), self.settings.max_step)
        sample.memory.stepped = sample.scores[-1], sample.z
        sample.latents = (sample.z + step).to(sample.z.dtype)
        sample.gradient, sample.due = None, Due.RESTART


def newton_step(gradient: Tensor, residual: Tensor, mask: Tensor, max_rms: float) -> Tensor:
    """The change d of each sample's latents that moves its score by ``residual``, to first order.

    d = residual * g / |g|^2, with g = dS/dz_0 inside the mask (skip gradient: the denoiser counts as identity),
    the root mean square of d inside the mask bounded by ``max_rms``.

    gradient: [B, C, h, w]; residual: goal - S [B]; mask: [B, 1, h, w], 1 = repaint. Each sample has its own
    step: nothing depends on the batch.
    """
    g = gradient.float() * mask
    squared = g.flatten(1).square().sum(1).clamp_min(1e-20)
    step = (residual / squared).view(-1, 1, 1, 1) * g
    inside = (mask.flatten(1).sum(1) * gradient.shape[1]).clamp_min(1)
    rms = (step.flatten(1).square().sum(1) / inside).sqrt().clamp_min(1e-20)
    return step * (max_rms / rms).clamp_max(1.0).view(-1, 1, 1, 1)


def between(low: float, z_low: Tensor, high: float, z_high: Tensor, goal: float) -> Tensor:
    """The latents on the way from z_low to z_high where a linear score would be the goal (regula falsi).

    low <= goal <= high: the scores at both ends; z: [1, C, h, w]. The score is not linear, so the point keeps a
    distance of `CLEARANCE` of the way from either end: the bracket shrinks with every round.
    """
    share = (goal - low) / max(high - low, 1e-12)
    share = min(max(share, CLEARANCE), 1 - CLEARANCE)
    return z_low + share * (z_high - z_low)


def beyond(first: float, z_first: Tensor, last: float, z_last: Tensor, goal: float) -> Tensor:
    """The latents beyond z_last, on the way from z_first, where a linear score is a little past the goal (secant).

    first, last: the scores of both, on the same side of the goal, the last one nearer. A little past it, because a
    bracket is worth more than another near miss; at most `REACH` times the way, because the score is not linear.
    """
    share = OVERSHOOT * (goal - first) / (last - first)
    return z_first + min(share, REACH) * (z_last - z_first)
