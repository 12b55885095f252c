"""Fine-tune the CLIP's image tower on drawings: `python -m tools.mini_world.train_tower` (16 minutes on one thread).

The ImageNet tower reads small drawings badly, those of an unseen style above all. It learns the names of the concepts
that are neither ID nor near: what it must not do is learn these by heart, or nothing would be left to confuse. And no
style stays as it is: colours, outlines and shapes are disturbed, and scenes exchange the statistics of their early
features (Zhou et al., "Domain Generalization with MixStyle", ICLR 2021).
Afterwards: `python -m tools.mini_world.train_clip --tower build/mini/tower.safetensors`.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from synood_ray.mini import model_path
from synood_ray.mini.world import TRAINING_STYLES, VALIDATION_STYLE, World
from tools.mini_world.render import CACHE
from tools.mini_world.scenes import SceneComposer
from tools.mini_world.train_clip import ARCHITECTURE, MEAN, STD, enlarged, read_tower
from tools.mini_world.training import Curve, load_checkpoint, save_checkpoint

BATCH = 64
RATE, HEAD_RATE = 5e-4, 2e-3
AVERAGE = 0.998  # decay of the weights' moving average, which is what is kept
DROPOUT, SMOOTHING = 0.2, 0.1
MIXED_BLOCKS = 3  # the stem and so many stages exchange statistics
FIRST_SEED = 5_000_000  # scenes' seeds begin here
REPORT_SECONDS = 150


class MixStyle(torch.nn.Module):
    """Gives the features [B, C, H, W] of most training batches a mean and spread between a sample's and another's."""

    share, concentration = 0.6, 0.3

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or torch.rand(()) > self.share:
            return x
        order = torch.randperm(len(x))
        part = torch.distributions.Beta(self.concentration, self.concentration).sample((len(x), 1, 1, 1))
        mean = x.mean((2, 3), keepdim=True).detach()
        spread = (x.var((2, 3), keepdim=True) + 1e-5).sqrt().detach()
        mixed_spread, mixed_mean = part * spread + (1 - part) * spread[order], part * mean + (1 - part) * mean[order]
        return (x - mean) / spread * mixed_spread + mixed_mean


def recoloured(x: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [0, 1] in other palettes, contrasts and outlines, each its own."""
    count = len(x)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1)

    def some(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1) < share

    change = 0.25 * torch.randn(count, 3, 3) * (torch.rand(count, 1, 1) < 0.7)
    blend = torch.eye(3) + change  # every channel a mix of all three
    x = torch.einsum("bij,bjhw->bihw", blend / blend.sum(2, keepdim=True).clamp_min(0.3), x)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * torch.where(some(0.1), torch.zeros(()), uniform(0.5, 1.6))
    x = (x * uniform(0.75, 1.25) + uniform(-0.1, 0.1)).clamp(0, 1) ** uniform(0.7, 1.4)
    levels = uniform(3, 9).floor()
    x = torch.where(some(0.2), (x * levels).round() / levels, x)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    centre = uniform(0.3, 1.4)  # below 1 softer, above 1 sharper
    x = torch.where(some(0.5), centre * x + (1 - centre) * soft, x)
    return torch.where(some(0.3), x + 0.05 * torch.randn_like(x), x).clamp(0, 1)


def reshaped(x: Tensor) -> Tensor:
    """Images [B, 3, S, S] turned, stretched, sheared, shifted and, half of them, mirrored."""
    count, side = len(x), x.shape[-1]

    def around(centre: float, spread: float) -> Tensor:
        return centre + spread * (2 * torch.rand(count) - 1)

    angle, width = around(0, 0.25), around(1, 0.2)
    height = width * around(1, 0.18)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    first = [angle.cos() * width * mirror, around(0, 0.15) - angle.sin() * height, around(0, 0.15)]
    second = [angle.sin() * width * mirror, angle.cos() * height, around(0, 0.15)]
    matrix = torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1)
    grid = F.affine_grid(matrix, [count, 3, side, side], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def normalised(x: Tensor) -> Tensor:
    """Images [B, 3, 96, 96] in [0, 1] as the tower takes them."""
    return ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)


