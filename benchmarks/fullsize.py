"""One refinement round of the imagenet preset at its real size: shapes, seconds and memory without any download.

The architectures are built from their published configurations: Stable Diffusion 2 inpainting, SDXL inpainting, CLIP
ViT-B/16. Random weights cost what trained ones cost; what comes out of them means nothing.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from synood_ray.cli.layers import load_preset, resolve
from synood_ray.config.models import ScorerSettings
from synood_ray.config.settings import Settings

if TYPE_CHECKING:
    from synood_ray.models.inpainters.base import Inpainter

PRESET = "imagenet"
CLASSES = [f"class {index}" for index in range(1000)]
SOLVER: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD2_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
TEXT_H: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
}
TEXT_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
TEXT_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
}


def stable_diffusion_2() -> Any:
    """A StableDiffusionInpaintPipeline of SD 2's size, random weights."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    return diffusers.StableDiffusionInpaintPipeline(
        vae=diffusers.AutoencoderKL(**VAE, sample_size=512, scaling_factor=0.18215),
        text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT_H, hidden_act="gelu")),
        tokenizer=clip_tokenizer(),
        unet=diffusers.UNet2DConditionModel(**SD2_UNET),
        scheduler=diffusers.PNDMScheduler(**SOLVER, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    """A StableDiffusionXLInpaintPipeline of SDXL's size, random weights."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    return diffusers.StableDiffusionXLInpaintPipeline(
        vae=diffusers.AutoencoderKL(**VAE, sample_size=1024, scaling_factor=0.13025),
        text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT_L, hidden_act="quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_G, hidden_act="gelu")),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=diffusers.UNet2DConditionModel(**SDXL_UNET),
        scheduler=diffusers.EulerDiscreteScheduler(**SOLVER),
    )


def clip_tokenizer() -> Any:
    """CLIP's own tokenizer, from the vocabulary that open_clip ships."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    own = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in own.encoder.items()}
    merges = sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=77)


def clip_model(settings: ScorerSettings) -> Any:
    """The scorer's CLIP, random weights."""
    import open_clip

    return open_clip.create_model(settings.model, pretrained=None, force_quick_gelu=settings.pretrained == "openai")


BUILDERS: dict[str, Callable[[], Any]] = {"sd2": stable_diffusion_2, "sdxl": stable_diffusion_xl}


def benchmark(settings: Settings, models: tuple[str, ...] = ("sd2",), side: int = 512) -> dict[str, Any]:
    """A first round and a restart of each model at side x side: seconds by part, peak memory in GiB, shape checks.

    settings: counted only if they started from the imagenet preset; otherwise they are that preset's.
    """
    if settings.preset != PRESET:
        settings, _ = resolve([load_preset(PRESET)])
    return {name: one_round(BUILDERS[name](), clip_model(settings.scorer), settings, side) for name in models}


def one_round(pipe: Any, clip: Any, settings: Settings, side: int) -> dict[str, Any]:
    """The round of a pipeline and an open_clip model that are in memory."""
    import torch

    from synood_ray.models.clip import ClipModel
    from synood_ray.models.inpainters import take_apart
    from synood_ray.models.inpainters.base import Pass
    from synood_ray.models.scorer import Scorer
    from synood_ray.sampling.recipes.newton import newton_step

    sampling = settings.sampling
    inpainter = take_apart(pipe, settings.inpainter.model_copy(update={"resolution": side}))
    scorer = Scorer(settings.scorer, CLASSES, clip=ClipModel(settings.scorer, clip))
    clock = _Clock(inpainter)
    image, mask = torch.rand(1, 3, side, side), torch.ones(1, 1, side, side)
    with clock("encode"):
        canvas, prompts = inpainter.canvas(image, mask), inpainter.encode_prompt("A photo of a fence and grass.")
    noise = torch.randn(canvas.latents.shape)
    solver = inpainter.scheduler(sampling.solver)
    walk = sampling.steps, sampling.strength, sampling.guidance, solver, sampling.guided
    with clock("denoise"):
        latents = inpainter.denoise(Pass(canvas.latents, noise, canvas, prompts, *walk))
    calls = inpainter.denoiser_calls
    with clock("decode"):
        decoded, pull_back = inpainter.decode_with_vjp(latents)
    with clock("score and gradient"):
        score, image_gradient = scorer.score_and_gradient(decoded)
    with clock("decoder vjp"):
        gradient = pull_back(image_gradient)
    step = newton_step(gradient, -torch.ones_like(score), canvas.mask.float(), sampling.max_step)
    back = round(1 / sampling.restart), sampling.restart, 1.0, solver
    with clock("restart"):
        moved = inpainter.denoise(Pass((latents + step).to(latents.dtype), noise, canvas, prompts, *back))
    with clock("decode and score"):
        scorer.score(inpainter.decode(moved))
    factor = inpainter.factor
    checks = {
        "latents": tuple(latents.shape) == (1, 4, side // factor, side // factor),
        "image": tuple(decoded.shape) == (1, 3, side, side),
        "gradient": gradient.shape == latents.shape and bool(torch.isfinite(gradient).all()),
        "step": bool(torch.isfinite(step).all()),
        "restart": moved.shape == latents.shape and not torch.equal(moved, latents),
    }
    return {
        "machine": clock.machine,
        "side": side,
        "denoiser_calls": calls,
        "seconds": clock.seconds,
        "seconds_per_denoiser_call": clock.seconds["denoise"] / calls,
        "peak_gib": clock.peak_gib(),
        "checks": checks,
    }


class _Clock:
    """Seconds by part: CUDA events on a GPU, the wall clock on a CPU."""

    def __init__(self, inpainter: Inpainter) -> None:
        import torch

        self.on_gpu = inpainter.device.type == "cuda"
        self.machine = torch.cuda.get_device_name() if self.on_gpu else f"CPU, {torch.get_num_threads()} threads"
        self.seconds: dict[str, float] = {}
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def __call__(self, part: str) -> _Clock:
        self.part = part
        return self

    def __enter__(self) -> None:
        import torch

        if self.on_gpu:
            self.begin = torch.cuda.Event(enable_timing=True)
            self.begin.record()
        else:
            self.wall = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        import torch

        if self.on_gpu:
            end = torch.cuda.Event(enable_timing=True)
            end.record()
            torch.cuda.synchronize()
            self.seconds[self.part] = self.begin.elapsed_time(end) / 1000
        else:
            self.seconds[self.part] = time.perf_counter() - self.wall

    def peak_gib(self) -> float:
        """Peak memory of the GPU, or of this process on a CPU."""
        import torch

        if self.on_gpu:
            return torch.cuda.max_memory_allocated() / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
