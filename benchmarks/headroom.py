"""Whether more of the model is worth training: the projector, the texts along with it, the tower's head or last block.

Each learns from the ID images alone, and from real near-OOD images of half A besides (the oracle: better images than
any generator makes). Read on the validation images of half B, which nobody has learned from. What a variant has over
the projector is its headroom. Scores look at features of the tower as it was trained.

    python -m benchmarks.headroom [HEAD…]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.heads import HEADS, open_head, score_functions
from benchmarks.teaching.measure import DRAWS
from benchmarks.teaching.world import World, open_world
from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from synood_ray.detection.projector import Projector
    from synood_ray.models.clip import ClipModel

VARIANTS = ("projector", "projector and texts", "tower's head", "tower's last block and head")
SCORES = ("neglabel", "fused")
TOWER_RATE, TEXT_RATE = 2e-4, 1e-3
"""Adam's, of the tower's parameters and of text features; the projector has ``training.lr``."""

BATCH = 64


@dataclass(frozen=True)
class Images:
    """What a head's trunk, up to the last block, makes of images: [N, …]; and their classes [N]."""

    early: Tensor
    labels: Tensor


class Tower:
    """A CLIP's image tower (of the miniature world's kind) in two pieces: what stays frozen, and what may learn."""

    def __init__(self, clip: ClipModel) -> None:
        visual = clip.model.visual
        self.trunk, self.head = visual.trunk, visual.head
        self.preprocess = clip.preprocess
        self.last = len(self.trunk.blocks) - 1

    def early(self, images: Tensor) -> Tensor:
        """What the last block sees of images [N, 3, H, W]."""
        import torch

        with torch.inference_mode():
            x = self.trunk.bn1(self.trunk.conv_stem(self.preprocess(images)))
            for block in list(self.trunk.blocks)[: self.last]:
                x = block(x)
            return x.clone()

    def late(self) -> nn.Sequential:
        """A copy of the rest: the last block with the trunk's end, and the head."""
        import torch

        end = torch.nn.Sequential(self.trunk.blocks[self.last], self.trunk.conv_head, self.trunk.bn2)
        return copy.deepcopy(torch.nn.Sequential(end, self.trunk.global_pool, self.head))


def benchmark(settings: Settings, heads: Sequence[int] = HEADS, seeds: int = 1) -> dict[str, Any]:
    """Returns variant -> ``ID only``, ``oracle`` -> score -> ``near`` (AUROC, draws' ends) and ``far``; and what each
    has over the projector with the same images."""
    world = open_world(settings, None, test=False)
    total: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for head in heads:
        clip = open_head(settings, head)
        for seed in range(seeds):
            for key, drawn in _one(clip, world, settings, seed).items():
                total.setdefault(key, []).append(drawn)
        print(f"head {head} measured", flush=True)
    means = {key: np.mean(parts, axis=0) for key, parts in total.items()}
    result: dict[str, Any] = {}
    for (variant, images, score), drawn in means.items():
        over = drawn - means[VARIANTS[0], images, score]
        row = {"auroc": drawn[:, 0].tolist(), "over projector": [_span(values) for values in over]}
        result.setdefault(variant, {}).setdefault(images, {})[score] = row
    return result


def _one(clip: ClipModel, world: World, settings: Settings, seed: int) -> dict[tuple[str, str, str], np.ndarray]:
    """(variant, images, score) -> AUROC [near and far, 1 + draws] of one head and seed."""
    import torch

    from synood_ray.detection.metrics import bootstrap, ood_metrics
    from synood_ray.negatives.mining import load_candidates, mine

    tower = Tower(clip)
    split = world.splits["validation"]
    parts = {"sources": world.sources, "held": world.held_out, "oracle": world.oracle}
    parts |= {"id": split.known, "near": split.near, "far": split.far}
    seen = {name: _look(tower, settings, images) for name, images in parts.items()}
    id_text = clip.encode_classes(world.classes, settings.clip.templates).float().cpu()
    negatives = mine(load_candidates(settings.labels), world.classes, id_text, clip.encode_text, settings.labels)
    options = {"temperature": settings.clip.temperature, "groups": settings.labels.groups}
    found = {}
    for variant in VARIANTS:
        for images in ("ID only", "oracle"):
            outliers = seen["oracle"] if images == "oracle" else None
            trained = _train(tower, seen["sources"], outliers, (id_text, negatives.features), variant, settings, seed)
            late, projector, texts = trained
            with torch.inference_mode():
                features = {name: torch.cat([late(x) for x in one.early.split(BATCH)]) for name, one in seen.items()}
            own = features["sources"], seen["sources"].labels, features["held"]
            functions = score_functions(projector, *texts, own, options)
            for score in SCORES:
                known, near, far = (functions[score](features[name]).double().numpy() for name in ("id", "near", "far"))
                rows = []
                for unknown, where in ((near, "near"), (far, "far")):
                    its, others = seen["id"].labels.numpy(), seen[where].labels.numpy()
                    drawn = bootstrap(known, its, unknown, others, DRAWS)["auroc"]
                    rows.append(np.concatenate([[ood_metrics(known, unknown)["auroc"]], drawn]))
                found[variant, images, score] = np.stack(rows)
    return found


