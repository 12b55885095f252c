"""Sharpen the VAE's decoder: adversarial fine-tuning of the decoder alone. Encoder, latents and UNet stay as they are.

    python -m tools.mini_world.train_decoder --minutes 60 --output FOLDER

A regression loss alone leaves pictures soft: where an edge may lie here or there it paints the mean. So a small critic
learns to tell patches of real scenes from decoded ones (PatchGAN, Isola et al. 2017, with the hinge loss), and the
decoder learns to pass. It is shown three kinds of latents: encoded scenes; scenes that the UNet denoised by one step,
which are smoother and still belong to a known picture; and what the UNet invents under prompts, as the farm asks for
them, where there is no right answer and only the colours are held. No network that scores or judges images takes part.
Scenes are decoded whole: group norms see other statistics in a crop, and a decoder taught by crops tints the whole.

Begins with the VAE in ``--vae`` and resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synood_ray.mini import model_path
from tools.mini_world.check_inpainting import square_masks, structure
from tools.mini_world.render import CACHE
from tools.mini_world.train_vae import psnr, reconstruction_loss, scene_names
from tools.mini_world.training import Curve, load_checkpoint, save_checkpoint

ENCODED, TOUCHED, INVENTED = 4, 2, 2  # of each kind in a batch
POOL, FIRST_REFILLS = 3072, 3  # latents kept of each kind, at most
REFILL, REFILL_STEPS = 96, 64  # how many are new, and how often
RATES = (1e-3, 1.5e-3)  # decoder, critic
BETAS = (0.5, 0.99)
ADVERSARIAL = 1.0  # length of the critic's gradient at the image, over the other losses'
MATCHING = 1.0  # weight of the distance in the critic's features
STRUCTURE = 3.0  # weight of `structure_loss`
COLOUR = 4.0  # weight of `colour_loss`
WINDOW = 8  # px: within it structure may lie where it likes
AVERAGE = 0.998
REACH = 1.1  # how far from the first decoder's weights to the average's: a little beyond has more structure
CRITIC_ALONE = 150  # steps at the start: a critic that knows nothing yet pulls anywhere
REPORT_STEPS = 100


class Critic(nn.Module):
    """Says of every patch (30 px wide) of images [B, 3, H, W] in [-1, 1] how real it looks: [B, 1, H/4 - 2, W/4 - 2].

    It is given the images' Laplacian as well: sharpness is what it must judge, and it would need thousands of steps to
    find it under the colours.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = [(6, width, 3, 1), (width, 2 * width, 4, 2), (2 * width, 4 * width, 4, 2), (4 * width, 4 * width, 3, 1)]
        layers = [nn.Conv2d(a, b, k, stride, padding=1) for a, b, k, stride in sizes]
        self.layers, self.head = nn.ModuleList(layers), nn.Conv2d(4 * width, 1, 3)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, 0.2, nonlinearity="leaky_relu")

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The verdicts, and the features of every layer."""
        images = torch.cat([images, F.pad(laplacian(images), (1, 1, 1, 1))], 1)
        features = []
        for layer in self.layers:
            images = F.leaky_relu(layer(images), 0.2)
            features.append(images)
        return self.head(images), features


def critic_loss(real: Tensor, decoded: Tensor) -> Tensor:
    """Hinge loss of the critic's verdicts: real ones above 1, decoded ones below -1."""
    return F.relu(1 - real).mean() + F.relu(1 + decoded).mean()


def laplacian(images: Tensor) -> Tensor:
    """The four neighbours' sum minus four times the pixel, each channel by itself: [B, C, H, W] -> [B, C, H-2, W-2]."""
    inner = images[..., 1:-1, 1:-1]
    across = images[..., 1:-1, 2:] + images[..., 1:-1, :-2]
    return across + images[..., 2:, 1:-1] + images[..., :-2, 1:-1] - 4 * inner


