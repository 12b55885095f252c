"""The inpainter: a frozen diffusers inpainting pipeline, taken apart so that noise can be refined.

The pipelines' own ``latents=`` argument is taken as pure noise even when strength < 1, so the loop here mixes
noise and image itself (`add_noise`), encodes everything constant once, and offers the decoder's
vector-Jacobian product. One code path serves Stable Diffusion 1.5, 2 and XL inpainting at every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import InpainterSettings
from synood_ray.errors import UserError
from synood_ray.locations import is_folder, resolve
from synood_ray.models.devices import choose_denoiser_dtype, choose_device, choose_dtype

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINTED = 512  # from this side on the decoder computes its activations again instead of keeping gigabytes


@dataclass(frozen=True, slots=True)
class Canvas:
    """What stays the same while one image is refined; all at latent size, batch first.

    latents: the image [B, 4, h, w], scaled; mask: [B, 1, h, w], 1 = repaint; masked: the image without the
    masked part [B, 4, h, w], scaled.
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
    """Text conditions: embeds [B, T, D]; pooled [B, P] for SDXL, else None."""

    embeds: Tensor
    pooled: Tensor | None

    @staticmethod
    def stack(parts: list[Prompts]) -> Prompts:
        import torch

        pooled = [p.pooled for p in parts if p.pooled is not None]
        return Prompts(torch.cat([p.embeds for p in parts]), torch.cat(pooled) if pooled else None)