def _look(tower: Tower, settings: Settings, images: list[SourceImage]) -> Images:
    import torch

    from synood_ray.models.images import to_tensor
    from synood_ray.sampling.loader import SourceLoader

    loader = SourceLoader(settings)
    pictures = [loader.image(image) for image in images]
    side = tower.preprocess.size
    parts = [tower.early(to_tensor(pictures[i : i + BATCH], side)) for i in range(0, len(pictures), BATCH)]
    return Images(torch.cat(parts), torch.tensor([image.label for image in images]))


def _train(
    tower: Tower,
    known: Images,
    outliers: Images | None,
    frozen_texts: tuple[Tensor, Tensor],
    variant: str,
    settings: Settings,
    seed: int,
) -> tuple[nn.Module, Projector, tuple[Tensor, Tensor]]:
    """The tower's end, the projector and the texts after `training.epochs` of the loss of our recipe: cross-entropy
    over ID classes and negative labels, *some* negative label for outliers, `training.keep_weight` times the divergence
    from the frozen CLIP's predictions."""
    import torch
    from torch.nn import functional as F

    from synood_ray.detection import projector as projectors
    from synood_ray.scores import LOGIT_SCALE

    training = settings.training
    late = tower.late().requires_grad_(False)
    texts = [text.clone() for text in frozen_texts]
    projector = projectors.Projector(frozen_texts[0].shape[1], seed=seed)
    groups: list[dict[str, Any]] = [{"params": list(projector.parameters()), "lr": training.lr}]
    if "texts" in variant:
        groups.append({"params": [text.requires_grad_() for text in texts], "lr": TEXT_RATE})
    learning = {"tower's head": [late[2]], "tower's last block and head": [late[0], late[2]]}.get(variant, [])
    groups += [{"params": list(each.requires_grad_().parameters()), "lr": TOWER_RATE} for each in learning]
    optimiser = torch.optim.Adam(groups, weight_decay=training.weight_decay)
    early = known.early if outliers is None else torch.cat([known.early, outliers.early])
    some = len(early) - len(known.early)
    targets = torch.cat([known.labels, torch.full((some,), -1)])
    weights = torch.ones(len(early))
    if some:
        weights[len(known.early) :] = training.ood_weight * len(known.early) / some
    with torch.no_grad():
        frozen = torch.cat([late(part) for part in early.split(BATCH)])  # features of the tower as it was
        before = (LOGIT_SCALE * F.normalize(frozen, dim=-1) @ torch.cat(frozen_texts).T).log_softmax(-1)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(training.epochs):
        for batch in torch.randperm(len(early), generator=generator).split(training.batch_size):
            share = epoch / training.epochs
            rate = (1 + np.cos(np.pi * share)) / 2
            for group in optimiser.param_groups:
                group.setdefault("first", group["lr"])
                group["lr"] = group["first"] * rate
            features, was = late(early[batch]) if learning else frozen[batch], before[batch]
            text = F.normalize(torch.cat(texts), dim=-1)
            log_share = (LOGIT_SCALE * projector(features) @ text.T).log_softmax(-1)
            named = log_share.gather(1, targets[batch].clamp(min=0).unsqueeze(1)).squeeze(1)
            negative = log_share[:, len(texts[0]) :].logsumexp(-1)
            loss = -(weights[batch] * torch.where(targets[batch] < 0, negative, named)).sum()
            loss = loss + training.keep_weight * (was.exp() * (was - log_share)).sum()
            optimiser.zero_grad()
            (loss / len(batch)).backward()
            optimiser.step()
    final = [F.normalize(text.detach(), dim=-1) for text in texts]
    return late.eval(), projector.eval().requires_grad_(False), (final[0], final[1])


def _span(values: np.ndarray) -> dict[str, float]:
    from synood_ray.detection.metrics import interval

    low, high = interval(values[1:])
    return {"value": float(values[0]), "low": low, "high": high}


def show(found: dict[str, Any]) -> None:
    """Print a table: AUROC in %, and what each has over the projector [95 %, over classes]."""
    from rich.console import Console
    from rich.table import Table

    table = Table("trained", "on", "score", "near", "over the projector", "far", "over the projector")
    for variant, kinds in found.items():
        for images, scores in kinds.items():
            for score, row in scores.items():
                cells = []
                for value, over in zip(row["auroc"], row["over projector"], strict=True):
                    ends = f"[{100 * over['low']:.2f}, {100 * over['high']:.2f}]"
                    cells += [f"{100 * value:.2f}", f"{100 * over['value']:+.2f} {ends}"]
                table.add_row(variant, images, score, *cells)
    Console(width=130).print(table)


if __name__ == "__main__":
    from synood_ray.cli.layers import load_preset, resolve

    show(benchmark(resolve([load_preset("mini")])[0], [int(head) for head in sys.argv[1:]] or HEADS))
