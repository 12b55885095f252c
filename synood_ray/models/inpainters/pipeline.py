"""What all families of diffusers inpainting pipelines share: a frozen VAE and a UNet that takes mask and masked image.

The pipelines' own ``latents=`` argument is taken as pure noise even when strength < 1, so the loop here mixes
noise and image itself (`add_noise`), encodes everything constant once, and offers the decoder's
vector-Jacobian product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from synood_ray.config.models import InpainterSettings
from synood_ray.errors import UserError
from synood_ray.models.devices import choose_denoiser_dtype, choose_device, choose_dtype
from synood_ray.models.inpainters.base import Canvas, Inpainter, Pass, Prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CHECKPOINTED = 512  # from this side on the decoder computes its activations again instead of keeping gigabytes


class PipelineInpainter(Inpainter, ABC):
    """A diffusers pipeline as an `Inpainter`. A family says how it takes text: `embed`, and where it must, the rest."""

    def __init__(self, pipe: Any, settings: InpainterSettings) -> None:
        """Take over a pipeline, loaded or built in memory: its modules are moved and frozen. Raises UserError."""
        import torch

        channels = pipe.unet.config.in_channels
        if channels != 2 * pipe.vae.config.latent_channels + 1:
            raise UserError(f"inpainter.model {settings.model!r} takes {channels} channels; an inpainting UNet takes 9")
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device)
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self.vae, self.unet = pipe, pipe.vae, pipe.unet
        denoiser_dtype = choose_denoiser_dtype(settings.dtype, self.device)
        for module in pipe.components.values():
            if isinstance(module, torch.nn.Module):
                dtype = denoiser_dtype if module is self.unet else self.dtype
                module.to(self.device).eval().requires_grad_(False)
                if module.dtype != dtype:  # one that was built in memory; diffusers warns even of casts that do nothing
                    module.to(dtype)
        for module in (self.unet, self.vae):  # twice as fast in the decoder, on a CPU as well
            module.to(memory_format=torch.channels_last)
        if settings.compile:
            self.unet = torch.compile(self.unet)
        self.factor = pipe.vae_scale_factor
        self.scaling_factor: float = pipe.vae.config.scaling_factor
        self.resolution = settings.resolution or int(pipe.unet.config.sample_size) * self.factor
        if self.resolution % self.factor:
            raise UserError(f"inpainter.resolution {self.resolution} is not a multiple of {self.factor}")
        if self.resolution >= CHECKPOINTED:
            self.vae.enable_gradient_checkpointing()
        self._prompts: dict[str, Prompts] = {}
        self.denoiser_calls = 0

    # -- what a family says ------------------------------------------------------------------------------------------

    @abstractmethod
    def embed(self, prompt: str) -> Prompts:
        """Conditions of one prompt, from the pipeline's text encoders."""

    def blank(self) -> Prompts:
        """Conditions of no prompt, for guidance."""
        return self.encode_prompt("")

    def added_conditions(self, prompts: Prompts) -> dict[str, Tensor] | None:
        """What the UNet takes beside the embeds, as ``added_cond_kwargs``."""
        return None

    # -- what is computed once per sample ---------------------------------------------------------------------

    def encode_prompt(self, prompt: str) -> Prompts:
        """Embeds of one prompt (batch of 1), remembered: contexts repeat, and every round asks again."""
        import torch

        if prompt not in self._prompts:
            if len(self._prompts) >= 4096:
                self._prompts.clear()
            with torch.inference_mode():
                self._prompts[prompt] = self.embed(prompt)
        return self._prompts[prompt]

    def encode(self, images: Tensor) -> Tensor:
        """Images -> scaled latents [B, C, h, w], the posterior's mode: the same image gives the same latents."""
        import torch

        with torch.inference_mode():
            pixels = (images.to(self.device, self.dtype) * 2 - 1).contiguous()
            return self.vae.encode(pixels).latent_dist.mode() * self.scaling_factor

    def canvas(self, images: Tensor, masks: Tensor, strength: float = 0.0) -> Canvas:
        """Images [B, 3, H, W] in [0, 1] and masks [B, 1, H, W] (1 = repaint) -> their constant conditions.

        strength: of the pass that will begin with the images. At 1 it begins with noise alone, and their latents,
        zeros then, need no encoding.
        """
        import torch
        from torch.nn import functional as F

        with torch.inference_mode():
            images, masks = images.to(self.device), masks.to(self.device)
            # The pipelines feed the masked image in [-1, 1] with zeros, mid grey, where it is repainted.
            masked = (images * 2 - 1) * (masks < 0.5)
            small = F.interpolate(masks, size=tuple(side // self.factor for side in images.shape[-2:]))
            context = self.encode((masked + 1) / 2)
            latents = self.encode(images) if strength < 1 else torch.zeros_like(context)
            return Canvas(latents, small.to(self.dtype), context)

    def scheduler(self, solver: str | None) -> Any:
        """A solver of its own for one loop: "dpm++" (second order, few steps), "ddim", or None: the model's own."""
        import diffusers

        classes = {"dpm++": diffusers.DPMSolverMultistepScheduler, "ddim": diffusers.DDIMScheduler}
        own = self.pipe.scheduler
        return classes[solver].from_config(own.config) if solver else type(own).from_config(own.config)

    # -- one pass ----------------------------------------------------------------------------------------------

    def denoise(self, one: Pass) -> Tensor:
        """Re-noise to the pass's strength and denoise it back: z_0 [B, C, h, w].

        z_T = sqrt(a_T) z + sqrt(1 - a_T) eps (scheduler.add_noise), then int(steps * strength) solver steps, with
        classifier-free guidance in one batch where it is asked for. At strength 1, z_T is pure noise.
        """
        import torch

        with torch.inference_mode():
            timesteps, latents = self._begin(one)
            guided = max(1, round(one.guided * len(timesteps))) if one.guidance > 1 else 0
            for index, timestep in enumerate(timesteps):
                prompts = one.prompts.at(index / len(timesteps))
                predicted = self._predict(one, latents, timestep, prompts, guided=index < guided)
                latents = one.scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        return latents

    def _predict(self, one: Pass, latents: Tensor, timestep: Tensor, prompts: Prompts, guided: bool) -> Tensor:
        """The UNet's answer: for every sample with its prompt, and when guided also without, in the same batch."""
        import torch

        times = 2 if guided else 1
        scaled = one.scheduler.scale_model_input(latents, timestep)
        rows = torch.cat([scaled, one.canvas.mask, one.canvas.masked], dim=1).repeat(times, 1, 1, 1)
        if guided:
            prompts = Prompts.stack([prompts, self.blank().expand(len(latents))])
        predicted = self.unet(
            rows.to(self.unet.dtype),
            timestep,
            encoder_hidden_states=prompts.embeds.to(self.unet.dtype),
            added_cond_kwargs=self.added_conditions(prompts),
            return_dict=False,
        )[0].to(self.dtype)
        self.denoiser_calls += len(predicted) - times * one.copies
        if not guided:
            return predicted
        prompted, unprompted = predicted.chunk(2)
        return unprompted + one.guidance * (prompted - unprompted)

    def _begin(self, one: Pass) -> tuple[Tensor, Tensor]:
        """The timesteps that a pass will run, and its re-noised latents."""
        scheduler = one.scheduler
        scheduler.set_timesteps(one.steps, device=self.device)
        start = (one.steps - max(1, int(one.steps * one.strength))) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        timesteps = scheduler.timesteps[start:]
        noise = one.noise.to(self.device, self.dtype)
        if one.strength >= 1:
            return timesteps, noise * scheduler.init_noise_sigma
        return timesteps, scheduler.add_noise(one.latents, noise, timesteps[:1].repeat(len(noise)))

    # -- back to pixels ------------------------------------------------------------------------------------------

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> images [B, 3, H, W] float32 in [0, 1]."""
        import torch

        with torch.inference_mode():
            return self._decode(latents).float().clamp(0, 1)

    def decode_with_vjp(self, latents: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Images float32 in [0, 1], and a function that carries dS/dImage [B, 3, H, W] back to dS/dz_0 [B, C, h, w]."""
        import torch

        with torch.enable_grad():
            leaf = latents.detach().clone().requires_grad_(True)
            images = self._decode(leaf).float().clamp(0, 1)

        def pull_back(gradient: Tensor) -> Tensor:
            (result,) = torch.autograd.grad(images, leaf, gradient.to(images))
            return result.float()

        return images.detach(), pull_back

    def _decode(self, latents: Tensor) -> Tensor:
        decoded = self.vae.decode(latents.to(self.dtype) / self.scaling_factor, return_dict=False)[0]
        return decoded / 2 + 0.5
