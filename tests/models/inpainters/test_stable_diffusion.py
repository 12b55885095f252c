from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch

from synood_ray.config.models import InpainterSettings
from synood_ray.errors import UserError
from synood_ray.models.inpainters import open_inpainter, take_apart
from synood_ray.models.inpainters.base import Pass, Prompts
from synood_ray.models.inpainters.stable_diffusion import StableDiffusion

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def inpainter() -> StableDiffusion:
    found = open_inpainter(InpainterSettings(model="mini://models/inpainting", dtype="float32"))
    assert isinstance(found, StableDiffusion)
    return found


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    smooth = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(smooth, size=(64, 64), mode="bilinear")


def test_everything_is_frozen(inpainter: StableDiffusion) -> None:
    for module in (inpainter.unet, inpainter.vae, inpainter.pipe.text_encoder):
        assert not module.training and not any(p.requires_grad for p in module.parameters())


def test_encoding_is_deterministic_and_decoding_comes_back(inpainter: StableDiffusion, images: torch.Tensor) -> None:
    latents = inpainter.encode(images)
    assert torch.equal(latents, inpainter.encode(images))
    error = (inpainter.decode(latents) - images).square().mean()
    assert -10 * torch.log10(error) > 20  # dB


def test_the_loop_equals_the_pipeline_at_full_strength(inpainter: StableDiffusion, images: torch.Tensor) -> None:
    """Strength 1 starts from pure noise, the one case in which the pipeline's ``latents=`` means the same."""
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 12:52] = 1
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    prompts = ["A photo of a moon.", "A photo of a tree."]
    canvas = inpainter.canvas(images, mask)
    encoded = Prompts.stack([inpainter.encode_prompt(prompt) for prompt in prompts])
    one = Pass(canvas.latents, noise, canvas, encoded, 3, 1.0, 2.0, inpainter.scheduler(None))
    ours = inpainter.denoise(one)
    theirs = inpainter.pipe(
        prompt=prompts,
        image=images,
        mask_image=mask,
        masked_image_latents=canvas.masked,
        latents=noise,
        num_inference_steps=3,
        strength=1.0,
        guidance_scale=2.0,
        height=64,
        width=64,
        output_type="latent",
    ).images
    assert torch.allclose(ours, theirs, atol=2e-4)


def test_strength_decides_how_much_is_run(inpainter: StableDiffusion, images: torch.Tensor) -> None:
    canvas = inpainter.canvas(images, torch.ones(2, 1, 64, 64))
    encoded = Prompts.stack([inpainter.encode_prompt("")] * 2)
    noise = torch.randn(2, 4, 16, 16)
    before = inpainter.denoiser_calls
    one = Pass(canvas.latents, noise, canvas, encoded, 10, 0.4, 1.0, inpainter.scheduler("dpm++"))
    inpainter.denoise(one)
    assert inpainter.denoiser_calls - before == 2 * 4
    inpainter.denoise(replace(one, guidance=3.0))
    assert inpainter.denoiser_calls - before == 2 * 4 + 2 * 2 * 4


@pytest.mark.parametrize(("guided", "calls"), [(1.0, 6), (0.67, 5), (0.34, 4), (0.01, 4)])  # of 3 steps
def test_guidance_may_end_early(inpainter: StableDiffusion, images: torch.Tensor, guided: float, calls: int) -> None:
    canvas = inpainter.canvas(images, torch.ones(2, 1, 64, 64))
    encoded = Prompts.stack([inpainter.encode_prompt("A photo of a moon.")] * 2)
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(4))
    whole = Pass(canvas.latents, noise, canvas, encoded, 3, 1.0, 2.5, inpainter.scheduler("dpm++"))
    full = inpainter.denoise(whole)
    before = inpainter.denoiser_calls
    part = inpainter.denoise(replace(whole, guided=guided))
    assert inpainter.denoiser_calls - before == 2 * calls
    assert torch.equal(full, part) == (calls == 6)


