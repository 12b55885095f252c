"""Diffusion inpainting pipelines, taken apart so that noise can be refined; a family each file, by what diffusers calls
it in ``model_index.json``.
"""

from __future__ import annotations

from typing import Any

from synood_ray.config.models import InpainterSettings
from synood_ray.errors import UserError
from synood_ray.locations import is_folder, resolve
from synood_ray.models.devices import choose_denoiser_dtype, choose_device, choose_dtype
from synood_ray.models.inpainters.pipeline import PipelineInpainter
from synood_ray.models.inpainters.sdxl import StableDiffusionXL
from synood_ray.models.inpainters.stable_diffusion import StableDiffusion

INPAINTERS: dict[str, type[PipelineInpainter]] = {
    "StableDiffusionInpaintPipeline": StableDiffusion,
    "StableDiffusionXLInpaintPipeline": StableDiffusionXL,
}


def open_inpainter(settings: InpainterSettings) -> PipelineInpainter:
    """The inpainter that the settings name. Raises UserError in one line if it cannot be had."""
    import transformers
    from diffusers import AutoPipelineForInpainting
    from diffusers.utils import logging

    logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    device = choose_device(settings.device)
    dtypes = {
        "default": choose_dtype(settings.dtype, device),
        "unet": choose_denoiser_dtype(settings.dtype, device),
    }
    try:
        pipe = AutoPipelineForInpainting.from_pretrained(
            resolve(settings.model),
            revision=settings.revision,
            dtype=dtypes,
            local_files_only=is_folder(settings.model),
        )
    except (OSError, ValueError) as error:
        message = str(error).strip().splitlines()[0]
        raise UserError(f"inpainter.model {settings.model!r} cannot be loaded: {message}") from error
    return take_apart(pipe, settings)


def take_apart(pipe: Any, settings: InpainterSettings) -> PipelineInpainter:
    """An inpainter of a pipeline that is in memory already. Raises UserError for a family that has no file here."""
    kind = type(pipe).__name__
    if kind not in INPAINTERS:
        raise UserError(f"inpainter.model {settings.model!r} is a {kind}; known are {', '.join(INPAINTERS)}")
    return INPAINTERS[kind](pipe, settings)
