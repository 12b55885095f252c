"""The released recipe of SynOOD (ICCV 2025): what its code does, also where its paper says otherwise.

Its samples are whole images (the mask is all ones), take three rounds of 12 of 20 solver steps with the model's own
solver, never stop early, and are kept as the last round leaves them, whatever their score and whatever they show. Its
loss has a target out of reach of 149 classes or more, and is a mean over the batch, so both are part of the length of
its step. Before the loop, images are squashed into the square, and the prompt is its own (`sampling.prompts.official`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synood_ray.config.sampling import SamplingSettings
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.recipes.base import Recipe, Walk
from synood_ray.sampling.sample import Due, Refined, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter

ROUNDS = 3
WALK = Walk(steps=20, strength=0.6, guidance=8.0)
TARGET = -5.0  # of E' = mean(l) - logsumexp(l); E' <= -ln C, so out of reach where C >= 149
STEP = 10.0
BATCH = 2  # the loss is a mean over the batch, so the batch size is part of the step


def official_loss(logits: Tensor) -> Tensor:
    """The released loss (-5 - E')^2 a sample [B], from class logits [B, C]; E' = mean(l) - logsumexp(l)."""
    energy = logits.mean(-1) - logits.logsumexp(-1)
    return (TARGET - energy).square()


def official_step(gradient: Tensor, scaling_factor: float) -> Tensor:
    """The released update of the noise, from dL/dz_0 [B, C, h, w] of `official_loss`.

    The gradient is taken with respect to z_0 / scaling_factor, the loss is the mean over a batch of 2, and the
    noise is not brought back to unit variance.
    """
    return -STEP * gradient * scaling_factor / BATCH


class Official(Recipe):
    """Three passes over the whole image; the loss's gradient moves the noise of the next."""

    companions = False
    checks = False
    policy = "official"
    squash = True

    def __init__(self, settings: SamplingSettings, calibration: Calibration, inpainter: Inpainter) -> None:
        super().__init__(settings, calibration, inpainter)
        self.rounds, self.solver, self.walks = ROUNDS, None, {Due.PASS: WALK}
        self.objective = official_loss

    def move(self, group: list[Sample]) -> None:
        for sample in group:
            assert sample.gradient is not None
            sample.noise = sample.noise + official_step(sample.gradient, self.inpainter.scaling_factor)
            sample.due = Due.PASS

    def mask(self, masks: Tensor) -> Tensor:
        import torch

        return torch.ones_like(masks)

    def steers(self, sample: Sample) -> bool:
        return True

    def prefers(self, sample: Sample, margin: float) -> bool:
        return True

    def done(self, sample: Sample) -> bool:
        return False

    def accepts(self, refined: Refined) -> bool:
        return True
