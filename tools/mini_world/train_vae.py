"""Train the small AutoencoderKL (64x64 pixels to 16x16x4 latents) on scenes in the training styles.

    python -m tools.mini_world.train_vae --minutes 25

Most steps see 32x32 crops (four times cheaper); whole scenes come every fifth step. Resumes from its checkpoint.
"""

import argparse
import random
import time
from pathlib import Path
from typing import Any

from synood_ray.mini import model_path
from tools.mini_world.render import CACHE
from tools.mini_world.training import Curve, load_checkpoint, save_checkpoint

CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 48],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
    "mid_block_add_attention": False,
    "scaling_factor": 1.0,
}
KL_WEIGHT = 1e-3  # per latent element: keeps the latents near unit scale without blurring
EDGE_WEIGHT = 1.0


def scene_names(world: Any, rng: random.Random, count: int) -> list[str]:
    """Subjects for a training batch: three of four from ID and near classes, the rest from all concepts."""
    classes, everything = world.id + world.near, list(world.concepts)
    return [rng.choice(classes if rng.random() < 0.75 else everything) for _ in range(count)]


def reconstruction_loss(output: Any, target: Any) -> Any:
    """L1 + squared error + L1 of horizontal and vertical differences (edges); images in [-1, 1]."""
    loss = (output - target).abs().mean() + (output - target).square().mean()
    for dim in (2, 3):
        loss = loss + EDGE_WEIGHT * (output.diff(dim=dim) - target.diff(dim=dim)).abs().mean()
    return loss


def psnr(output: Any, target: Any) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1]: the mean over images."""
    error = ((output.clamp(-1, 1) - target) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def train(minutes: float, cache: Path, seed: int) -> None:
    import torch
    from diffusers import AutoencoderKL
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from synood_ray.mini.world import VALIDATION_STYLE
    from tools.mini_world.scenes import SceneComposer

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    composer = SceneComposer(cache)
    vae: Any = AutoencoderKL(**CONFIG)
    average: Any = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-4, fused=True)
    curve = Curve("vae")
    path = cache / "vae.safetensors"
    step = load_checkpoint(path, vae, average.module, optimiser)
    if step:
        average.n_averaged += step
    known = [
        n for n in composer.world.id + composer.world.near if VALIDATION_STYLE in composer.world.concepts[n].styles
    ]
    held_out = composer.batch(known[::3], 5, (VALIDATION_STYLE,)).images.float() / 127.5 - 1
    start, previous = time.monotonic(), curve.seconds()
    pool = torch.empty(0)
    rng = random.Random(seed * 7919 + step)
    while (elapsed := previous + time.monotonic() - start) < minutes * 60:
        if step % 100 == 0 or not len(pool):  # a pool of scenes is used for several crops each
            batch = composer.batch(scene_names(composer.world, rng, 256), rng.randrange(2**31))
            pool = batch.images.float() / 127.5 - 1
        for group in optimiser.param_groups:
            left = 1 - elapsed / (minutes * 60)
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * max(0.02, min(1.0, left * 1.7))
        rows = torch.tensor(rng.sample(range(len(pool)), 16 if step % 5 == 0 else 24))
        images = pool[rows]
        if step % 5:
            y, x = rng.randrange(33), rng.randrange(33)
            images = images[:, :, y : y + 32, x : x + 32]
        posterior = vae.encode(images).latent_dist
        loss = reconstruction_loss(vae.decode(posterior.sample()).sample, images)
        loss = loss + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(vae)
        step += 1
        if step % 500 == 0:
            with torch.no_grad():
                model = average.module.eval()
                latents = model.encode(held_out).latent_dist.mean
                value = psnr(model.decode(latents).sample, held_out)
            curve.add(elapsed, step=step, psnr_db_validation_style=value, latent_std=float(latents.std()))
            save_checkpoint(path, step, vae, average.module, optimiser)
    save_checkpoint(path, step, vae, average.module, optimiser)
    final = average.module.eval()
    standardise(final, composer)
    final.half().save_pretrained(model_path("inpainting") / "vae")
    (model_path("inpainting") / "vae" / "diffusion_pytorch_model.safetensors").chmod(0o644)


def standardise(vae: Any, composer: Any) -> None:
    """Fold a shift and scale per latent channel into the 1x1 convolutions, so that latents have mean 0 and std 1.

    ``StableDiffusionInpaintPipeline`` knows one scaling factor only; folded in, it can stay 1.
    """
    import torch

    world = composer.world
    scenes = composer.batch((world.id + world.near) * 2, 17).images.float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(scenes).latent_dist.mean
        mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        channels = len(mean)
        encode, decode = vae.quant_conv, vae.post_quant_conv
        encode.weight[:channels] /= std[:, None, None, None]
        encode.bias[:channels] = (encode.bias[:channels] - mean) / std
        encode.bias[channels:] -= 2 * std.log()  # the posterior's log variance
        decode.bias += decode.weight[:, :, 0, 0] @ mean
        decode.weight *= std[None, :, None, None]
    print(f"latent mean {mean.tolist()}, std {std.tolist()} folded in", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25, help="training time in all, earlier runs counted")
    parser.add_argument("--cache", type=Path, default=CACHE, help="sprites and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args.minutes, args.cache, args.seed)


if __name__ == "__main__":
    main()
