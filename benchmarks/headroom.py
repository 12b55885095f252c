"""Whether more of the model is worth training: the projector, the texts along with it, the tower's head, last block or
low-rank adapters (LoRA, Hu et al., ICLR 2022) in its last two stages and head.

Each learns from the ID images alone, and from real near-OOD images of half A besides (the oracle: better images than
any generator makes). Read on the validation images of half B, which nobody has learned from. What a variant has over
the projector is its headroom. Scores look at features of the tower as it was trained.

    python -m benchmarks.headroom [HEAD…]
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.draws import draw, span
from benchmarks.heads import HEADS, open_head, score_functions
from benchmarks.teaching.measure import DRAWS
from benchmarks.teaching.world import World, open_world
from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from torch import Tensor, nn

    from synood_ray.detection.projector import Projector
    from synood_ray.models.clip import ClipModel

PROJECTOR, TEXTS = "projector", "projector and texts"
SCORES = ("neglabel", "fused")
TOWER_RATE, ADAPTER_RATE, TEXT_RATE = 2e-4, 1e-3, 1e-3
"""Adam's, of the tower's parameters, of adapters and of text features; the projector has ``training.lr``."""

RANK = 8
STAGES = 2
"""The tower's last stages, which low-rank adapters are put into; those before stay frozen."""

BATCH = 64


@dataclass(frozen=True)
class Images:
    """What a head's trunk, up to the last `STAGES`, makes of images: [N, …]; and their classes [N]."""

    early: Tensor
    labels: Tensor


class Tower:
    """A CLIP's image tower (of the miniature world's kind) in two pieces: what stays frozen, and what may learn."""

    def __init__(self, clip: ClipModel) -> None:
        visual = clip.model.visual
        self.trunk, self.head = visual.trunk, visual.head
        self.preprocess = clip.preprocess
        self.first = len(self.trunk.blocks) - STAGES

    def early(self, images: Tensor) -> Tensor:
        """What the last stages see of images [N, 3, H, W]."""
        import torch

        with torch.inference_mode():
            x = self.trunk.bn1(self.trunk.conv_stem(self.preprocess(images)))
            for block in list(self.trunk.blocks)[: self.first]:
                x = block(x)
            return x.clone()

    def late(self) -> nn.Sequential:
        """A frozen copy of the rest: the last stages with the trunk's end, the pooling, and the head."""
        import torch

        end = torch.nn.Sequential(*self.trunk.blocks[self.first :], self.trunk.conv_head, self.trunk.bn2)
        rest = torch.nn.Sequential(end, self.trunk.global_pool, self.head)
        return copy.deepcopy(rest).requires_grad_(False)


def _nothing(late: nn.Sequential, seed: int) -> list[nn.Parameter]:
    return []


def _head(late: nn.Sequential, seed: int) -> list[nn.Parameter]:
    return list(late[2].requires_grad_().parameters())


def _last_block_and_head(late: nn.Sequential, seed: int) -> list[nn.Parameter]:
    block = list(late[0].children())[STAGES - 1 :]  # with the trunk's end
    return [p for part in block for p in part.requires_grad_().parameters()] + _head(late, seed)


def _adapters(late: nn.Sequential, seed: int) -> list[nn.Parameter]:
    """Of rank `RANK`, put into every linear layer and every convolution of single pixels; they begin as nothing."""
    import torch
    from torch.nn.utils import parametrize

    class LowRank(torch.nn.Module):
        def __init__(self, weight: Tensor) -> None:
            super().__init__()
            down = torch.randn(RANK, weight[0].numel(), generator=generator) / weight[0].numel() ** 0.5
            self.down, self.up = torch.nn.Parameter(down), torch.nn.Parameter(torch.zeros(len(weight), RANK))

        def forward(self, weight: Tensor) -> Tensor:
            return weight + (self.up @ self.down).view_as(weight)

    generator = torch.Generator().manual_seed(seed)
    found: list[nn.Parameter] = []
    for layer in list(late.modules()):
        if isinstance(layer, torch.nn.Linear) or (
            isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
        ):
            adapter = LowRank(layer.weight)
            parametrize.register_parametrization(layer, "weight", adapter)
            found += adapter.parameters()
    return found


VARIANTS: dict[str, tuple[Callable[[nn.Sequential, int], list[nn.Parameter]], float]] = {
    PROJECTOR: (_nothing, 0.0),
    TEXTS: (_nothing, 0.0),
    "tower's head": (_head, TOWER_RATE),
    "tower's last block and head": (_last_block_and_head, TOWER_RATE),
    "low-rank adapters": (_adapters, ADAPTER_RATE),
}
"""What learns beside the projector: by name, which of the tower's parameters, by a seed, and their rate."""


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
        over = drawn - means[PROJECTOR, images, score]
        row = {"auroc": drawn[:, 0].tolist(), "over projector": [span(values) for values in over]}
        result.setdefault(variant, {}).setdefault(images, {})[score] = row
    return result


def _one(clip: ClipModel, world: World, settings: Settings, seed: int) -> dict[tuple[str, str, str], np.ndarray]:
    """(variant, images, score) -> AUROC [near and far, 1 + draws] of one head and seed."""
    import torch

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
                    rows.append(draw(known, its, unknown, others, ("auroc",), DRAWS)["auroc"])
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
    late = tower.late()
    texts = [text.clone() for text in frozen_texts]
    projector = projectors.Projector(frozen_texts[0].shape[1], seed=seed)
    groups: list[dict[str, Any]] = [{"params": list(projector.parameters()), "lr": training.lr}]
    if variant == TEXTS:
        groups.append({"params": [text.requires_grad_() for text in texts], "lr": TEXT_RATE})
    choose, rate_of_tower = VARIANTS[variant]
    learning = choose(late, seed)
    groups += [{"params": learning, "lr": rate_of_tower}] if learning else []
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