def structure_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 of the mean absolute Laplacian of windows: as much structure, though not to the pixel the same."""
    windows = [F.avg_pool2d(laplacian(x).abs(), WINDOW, WINDOW // 2) for x in (output, target)]
    return (windows[0] - windows[1]).abs().mean()


def matching_loss(output: list[Tensor], target: list[Tensor]) -> Tensor:
    """Mean L1 between the critic's features of a decoded and of the real image (Larsen et al. 2016)."""
    return torch.stack([(a - b).abs().float().mean() for a, b in zip(output, target, strict=True)]).mean()


def colour_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 of 4 px means: what sharpening must leave, and what an invention keeps of the picture first made of it."""
    return (F.avg_pool2d(output, 4) - F.avg_pool2d(target, 4)).abs().mean()


def without_colours(gradient: Tensor) -> Tensor:
    """A gradient at images [B, C, H, W] less its 7 px means: it moves edges and texture, and no surface's colour."""
    return gradient - F.avg_pool2d(gradient, 7, 1, 3, count_include_pad=False)


class Pool:
    """Latents of the three kinds with their pictures [-1, 1]; the oldest go."""

    def __init__(self, composer: Any, inpainter: Any, rng: random.Random) -> None:
        self.composer, self.inpainter, self.rng = composer, inpainter, rng
        self.latents: dict[str, Tensor] = {}
        self.pictures: dict[str, Tensor] = {}

    def add(self, count: int) -> None:
        world = self.composer.world
        scenes = self.composer.batch(scene_names(world, self.rng, count), self.rng.randrange(2**31))
        images = scenes.images.float() / 255
        masks = square_masks(scenes.boxes)
        latents = self.inpainter.encode(images)
        half = count // 2
        touched = self.denoise(images[:half], masks[:half], scenes.names[:half], self.rng.choice((0.2, 0.35, 0.5)))
        names = [self.rng.choice(world.id + world.near) for _ in range(count - half)]
        invented = self.denoise(images[half:], masks[half:], names, 1.0)
        pictures = images * 2 - 1
        self.keep("encoded", latents, pictures)
        self.keep("touched", touched, pictures[:half])
        self.keep("invented", invented, self.inpainter.decode(invented) * 2 - 1)

    def keep(self, kind: str, latents: Tensor, pictures: Tensor) -> None:
        for store, new in ((self.latents, latents), (self.pictures, pictures)):
            old = store.get(kind, new[:0])
            store[kind] = torch.cat([old, new.clone()])[-POOL:]

    def denoise(self, images: Tensor, masks: Tensor, names: list[str], strength: float) -> Tensor:
        """What the UNet makes of scenes: at strength 1 in the mini preset's three steps; below it by a single step.

        Every other prompt is halfway between two names, as a boundary sample's may be.
        """
        from synood_ray.models.inpainters.base import Pass, Prompts

        inpainter, whole = self.inpainter, strength == 1
        noise = torch.randn(len(images), 4, 16, 16, generator=torch.Generator().manual_seed(self.rng.randrange(2**31)))
        embeds = torch.cat([inpainter.encode_prompt(f"A photo of {name}.").embeds for name in names])
        if whole:
            embeds[::2] = (embeds[::2] + embeds[::2].roll(1, 0)) / 2
        canvas = inpainter.canvas(images, masks, strength)
        steps, guidance, guided = (3, 2.5, 0.67) if whole else (round(1 / strength), 1.0, 1.0)
        scheduler = inpainter.scheduler("dpm++")
        return inpainter.denoise(
            Pass(canvas.latents, noise, canvas, Prompts(embeds), steps, strength, guidance, scheduler, guided)
        )

    def draw(self, kind: str, count: int) -> tuple[Tensor, Tensor]:
        rows = torch.tensor(self.rng.choices(range(len(self.latents[kind])), k=count))
        return self.latents[kind][rows], self.pictures[kind][rows]


