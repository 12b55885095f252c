"""What an inpainter is, a frozen diffusion model taken apart so that noise can be refined, and what goes through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Canvas:
    """What stays the same while one image is refined; all at latent size, batch first.

    latents: the image [B, C, h, w], scaled; mask: [B, 1, h, w], 1 = repaint; masked: the image without the
    masked part [B, C, h, w], scaled.
    """

    latents: Tensor
    mask: Tensor
    masked: Tensor

    def __getitem__(self, index: Any) -> Canvas:
        return Canvas(self.latents[index], self.mask[index], self.masked[index])

    @staticmethod
    def stack(parts: list[Canvas]) -> Canvas:
        import torch

        return Canvas(*(torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "mask", "masked")))


@dataclass(frozen=True, slots=True)
class Prompts:
    """Text conditions: embeds [B, T, D]; pooled [B, P], None for models that take none.

    later: the conditions that take over within a full pass, once ``switch`` [B] of its steps, a share, are done; None:
    the same to the end.
    """

    embeds: Tensor
    pooled: Tensor | None = None
    later: Prompts | None = None
    switch: Tensor | None = None

    def expand(self, count: int) -> Prompts:
        """One prompt as if it were ``count`` of them."""
        pooled = None if self.pooled is None else self.pooled.expand(count, -1)
        return Prompts(self.embeds.expand(count, -1, -1), pooled)

    def blend(self, other: Prompts, weight: float) -> Prompts:
        """Between two conditions of equal shape, embeds and pooled alike: (1 - weight) of this one, weight of other."""
        import torch

        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.lerp(self.pooled, other.pooled, weight)
        return Prompts(torch.lerp(self.embeds, other.embeds, weight), pooled)

    def then(self, later: Prompts, switch: float) -> Prompts:
        """These conditions for the share ``switch`` of a full pass's steps, ``later`` for the rest."""
        import torch

        return Prompts(self.embeds, self.pooled, later, torch.full((len(self.embeds),), switch))

    def at(self, share: float) -> Prompts:
        """The conditions of the step before which ``share`` of the pass, in [0, 1], is done."""
        import torch

        if self.later is None or self.switch is None:
            return self
        over = (share >= self.switch - 1e-6).to(self.embeds.device)  # a third of 3 steps is one step, rounded or not
        pooled = None
        if self.pooled is not None and self.later.pooled is not None:
            pooled = torch.where(over[:, None], self.later.pooled, self.pooled)
        return Prompts(torch.where(over[:, None, None], self.later.embeds, self.embeds), pooled)

    @staticmethod
    def stack(parts: list[Prompts]) -> Prompts:
        import torch

        pooled = [p.pooled for p in parts if p.pooled is not None]
        later, switch = None, None
        if any(p.later is not None for p in parts):
            later = Prompts.stack([p.later or p for p in parts])
            never = [torch.full((len(p.embeds),), 2.0) for p in parts]
            switch = torch.cat([n if p.switch is None else p.switch for p, n in zip(parts, never, strict=True)])
        return Prompts(torch.cat([p.embeds for p in parts]), torch.cat(pooled) if pooled else None, later, switch)


@dataclass(frozen=True, slots=True)
class Pass:
    """Samples that are re-noised equally far, with the solver that takes them back (`Inpainter.scheduler`).

    latents: what is re-noised [B, C, h, w]; noise: [B, C, h, w]; steps: solver steps of the whole schedule; strength:
    share of it that is run, in (0, 1], at least one step. guidance: classifier-free guidance scale; 1 is off, and
    half the denoiser calls. guided: share of the steps that are run, from the first, that guidance applies to.
    copies: rows at the end that fill the batch up and are no samples.
    """

    latents: Tensor
    noise: Tensor
    canvas: Canvas
    prompts: Prompts
    steps: int
    strength: float
    guidance: float
    scheduler: Any
    guided: float = 1.0
    copies: int = 0


class Inpainter(Protocol):
    """Encode, re-noise, denoise, decode. Images are [B, 3, H, W] in [0, 1], latents z [B, C, h, w] scaled to about unit
    variance by ``scaling_factor``; z_0 is what a pass ends with.
    """

    device: torch.device
    resolution: int  # side of the square images, pixels
    scaling_factor: float
    denoiser_calls: int  # denoiser evaluations so far, one per sample and step, guidance counted twice

    def encode_prompt(self, prompt: str) -> Prompts:
        """Conditions of one prompt (batch of 1)."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images -> scaled latents; the same image gives the same latents."""
        ...

    def canvas(self, images: Tensor, masks: Tensor, strength: float = 0.0) -> Canvas:
        """Images and masks [B, 1, H, W] (1 = repaint) -> their constant conditions.

        strength: of the pass that will begin with the images. At 1 it begins with noise alone, and their latents,
        zeros then, need no encoding.
        """
        ...

    def scheduler(self, solver: str | None) -> Any:
        """A solver of its own for one loop: "dpm++" (second order, few steps), "ddim", or None: the model's own."""
        ...

    def denoise(self, one: Pass) -> Tensor:
        """Re-noise to the pass's strength and denoise back: z_0. At strength 1 the pass begins with pure noise."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> images float32."""
        ...

    def decode_with_vjp(self, latents: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Images float32, and a function that carries dS/dImage [B, 3, H, W] back to dS/dz_0 [B, C, h, w]."""
        ...
