"""Train the small classifiers, apart from the CLIP: `python -m tools.mini_world.train_judge` (about 12 minutes).

The judge knows the ID names. It stands in for the paper's ResNet-50 scorer, and judges boundary samples that another
model's score has led there. The referee (``--referee``) knows ID and near names alike, each as often as any other,
and says what an inpainting shows: the CLIP cannot, it is kept ignorant of near classes on purpose.
The folder it writes is what `scorer.model: timm:FOLDER` reads: `model.safetensors` (half precision) and
`config.json`, as timm writes them for its hub.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from synood_ray.mini import model_path
from tools.mini_world.check import read_images
from tools.mini_world.mllm_data import disturb
from tools.mini_world.render import CACHE
from tools.mini_world.scenes import SIDE, SceneComposer
from tools.mini_world.training import Curve, load_checkpoint, save_checkpoint

# A ResNet of four single blocks, narrowed: 0.9 M parameters
ARCHITECTURE = "resnet10t"
ARCHITECTURE_ARGS: dict[str, Any] = {"channels": [32, 64, 128, 192], "stem_width": 16}
MEAN = [0.5, 0.5, 0.5]
STD = [0.25, 0.25, 0.25]
BATCH = 128
LR = 4e-3
AVERAGE = 0.995  # decay of the weights' moving average, which is what is saved


def build(classes: int) -> Any:
    import timm

    return timm.create_model(ARCHITECTURE, num_classes=classes, **ARCHITECTURE_ARGS)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """float [B, 3, 64, 64] in [0, 1] -> what the classifier takes."""
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@torch.no_grad()
def accuracy(model: Any, classes: list[str]) -> float:
    """Top-1 on the bundled ID test scenes (training styles, never trained on)."""
    test = read_images("id_test")
    target = torch.tensor([classes.index(name) for name in test.names])
    model.eval()
    logits = torch.cat([model(normalise(part.float() / 255)) for part in test.images.split(256)])
    return float((logits.argmax(1) == target).float().mean())


def train(name: str, minutes: float, seed: int, cache: Path) -> tuple[Any, list[str]]:
    """Returns the averaged model and its class names. Goes on from the checkpoint; the schedule follows the clock."""
    composer = SceneComposer(cache)
    classes = [*composer.world.id, *(composer.world.near if name == "referee" else ())]
    torch.manual_seed(seed)
    model = build(len(classes)).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05, fused=True)
    curve = Curve(name)
    checkpoint = cache / f"{name}.safetensors"
    step = load_checkpoint(checkpoint, model, average, optimiser)
    before = curve.seconds() if step else 0.0
    start = saved = time.monotonic()
    losses: list[float] = []
    while (done := (before + time.monotonic() - start) / (minutes * 60)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / 50) * max(1 - done, 0.01)
        rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
        labels = torch.randint(len(classes), (BATCH,), generator=rng)
        scenes = composer.batch([classes[i] for i in labels.tolist()], seed * 1_000_003 + step)
        inputs = normalise(disturb(scenes.images.float() / 255, rng)).to(memory_format=torch.channels_last)
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        with torch.no_grad():
            pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
            for kept, new in pairs:
                kept.lerp_(new, 1 - min(AVERAGE, step / (step + 10))) if kept.is_floating_point() else kept.copy_(new)
        losses.append(float(loss.detach()))
        if time.monotonic() - saved > 60:
            saved = time.monotonic()
            seconds = before + saved - start
            curve.add(seconds, step=step, loss=sum(losses) / len(losses), id_top1=accuracy(average, classes))
            save_checkpoint(checkpoint, step, model, average, optimiser)
            losses = []
    curve.add(minutes * 60, step=step, loss=sum(losses) / max(len(losses), 1), id_top1=accuracy(average, classes))
    save_checkpoint(checkpoint, step, model, average, optimiser)
    return average, classes


def save(model: Any, classes: list[str], out: Path) -> None:
    """Write config.json and model.safetensors to the folder."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous().clone() for k, v in half.items()}, out / "model.safetensors")
    (out / "model.safetensors").chmod(0o644)
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": len(classes),
        "label_names": classes,
        "model_args": ARCHITECTURE_ARGS,
        "pretrained_cfg": {
            "input_size": [3, SIDE, SIDE],
            "mean": MEAN,
            "std": STD,
            "crop_pct": 1.0,
            "num_classes": len(classes),
        },
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--referee", action="store_true", help="train the referee, of ID and near names")
    parser.add_argument("--out", type=Path, help="default: the model's folder in the package")
    parser.add_argument("--cache", type=Path, default=CACHE, help="sprites, and the checkpoint to go on from")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = "referee" if args.referee else "judge"
    trained = train(name, args.minutes, args.seed, args.cache)
    save(*trained, args.out or model_path(name))


if __name__ == "__main__":
    main()
