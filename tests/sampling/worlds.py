"""A world small enough to work out by hand: latents are pixels, and the score is a known linear function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from synood_ray.models.inpainters.base import Canvas, Pass, Prompts
from synood_ray.models.scorer import Judged, Objective
from synood_ray.sampling.calibration import Calibration

SIDE = 4


class LinearInpainter:
    """z_0 = 0.5 z + 0.5 eps (nearly z after a restart) inside the mask, z_in outside; decode is the identity."""

    device = torch.device("cpu")
    resolution = SIDE
    scaling_factor = 1.0

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.fail_on: float | None = None  # an image of this mean makes its batch fail

    @property
    def denoiser_calls(self) -> int:
        return sum(self.batches)

    def scheduler(self, solver: str | None) -> None:
        return None

    def encode_prompt(self, prompt: str) -> Prompts:
        return Prompts(torch.zeros(1, 1, 1), None)

    def canvas(self, images: Tensor, masks: Tensor, strength: float = 0.0) -> Canvas:
        return Canvas(images.clone(), masks.clone(), images * (1 - masks))

    def denoise(self, one: Pass) -> Tensor:
        self.batches.append(len(one.noise))
        if self.fail_on is not None and any(abs(float(z.mean()) - self.fail_on) < 1e-6 for z in one.canvas.latents):
            raise RuntimeError("the denoiser met an image that it cannot bear")
        kept, mask = one.canvas.latents * (1 - one.canvas.mask), one.canvas.mask
        share = 0.5 if one.strength > 0.5 else 0.02  # a denoiser takes out again what little noise a restart adds
        return kept + mask * ((1 - share) * one.latents + share * one.noise)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def decode_with_vjp(self, latents: Tensor) -> tuple[Tensor, Any]:
        return latents, lambda gradient: gradient


class Reader(LinearInpainter):
    """Remembers the prompts that it has been asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []

    def encode_prompt(self, prompt: str) -> Prompts:
        self.prompts.append(prompt)
        return super().encode_prompt(prompt)


class LinearScorer:
    """S(x) = 10 times the mean of x; its gradient is constant. Logits, feature: the first pixels, all pixels."""

    def score(self, images: Tensor) -> Tensor:
        return 10 * images.flatten(1).mean(1)

    def slope(self, images: Tensor) -> Tensor:
        return torch.full_like(images, 10 / images[0].numel())

    def judge(self, images: Tensor) -> Judged:
        pixels = images.flatten(1)
        return Judged(self.score(images), pixels[:, :5], F.normalize(pixels, dim=1))

    def judge_with_gradient(self, images: Tensor, objective: Objective | None = None) -> tuple[Judged, Tensor]:
        return LinearScorer.judge(self, images), self.slope(images)


class BentScorer(LinearScorer):
    """S(x) = sinh of the linear score: its slope differs tenfold between the two sides of a sample's way."""

    def __init__(self) -> None:
        self.looks: list[int] = []  # images scored without, and with a gradient
        self.gradients: list[int] = []

    def score(self, images: Tensor) -> Tensor:
        return torch.sinh(super().score(images))

    def slope(self, images: Tensor) -> Tensor:
        return super().slope(images) * torch.cosh(super().score(images)).view(-1, 1, 1, 1)

    def judge(self, images: Tensor) -> Judged:
        self.looks.append(len(images))
        return super().judge(images)

    def judge_with_gradient(self, images: Tensor, objective: Objective | None = None) -> tuple[Judged, Tensor]:
        self.gradients.append(len(images))
        return super().judge_with_gradient(images, objective)


def calibration(tau: float = 0.0, sigma: float = 1.0) -> Calibration:
    return Calibration(tau, sigma, tau + 2 * sigma, "energy", 1.0, "linear", "linear", "", 100)
