"""SDXL's own conditions, on a pipeline with random weights that is small in every part."""

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.fullsize import SOLVER, clip_tokenizer
from synood_ray.config.models import InpainterSettings
from synood_ray.models.inpainters import take_apart
from synood_ray.models.inpainters.base import Pass, Prompts
from synood_ray.models.inpainters.sdxl import StableDiffusionXL

SIDE = 64
TEXT: dict[str, Any] = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
}
UNET: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
    "cross_attention_dim": 16 + 24,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24 + 6 * 8,
}


def pipeline(**options: Any) -> Any:
    torch.manual_seed(0)
    second = CLIPTextConfig(hidden_size=24, projection_dim=24, eos_token_id=49407, **TEXT)
    return diffusers.StableDiffusionXLInpaintPipeline(
        vae=diffusers.AutoencoderKL(**VAE, sample_size=SIDE, scaling_factor=0.13025),
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=16, **TEXT)),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=diffusers.UNet2DConditionModel(**UNET),
        scheduler=diffusers.EulerDiscreteScheduler(**SOLVER),
        **options,
    )


@pytest.fixture(scope="module", params=[True, False])
def inpainter(request: pytest.FixtureRequest) -> StableDiffusionXL:
    settings = InpainterSettings(device="cpu", dtype="float32", resolution=SIDE)
    found = take_apart(pipeline(force_zeros_for_empty_prompt=request.param), settings)
    assert isinstance(found, StableDiffusionXL)
    return found


@pytest.fixture(scope="module")
def one(inpainter: StableDiffusionXL) -> Pass:
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 1, SIDE, SIDE)
    masks[..., 16:48, 12:52] = 1
    canvas = inpainter.canvas(images, masks)
    prompts = Prompts.stack([inpainter.encode_prompt(text) for text in ("A photo of a moon.", "A photo of a tree.")])
    noise = torch.randn(canvas.latents.shape, generator=torch.Generator().manual_seed(2))
    return Pass(canvas.latents, noise, canvas, prompts, 3, 1.0, 4.0, inpainter.scheduler(None))


def test_the_loop_equals_the_pipeline_at_full_strength(inpainter: StableDiffusionXL, one: Pass) -> None:
    theirs = inpainter.pipe(
        prompt=["A photo of a moon.", "A photo of a tree."],
        image=torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)),
        mask_image=torch.nn.functional.interpolate(one.canvas.mask, size=(SIDE, SIDE)),
        masked_image_latents=one.canvas.masked,
        latents=one.noise,
        num_inference_steps=3,
        strength=1.0,
        guidance_scale=4.0,
        height=SIDE,
        width=SIDE,
        output_type="latent",
    ).images
    assert torch.allclose(inpainter.denoise(one), theirs, atol=2e-4)


def test_every_condition_counts(inpainter: StableDiffusionXL, one: Pass) -> None:
    other = Prompts(one.prompts.embeds, one.prompts.pooled.flip(0) if one.prompts.pooled is not None else None)
    assert not torch.allclose(inpainter.denoise(one), inpainter.denoise(replace(one, prompts=other)), atol=1e-4)


def test_no_prompt_is_zeros_where_the_pipeline_says_so(inpainter: StableDiffusionXL) -> None:
    blank = inpainter.blank()
    assert blank.pooled is not None
    zeros = not blank.embeds.any() and not blank.pooled.any()
    assert zeros == inpainter.pipe.config.force_zeros_for_empty_prompt