@dataclass(frozen=True, slots=True)
class Pass:
    """Samples that are re-noised equally far, with the solver that takes them back (`Inpainter.scheduler`).

    latents: what is re-noised [B, 4, h, w]; noise: [B, 4, h, w]; steps: solver steps of the whole schedule; strength:
    share of it that is run, in (0, 1], at least one step. guidance: classifier-free guidance scale; 1 is off, and
    half the denoiser calls. guided: share of the steps that are run, from the first, that guidance applies to.
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


class Inpainter:
    """Encode, re-noise, denoise, decode. Everything frozen; images are [B, 3, H, W] in [0, 1]."""

    def __init__(self, settings: InpainterSettings) -> None:
        import transformers
        from diffusers import AutoPipelineForInpainting
        from diffusers.utils import logging

        logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device)
        dtypes = {"default": self.dtype, "unet": choose_denoiser_dtype(settings.dtype, self.device)}
        try:
            pipe = AutoPipelineForInpainting.from_pretrained(
                resolve(settings.model), dtype=dtypes, local_files_only=is_folder(settings.model)
            )
        except (OSError, ValueError) as error:
            message = str(error).strip().splitlines()[0]
            raise UserError(f"inpainter.model {settings.model!r} cannot be loaded: {message}") from error
        self._adopt(pipe, settings)

    @classmethod
    def from_pipeline(cls, pipe: Any, settings: InpainterSettings) -> Inpainter:
        """Wrap a pipeline that is already in memory (random weights at full size, tests)."""
        self = cls.__new__(cls)
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device)
        pipe = pipe.to(self.dtype)
        pipe.unet.to(choose_denoiser_dtype(settings.dtype, self.device))
        self._adopt(pipe, settings)
        return self

    def _adopt(self, pipe: Any, settings: InpainterSettings) -> None:
        import torch

        channels = pipe.unet.config.in_channels
        if channels != 2 * pipe.vae.config.latent_channels + 1:
            raise UserError(f"inpainter.model {settings.model!r} takes {channels} channels; an inpainting UNet takes 9")
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe.to(self.device)
        self.vae, self.unet = pipe.vae, pipe.unet
        for module in pipe.components.values():
            if isinstance(module, torch.nn.Module):
                module.eval().requires_grad_(False)
        for module in (self.unet, self.vae):  # twice as fast in the decoder, on a CPU as well
            module.to(memory_format=torch.channels_last)
        if settings.compile:
            self.unet = torch.compile(self.unet)
        self.is_xl = hasattr(pipe, "text_encoder_2")
        self.factor = pipe.vae_scale_factor
        self.scaling_factor: float = pipe.vae.config.scaling_factor
        self.resolution = settings.resolution or int(pipe.unet.config.sample_size) * self.factor
        if self.resolution % self.factor:
            raise UserError(f"inpainter.resolution {self.resolution} is not a multiple of {self.factor}")
        if self.resolution >= CHECKPOINTED:
            self.vae.enable_gradient_checkpointing()
        self._prompts: dict[str, Prompts] = {}
        self.denoiser_calls = 0  # UNet evaluations so far, one a sample and step, guidance counted twice

    # -- what is computed once a sample ---------------------------------------------------------------------

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` in the diffusion model's tokenizer, without start and end."""
        return len(self.pipe.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_prompt(self, prompt: str) -> Prompts:
        """Embeds of one prompt (batch of 1), remembered: contexts repeat, and every round asks again."""
        import torch

        if prompt not in self._prompts:
            if len(self._prompts) >= 4096:
                self._prompts.clear()
            with torch.inference_mode():
                encoded = self.pipe.encode_prompt(
                    prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
                )
            self._prompts[prompt] = Prompts(encoded[0], encoded[2] if self.is_xl else None)
        return self._prompts[prompt]

    def encode(self, images: Tensor) -> Tensor:
        """Images -> scaled latents [B, 4, h, w], the posterior's mode: the same image gives the same latents."""
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
        """Re-noise to the pass's strength and denoise it back: z_0 [B, 4, h, w].

        z_T = sqrt(a_T) z + sqrt(1 - a_T) eps (scheduler.add_noise), then int(steps * strength) solver steps, with
        classifier-free guidance in one batch where it is asked for. At strength 1, z_T is pure noise.
        """
        import torch

        with torch.inference_mode():
            timesteps, latents = self._begin(one)
            guided = max(1, round(one.guided * len(timesteps))) if one.guidance > 1 else 0
            for index, timestep in enumerate(timesteps):
                predicted = self._predict(one, latents, timestep, guided=index < guided)
                latents = one.scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        return latents

    def _predict(self, one: Pass, latents: Tensor, timestep: Tensor, guided: bool) -> Tensor:
        """The UNet's answer: for every sample with its prompt, and when guided also without, in the same batch."""
        import torch

        times = 2 if guided else 1
        scaled = one.scheduler.scale_model_input(latents, timestep)
        rows = torch.cat([scaled, one.canvas.mask, one.canvas.masked], dim=1).repeat(times, 1, 1, 1)
        embeds, arguments = self._condition(one.prompts, len(latents) if guided else 0)
        predicted = self.unet(
            rows.to(self.unet.dtype),
            timestep,
            encoder_hidden_states=embeds.to(self.unet.dtype),
            added_cond_kwargs=arguments,
            return_dict=False,
        )[0].to(self.dtype)
        self.denoiser_calls += len(predicted)
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

    def _condition(self, prompts: Prompts, without: int) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Embeds of the prompts, and of as many empty ones behind them."""
        import torch

        embeds, pooled = prompts.embeds, prompts.pooled
        if without:
            empty = self.encode_prompt("")
            zeros = self.is_xl and self.pipe.config.get("force_zeros_for_empty_prompt", False)
            blank = torch.zeros_like(empty.embeds) if zeros else empty.embeds
            embeds = torch.cat([embeds, blank.expand(without, -1, -1)])
            if pooled is not None and empty.pooled is not None:
                blank = torch.zeros_like(empty.pooled) if zeros else empty.pooled
                pooled = torch.cat([pooled, blank.expand(without, -1)])
        if pooled is None:
            return embeds, None
        side = (self.resolution, self.resolution)
        ids = [*side, 0, 0, *side]  # original size, crop corner, target size: SDXL's micro-conditioning
        time_ids = torch.tensor([ids], device=self.device, dtype=self.dtype).repeat(embeds.shape[0], 1)
        return embeds, {"text_embeds": pooled, "time_ids": time_ids}

    # -- back to pixels ------------------------------------------------------------------------------------------

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> images [B, 3, H, W] float32 in [0, 1]."""
        import torch

        with torch.inference_mode():
            return self._decode(latents).float().clamp(0, 1)

    def decode_with_vjp(self, latents: Tensor) -> tuple[Tensor, Any]:
        """Images float32 in [0, 1], and a function that carries dS/dImage [B, 3, H, W] back to dS/dz_0 [B, 4, h, w]."""
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
