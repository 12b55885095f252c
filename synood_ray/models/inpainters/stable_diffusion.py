"""Stable Diffusion 1.5 and 2 inpainting: one text encoder, and nothing beside its embeds."""

from __future__ import annotations

from synood_ray.models.inpainters.base import Prompts
from synood_ray.models.inpainters.pipeline import PipelineInpainter


class StableDiffusion(PipelineInpainter):
    """A StableDiffusionInpaintPipeline."""

    def embed(self, prompt: str) -> Prompts:
        embeds, _ = self.pipe.encode_prompt(
            prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Prompts(embeds)