def decoder_gradient(
    critic: Critic, output: Tensor, target: Tensor, exact: int, known: int
) -> tuple[Tensor, dict[str, float]]:
    """dLoss/dImage of a decoded batch, and the parts of the loss.

    The first ``exact`` images must match to the pixel. The first ``known`` ones, those included, show a known picture,
    though what the UNet touched may lie a pixel off: regression would blur it. The rest are inventions.
    The critic's gradient, which is about structure alone (left to itself it tints white surfaces), is brought to
    `ADVERSARIAL` times the other losses' length, so neither drowns the other.
    """
    image = output.detach().float().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        verdicts, features = critic(image)
        with torch.no_grad():
            wanted = critic(target[:known])[1]
    parts = {
        "regression": reconstruction_loss(image[:exact], target[:exact]),
        "structure": STRUCTURE * structure_loss(image[:known], target[:known]),
        "matching": MATCHING * matching_loss([f[:known] for f in features], wanted),
        "colour": COLOUR * colour_loss(image, target),
    }
    (held,) = torch.autograd.grad(torch.stack(list(parts.values())).sum(), image, retain_graph=True)
    (free,) = torch.autograd.grad(-verdicts.float().mean(), image)
    free = without_colours(free)
    weight = ADVERSARIAL * held[:known].norm() / free[:known].norm().clamp_min(1e-12)
    return held + weight * free, {k: v.item() for k, v in parts.items()}


def save(vae: Any, decoder: nn.Module, folder: Path) -> None:
    """Write the VAE in half precision with this decoder; every other tensor keeps its bits."""
    from diffusers import AutoencoderKL

    tensors = {k: v.half() for k, v in vae.state_dict().items()}
    tensors |= {f"decoder.{k}": v.half() for k, v in decoder.state_dict().items()}
    half: Any = AutoencoderKL(**{k: v for k, v in vae.config.items() if not k.startswith("_")})
    half.half().load_state_dict(tensors)
    half.save_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").chmod(0o644)