class Discriminants:
    """ID top-1 of linear discriminants on a tower's features, learnt on training styles: how much the features tell."""

    learnt, asked = 12, 3  # scenes of a name

    def __init__(self, composer: SceneComposer) -> None:
        names = list(composer.world.id)
        drawn = [name for name in names if VALIDATION_STYLE in composer.world.concepts[name].styles]
        self.known = composer.batch(names * self.learnt, 779).images, names * self.learnt
        self.others = {
            "validation_style_top1": (
                composer.batch(drawn * self.asked, 777, (VALIDATION_STYLE,)).images,
                drawn * self.asked,
            ),
            "training_styles_top1": (composer.batch(names * self.asked, 778).images, names * self.asked),
        }

    @torch.no_grad()
    def __call__(self, tower: Any) -> dict[str, float]:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        tower.eval()

        def features(images: Tensor) -> Any:
            parts = (tower(normalised(enlarged(part.float() / 255))) for part in images.split(128))
            return torch.cat(list(parts)).numpy()

        images, names = self.known
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(features(images), names)
        return {key: float(model.score(features(x), y)) for key, (x, y) in self.others.items()}


def taught(world: World) -> list[str]:
    """The concepts that the tower learns: those drawn in a training style that are neither ID nor near."""
    drawn = [name for name, concept in world.concepts.items() if set(concept.styles) & set(TRAINING_STYLES)]
    return [name for name in drawn if name not in world.id and name not in world.near]


def train(minutes: float, cache: Path, start_from: Path, seed: int) -> dict[str, Tensor]:
    """Returns the averaged tower's tensors. Goes on from its checkpoint; the schedule follows the clock."""
    import copy

    import timm

    composer = SceneComposer(cache)
    concepts = taught(composer.world)
    tower: Any = timm.create_model(ARCHITECTURE, num_classes=0)
    tower.load_state_dict({name: value.float() for name, value in read_tower(start_from).items()}, strict=False)
    parts = {"tower": tower.to(memory_format=torch.channels_last)}
    model: Any = torch.nn.ModuleDict(parts | {"head": torch.nn.Linear(tower.num_features, len(concepts))})
    average = copy.deepcopy(model)
    mix = MixStyle()
    for stage in (tower.bn1, *tower.blocks[:MIXED_BLOCKS]):
        stage.register_forward_hook(lambda module, inputs, output: mix(output))
    groups = [{"params": model["tower"].parameters(), "lr": RATE}, {"params": model["head"].parameters()}]
    optimiser = torch.optim.AdamW(groups, lr=HEAD_RATE, weight_decay=0.02)
    curve, checkpoint = Curve("tower"), cache / "tower-checkpoint.safetensors"
    step = load_checkpoint(checkpoint, model, average, optimiser)
    before = curve.seconds() if step else 0.0
    curve.rows = curve.rows if step else []
    torch.manual_seed(seed * 1_000_003 + step)
    judge = Discriminants(composer)
    start = reported = time.monotonic()
    losses: list[float] = []

    def report(seconds: float) -> None:
        curve.add(seconds, step=step, loss=sum(losses) / max(len(losses), 1), **judge(average["tower"]))
        save_checkpoint(checkpoint, step, model, average, optimiser)
        losses.clear()

    while (done := (before + time.monotonic() - start) / (minutes * 60)) < 1:
        for group, rate in zip(optimiser.param_groups, (RATE, HEAD_RATE), strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))
        labels = torch.randint(len(concepts), (BATCH,))
        scenes = composer.batch([concepts[i] for i in labels.tolist()], FIRST_SEED + step, TRAINING_STYLES)
        inputs = normalised(reshaped(enlarged(recoloured(scenes.images.float() / 255))))
        model.train()
        logits = model["head"](F.dropout(model["tower"](inputs), DROPOUT))
        loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        with torch.no_grad():
            for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                decay = min(AVERAGE, step / (step + 10))
                kept.lerp_(new, 1 - decay) if kept.is_floating_point() else kept.copy_(new)
        losses.append(float(loss.detach()))
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            report(before + reported - start)
    report(minutes * 60)
    return {name: value.contiguous() for name, value in average["tower"].state_dict().items()}


def main() -> None:
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=16, help="training time in all, earlier runs counted")
    parser.add_argument("--cache", type=Path, default=CACHE, help="sprites, checkpoint, and where the tower is written")
    parser.add_argument(
        "--tower", type=Path, default=model_path("clip") / "open_clip_model.safetensors", help="what to begin with"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.cache / "tower.safetensors"
    save_file(train(args.minutes, args.cache, args.tower, args.seed), path)
    print(path)


if __name__ == "__main__":
    main()