def test_noise_alone_needs_no_latents_of_the_image(inpainter: StableDiffusion, images: torch.Tensor) -> None:
    masks = torch.ones(2, 1, 64, 64)
    whole, lean = inpainter.canvas(images, masks), inpainter.canvas(images, masks, strength=1.0)
    assert torch.equal(whole.masked, lean.masked) and not lean.latents.any()
    encoded = Prompts.stack([inpainter.encode_prompt("A photo of a moon.")] * 2)
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    first, second = (
        inpainter.denoise(Pass(one.latents, noise, one, encoded, 3, 1.0, 2.0, inpainter.scheduler("dpm++")))
        for one in (whole, lean)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("solver", ["dpm++", "ddim", None])
def test_a_solver_serves_one_pass_after_the_other(
    inpainter: StableDiffusion, images: torch.Tensor, solver: str
) -> None:
    """Solvers remember earlier steps: nothing of one pass may reach the next, however different their walks are."""
    canvas = inpainter.canvas(images, torch.ones(2, 1, 64, 64))
    encoded = Prompts.stack([inpainter.encode_prompt("A photo of a moon.")] * 2)
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))

    def one_pass(walk: tuple[int, float, float], scheduler: Any) -> torch.Tensor:
        return inpainter.denoise(Pass(canvas.latents, noise, canvas, encoded, *walk, scheduler))

    shared = inpainter.scheduler(solver)
    for walk in ((8, 0.6, 2.0), (8, 0.25, 1.0), (12, 0.08, 3.0), (8, 0.6, 2.0)):
        assert torch.equal(one_pass(walk, shared), one_pass(walk, inpainter.scheduler(solver)))


def test_the_decoders_vjp_against_finite_differences(inpainter: StableDiffusion, images: torch.Tensor) -> None:
    latents = inpainter.encode(images)
    decoded, pull_back = inpainter.decode_with_vjp(latents)
    assert torch.allclose(decoded, inpainter.decode(latents), atol=1e-5)
    target = torch.randn(decoded.shape, generator=torch.Generator().manual_seed(2))
    gradient = pull_back(target)
    direction = gradient / gradient.norm()
    step = 0.05
    ahead, behind = inpainter.decode(latents + step * direction), inpainter.decode(latents - step * direction)
    difference = ((ahead - behind) * target).sum() / (2 * step)
    assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=0.05)


def test_a_pipeline_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match=r"inpainter\.model"):
        open_inpainter(InpainterSettings(model="/nowhere/at/all"))


def test_a_family_without_a_file_here_is_one_line(inpainter: StableDiffusion) -> None:
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**inpainter.pipe.components, requires_safety_checker=False)
    with pytest.raises(UserError, match="is a StableDiffusionImg2ImgPipeline; known are StableDiffusionInp"):
        take_apart(pipe, InpainterSettings())


def test_a_denoiser_that_does_not_take_a_mask_is_one_line(inpainter: StableDiffusion) -> None:
    parts = inpainter.pipe.components
    config = {**parts["unet"].config, "in_channels": parts["vae"].config.latent_channels}
    parts["unet"] = diffusers.UNet2DConditionModel.from_config(config)
    pipe = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    with pytest.raises(UserError, match="takes 4 channels; an inpainting UNet takes 9"):
        take_apart(pipe, InpainterSettings())


def test_the_denoiser_alone_computes_in_bfloat16_where_the_processor_does(
    inpainter: StableDiffusion, images: torch.Tensor
) -> None:
    fast = open_inpainter(InpainterSettings(model="mini://models/inpainting", device="cpu"))
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert fast.unet.dtype == (torch.bfloat16 if native else torch.float32)
    assert fast.vae.dtype == fast.dtype == torch.float32
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    found = []
    for one in (inpainter, fast):
        canvas = one.canvas(images, torch.ones(2, 1, 64, 64))
        prompts = Prompts.stack([one.encode_prompt("A photo of a moon.")] * 2)
        walk = Pass(canvas.latents, noise, canvas, prompts, 8, 0.6, 2.0, one.scheduler("dpm++"))
        found.append(one.denoise(walk))
    assert found[1].dtype == torch.float32
    assert (found[0] - found[1]).square().mean() < 0.01 * found[0].square().mean()


def test_large_images_are_decoded_with_checkpoints_and_the_same_gradient() -> None:
    large = open_inpainter(InpainterSettings(model="mini://models/inpainting", resolution=512, dtype="float32"))
    latents = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(4))
    weight = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(5))
    assert large.vae.is_gradient_checkpointing
    with_checkpoints = large.decode_with_vjp(latents)[1](weight)
    large.vae.disable_gradient_checkpointing()
    assert torch.allclose(with_checkpoints, large.decode_with_vjp(latents)[1](weight), atol=1e-4)