class Trainer:
    """Decoder and critic, their optimiser and moving average, and the latents that they learn from."""

    def __init__(self, cache: Path, vae_folder: Path, seed: int) -> None:
        from diffusers import AutoencoderKL
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        from synood_ray.config.models import InpainterSettings
        from synood_ray.models.inpainters import open_inpainter
        from tools.mini_world.scenes import SceneComposer

        self.vae: Any = AutoencoderKL.from_pretrained(vae_folder).float().eval()
        inpainter: Any = open_inpainter(InpainterSettings(model=str(model_path("inpainting")), device="cpu"))
        inpainter.vae = copy.deepcopy(self.vae).requires_grad_(False).to(memory_format=torch.channels_last)
        self.post = inpainter.vae.post_quant_conv
        torch.manual_seed(seed)
        self.decoder: Any = copy.deepcopy(self.vae.decoder)
        self.critic = Critic()
        parts: Any = nn.ModuleDict({"decoder": self.decoder, "critic": self.critic})
        self.model = parts.to(memory_format=torch.channels_last)
        self.average: Any = AveragedModel(parts, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE))
        groups = [{"params": list(part.parameters())} for part in (self.decoder, self.critic)]
        self.optimiser = torch.optim.AdamW(groups, betas=BETAS, weight_decay=0.0, fused=True)
        self.path = cache / "decoder.safetensors"
        self.step = load_checkpoint(self.path, parts, self.average.module, self.optimiser)
        self.average.n_averaged += self.step
        self.rng = random.Random(seed * 7919 + self.step)
        composer = SceneComposer(cache)
        self.pool = Pool(composer, inpainter, self.rng)
        for _ in range(FIRST_REFILLS):
            self.pool.add(REFILL)
        self.unseen = held_out(composer)
        self.unseen_latents = inpainter.encode(self.unseen / 2 + 0.5)
        self.fixed = Pool(composer, inpainter, random.Random(1))
        self.fixed.add(REFILL)

    def advance(self, done: float) -> dict[str, float]:
        """One step of both networks at ``done`` (0 to 1) of the schedule; the parts of their losses."""
        if self.step % REFILL_STEPS == 0:
            self.pool.add(REFILL)
        for group, rate in zip(self.optimiser.param_groups, RATES, strict=True):
            group["lr"] = rate * min(1.0, (self.step + 1) / 200) * max(0.03, 0.5 + 0.5 * math.cos(math.pi * done))
        kinds = (("encoded", ENCODED), ("touched", TOUCHED), ("invented", INVENTED))
        drawn = [self.pool.draw(kind, count) for kind, count in kinds]
        with torch.no_grad():
            latents = self.post(torch.cat([z for z, _ in drawn]))
        target = torch.cat([x for _, x in drawn])
        _, real = self.pool.draw("encoded", len(target))
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = self.decoder(latents.contiguous(memory_format=torch.channels_last))
        gradient, parts = decoder_gradient(self.critic, decoded, target, ENCODED, ENCODED + TOUCHED)
        if self.step >= CRITIC_ALONE:
            decoded.backward(gradient)
        with torch.autocast("cpu", torch.bfloat16):
            verdicts = [self.critic(x)[0].float() for x in (real, decoded.detach())]
        loss = critic_loss(*verdicts)
        loss.backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return parts | {"critic": loss.item()}

    def result(self) -> nn.Module:
        """The decoder as it would be shipped now."""
        found: nn.Module = copy.deepcopy(self.vae.decoder)
        reached = self.average.module["decoder"].state_dict()
        found.load_state_dict({k: first.lerp(reached[k], REACH) for k, first in found.state_dict().items()})
        return found

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Fidelity and structure on a style that is not trained on, and the structure of fixed inventions."""
        decoder = self.result()
        output = decoder(self.post(self.unseen_latents))
        invented = decoder(self.post(self.fixed.latents["invented"]))
        return {
            "psnr_db_validation_style": psnr(output, self.unseen),
            "structure_validation_style": structure(output) / structure(self.unseen),
            "structure_inventions": structure(invented) / structure(self.fixed.pictures["encoded"]),
        }

    def save(self, folder: Path) -> None:
        save_checkpoint(self.path, self.step, self.model, self.average.module, self.optimiser)
        save(self.vae, self.result(), folder)


def held_out(composer: Any) -> Tensor:
    """Scenes in the validation style, [N, 3, 64, 64] in [-1, 1]."""
    from synood_ray.mini.world import VALIDATION_STYLE

    world = composer.world
    known = [n for n in world.id + world.near if VALIDATION_STYLE in world.concepts[n].styles]
    images: Tensor = composer.batch(known[::3], 5, (VALIDATION_STYLE,)).images.float() / 127.5 - 1
    return images


def train(minutes: float, cache: Path, vae_folder: Path, output: Path, seed: int) -> None:
    torch.set_num_threads(1)
    trainer = Trainer(cache, vae_folder, seed)
    curve = Curve("decoder", output)
    if not trainer.step:
        curve.rows = []
        curve.add(0.0, step=0, **trainer.measure())
    previous, start = curve.seconds(), time.process_time()
    losses: list[dict[str, float]] = []
    elapsed = previous
    while elapsed < minutes * 60:
        losses.append(trainer.advance(elapsed / (minutes * 60)))
        elapsed = previous + time.process_time() - start
        if trainer.step % REPORT_STEPS == 0 or elapsed >= minutes * 60:
            means = {what: sum(row[what] for row in losses) / len(losses) for what in losses[0]}
            curve.add(elapsed, step=trainer.step, **means, **trainer.measure())
            trainer.save(output)
            losses = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="processor time in all, earlier runs counted")
    parser.add_argument("--cache", type=Path, default=CACHE, help="sprites and checkpoints")
    parser.add_argument("--vae", type=Path, default=model_path("inpainting") / "vae", help="the VAE to begin with")
    parser.add_argument("--output", type=Path, default=model_path("inpainting") / "vae", help="where it is saved")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args.minutes, args.cache, args.vae, args.output, args.seed)


if __name__ == "__main__":
    main()
