"""Stable Diffusion XL inpainting: two text encoders, pooled embeds and sizes beside the embeds, zeros for no prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synood_ray.models.inpainters.base import Prompts
from synood_ray.models.inpainters.pipeline import PipelineInpainter

if TYPE_CHECKING:
    from torch import Tensor


class StableDiffusionXL(PipelineInpainter):
    """A StableDiffusionXLInpaintPipeline."""

    def embed(self, prompt: str) -> Prompts:
        embeds, _, pooled, _ = self.pipe.encode_prompt(
            prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Prompts(embeds, pooled)

    def blank(self) -> Prompts:
        """Zeros where the pipeline was trained with such, else the embeds of an empty prompt."""
        import torch

        empty = self.encode_prompt("")
        if empty.pooled is None or not self.pipe.config.get("force_zeros_for_empty_prompt", False):
            return empty
        return Prompts(torch.zeros_like(empty.embeds), torch.zeros_like(empty.pooled))

    def added_conditions(self, prompts: Prompts) -> dict[str, Tensor]:
        import torch

        assert prompts.pooled is not None
        side = (self.resolution, self.resolution)
        ids = [*side, 0, 0, *side]  # original size, crop corner, target size: SDXL's micro-conditioning
        time_ids = torch.tensor([ids], device=self.device, dtype=self.dtype).repeat(len(prompts.embeds), 1)
        return {"text_embeds": prompts.pooled, "time_ids": time_ids}
