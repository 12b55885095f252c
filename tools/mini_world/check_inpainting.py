"""The check's rows for the VAE and the inpainting pipeline: fidelity, sharpness, recognition, diversity, seams, size,
speed.
"""

from typing import Any

from synood_ray.mini import model_path
from tools.mini_world.check import Images, Row, at_least, at_most, megabytes, read_images

STEPS, GUIDANCE = 12, 3.0
BATCH = 56
PADDING = 2  # px around the subject's square


def load_pipeline() -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    pipeline = StableDiffusionInpaintPipeline.from_pretrained(model_path("inpainting"), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def square_masks(boxes: Any) -> Any:
    """Masks float32 [N, 1, 64, 64] of the padded squares around boxes [N, 4]: their shape tells nothing."""
    import torch

    masks = torch.zeros(len(boxes), 1, 64, 64)
    for row, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        side = max(x1 - x0, y1 - y0) + 2 * PADDING
        left, top = max(0, (x0 + x1 - side) // 2), max(0, (y0 + y1 - side) // 2)
        masks[row, :, top : top + side, left : left + side] = 1
    return masks


def inpaint(pipeline: Any, images: Any, masks: Any, prompts: list[str], seed: int = 0) -> Any:
    """Images uint8 [N, 3, 64, 64] with the masked part drawn anew, as the pipeline (and the farm) leaves them."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    outputs = []
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        output = pipeline(
            prompt=prompts[part],
            image=images[part].float() / 255,
            mask_image=masks[part],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            height=64,
            width=64,
            generator=generator,
            output_type="pt",
        ).images
        outputs.append((output * 255).round().to(torch.uint8))
    return torch.cat(outputs)


def round_trip(images: Any, vae: Any) -> Any:
    """uint8 images [N, 3, H, W] encoded and decoded: uint8 of the same shape."""
    import torch

    with torch.inference_mode():
        parts = (vae.decode(vae.encode(part.float() / 127.5 - 1).latent_dist.mean).sample for part in images.split(64))
        return torch.cat([((part.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for part in parts])


def psnr(images: Any, vae: Any) -> float:
    """Mean peak signal-to-noise ratio in dB of the VAE's round trip of uint8 images."""
    error = (images.float() - round_trip(images, vae).float()) / 255
    return float((-10 * error.square().mean((1, 2, 3)).log10()).mean())


def structure(images: Any) -> float:
    """Mean absolute Laplacian in the central half of images [N, 3, H, W], uint8 or float, in the images' own units.

    Four neighbours minus four times the pixel, each channel by itself: how much edge and texture there is.
    """
    x = images.float()
    inner = x[..., 1:-1, 1:-1]
    around = x[..., 2:, 1:-1] + x[..., :-2, 1:-1] + x[..., 1:-1, 2:] + x[..., 1:-1, :-2]
    height, width = x.shape[-2:]
    centre = (around - 4 * inner)[..., height // 4 - 1 : -(height // 4) + 1, width // 4 - 1 : -(width // 4) + 1]
    return float(centre.abs().mean())


def seam(images: Any, masks: Any) -> float:
    """Mean absolute step across the masks' edges (levels of 255), over the mean step one pixel inside and outside."""
    import torch

    x = images.float().mean(1)
    steps = {0: [], 1: []}  # type: dict[int, list[Any]]
    for dim in (1, 2):
        edge = masks[:, 0].diff(dim=dim) != 0
        step = x.diff(dim=dim).abs()
        near = torch.zeros_like(edge)
        for shift in (-1, 1):
            near |= edge.roll(shift, dim)
        steps[0].append(step[edge])
        steps[1].append(step[near & ~edge])
    across, beside = (torch.cat(steps[k]).mean() for k in (0, 1))
    return float(across / beside)


def diversity(pipeline: Any, data: Images, encode: Any) -> float:
    """Mean pairwise CLIP distance of 16 draws of a prompt over that of 16 real scenes of the name; mean of 16 names."""
    import torch
    from torch.nn import functional as F

    names = list(dict.fromkeys(data.names))[::7][:16]
    ratios = []
    everything = torch.cat([data.images, read_images("id_val").images, read_images("id_test").images])
    subjects = [*data.names, *read_images("id_val").names, *read_images("id_test").names]
    drawn_rows, prompts = [], []
    for place, name in enumerate(names):
        drawn_rows += [(place * 71 + 37 * i) % len(data.names) for i in range(16)]
        prompts += [f"A photo of {name}."] * 16
    rows = torch.tensor(drawn_rows)
    drawn = inpaint(pipeline, data.images[rows], square_masks(data.boxes[rows]), prompts, seed=1)
    for place, name in enumerate(names):
        real = everything[[i for i, s in enumerate(subjects) if s == name][:16]]

        def distance(images: Any) -> float:
            unit = F.normalize(encode(images), dim=-1)
            return float((1 - unit @ unit.T).sum() / (len(unit) * (len(unit) - 1)))

        ratios.append(distance(drawn[place * 16 : place * 16 + 16]) / distance(real))
    return sum(ratios) / len(ratios)


def load_referee() -> tuple[Any, list[str]]:
    """The classifier that says what an inpainting shows, and its names: ID, then near."""
    from synood_ray.config.models import ScorerSettings
    from synood_ray.mini.world import load_world
    from synood_ray.models.classifier import TIMM, TimmClassifier

    names = [*load_world().id, *load_world().near]
    return TimmClassifier(ScorerSettings(model=f"{TIMM}{model_path('referee')}"), names), names


def top(referee: Any, images: Any) -> Any:
    """The five names that the referee holds for most likely: images uint8 [N, 3, 64, 64] -> indices [N, 5]."""
    import torch

    with torch.inference_mode():
        logits = [referee.look(part.float() / 255).id_logits for part in images.split(128)]
    return torch.cat(logits).topk(5, dim=1).indices


def drawn_names(pipeline: Any, data: Images, names: list[str], per_name: int = 2) -> tuple[Any, Any, Any]:
    """Every name drawn over other subjects: images uint8 [N, 3, 64, 64], their masks, and the names' indices [N]."""
    import torch

    wanted = torch.arange(len(names)).repeat(per_name)
    order = torch.randperm(len(wanted), generator=torch.Generator().manual_seed(0))
    rows = torch.arange(len(wanted)) % len(data.images)
    wanted = wanted[order]
    masks = square_masks(data.boxes[rows])
    prompts = [f"A photo of {names[i]}." for i in wanted.tolist()]
    return inpaint(pipeline, data.images[rows], masks, prompts), masks, wanted


def rows() -> list[Row]:
    import torch

    from tools.mini_world.check_clip import _seconds, load_bench

    pipeline, (referee, names), bench = load_pipeline(), load_referee(), load_bench()
    test, train = read_images("id_test"), read_images("id_train")
    unseen = torch.cat([read_images("id_unseen").images, read_images("near_unseen").images])
    drawn, masks, wanted = drawn_names(pipeline, test, names)
    pictures = drawn, test.images, round_trip(test.images, pipeline.vae)
    shown, real, passed = (top(referee, images) for images in pictures)
    latents, states = torch.randn(32, 9, 16, 16), torch.randn(32, 32, 128)
    times = torch.full((32,), 500)

    def step() -> None:
        with torch.no_grad():
            pipeline.unet(latents, times, states)

    return [
        at_least("VAE: PSNR on unseen styles, dB", psnr(unseen, pipeline.vae), 24),
        at_least(
            "VAE: structure after the round trip, over before", structure(pictures[2]) / structure(pictures[1]), 0.85
        ),
        at_least("structure of inpaintings, over real scenes", structure(drawn) / structure(test.images), 0.8),
        at_least("prompted subject, top-1 of 224", _share(shown, wanted, 1), 0.85),
        at_least("prompted subject, top-5 of 224", _share(shown, wanted, 5), 0.96),
        Row("  the same referee on real scenes, top-1", _share(real, test.labels, 1), "", None),
        Row("  the same referee on real scenes, top-5", _share(real, test.labels, 5), "", None),
        Row("  the same referee on real scenes through the VAE, top-1", _share(passed, test.labels, 1), "", None),
        at_least("diversity against real scenes", diversity(pipeline, train, bench.encode), 0.6),
        Row("step across the mask's edge, over beside it", round(seam(drawn, masks), 3), "1 = no seam", None),
        at_most("VAE + UNet + text encoder, MB", megabytes(model_path("inpainting")), 20),
        at_most("denoising step, batch 16 with guidance, s", _seconds(step), 0.25),
    ]


def _share(top: Any, labels: Any, count: int) -> float:
    return round(float((top[:, :count] == labels[:, None]).any(1).float().mean()), 4)
