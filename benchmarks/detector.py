"""Every OOD score in the miniature world's three regimes, three CLIP heads: of the frozen CLIP and of fine-tuned ones.

A regime is what a preset (`REGIMES`) says of ``data.where`` and ``evaluation.where``; models, tests and all else are
the settings'. The calibration images are those that a run of that regime holds out. To choose settings, name the
validation sets: ``--evaluation.near.mini mini://data/near_val.parquet`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.heads import HEADS, Encoded, open_head, score_functions
from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.detection.projector import Projector
    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.mining import NegativeLabels
    from synood_ray.training.recipes import TrainingData

REGIMES = {"same drawings": "mini", "sibling drawings": "mini-sibling", "new family": "mini-new-family"}
METRICS = ("auroc", "fpr95_id_positive")


@dataclass(frozen=True)
class Regime:
    """Classes, images a run would be made from, held-out ones, and test sets (``id``, ``near/…``, ``far/…``)."""

    classes: list[str]
    sources: list[SourceImage]
    held_out: list[SourceImage]
    tests: dict[str, list[SourceImage]]

    def images(self) -> Iterator[SourceImage]:
        for part in (self.sources, self.held_out, *self.tests.values()):
            yield from part


def benchmark(settings: Settings, run: str | None, draws: int = 300) -> dict[str, Any]:
    """Returns regime -> test set -> variant -> score -> metric -> {mean, low, high} over the heads.

    The variants: frozen, fine-tuned on the ID images alone, and, with a run, on its accepted images (head 0 alone, in
    the regime that the run was made in). low, high: means over the heads of the 95 % intervals over classes.
    """
    regimes = {name: _open(settings, preset) for name, preset in REGIMES.items()}
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for head in HEADS:
        print(f"head {head}: encoding", flush=True)
        clip = open_head(settings, head)
        encoded = Encoded(clip, settings, (image for one in regimes.values() for image in one.images()))
        for name, regime in regimes.items():
            variants = _variants(settings, regime, clip, encoded, run if head == 0 else None, name)
            for variant, scores in variants.items():
                for (test, score), figures in _measure(regime, encoded, scores, draws).items():
                    rows.setdefault((name, test, variant, score), []).append(figures)
    result: dict[str, Any] = {}
    for (name, test, variant, score), found in rows.items():
        means = {m: {k: float(np.mean([one[m][k] for one in found])) for k in found[0][m]} for m in METRICS}
        result.setdefault(name, {}).setdefault(test, {}).setdefault(variant, {})[score] = means
    return result


def _where(settings: Settings, preset: str) -> Settings:
    from synood_ray.cli.layers import load_preset, resolve

    of_preset, _ = resolve([load_preset(preset)])
    wanted = settings.model_copy(deep=True)
    wanted.data.where, wanted.evaluation.where = of_preset.data.where, of_preset.evaluation.where
    return wanted


def _open(settings: Settings, preset: str) -> Regime:
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source

    wanted = _where(settings, preset)
    selection = select(open_source(wanted.data.uri, wanted.data), wanted.data)
    tests = wanted.data.model_copy(update={"where": wanted.evaluation.where})
    uris = {"id": wanted.evaluation.id_test or ""}
    uris |= {f"near/{name}": uri for name, uri in wanted.evaluation.near.items()}
    uris |= {f"far/{name}": uri for name, uri in wanted.evaluation.far.items()}
    opened = {
        name: open_source(uri, tests, classes=selection.classes if name == "id" else None).scan().images
        for name, uri in uris.items()
    }
    names = [info.name for info in selection.classes]
    return Regime(names, list(selection.sources), list(selection.calibration), opened)


def _variants(
    settings: Settings, regime: Regime, clip: ClipModel, encoded: Encoded, run: str | None, name: str
) -> dict[str, dict[str, Callable[[Tensor], Tensor]]]:
    """Variant -> score -> function of un-normalised features."""
    import torch

    from synood_ray.negatives.mining import load_candidates, mine
    from synood_ray.training.finetune import fine_tune

    id_text = clip.encode_classes(regime.classes, settings.clip.templates).cpu()
    negatives = mine(load_candidates(settings.labels), regime.classes, id_text, clip.encode_text, settings.labels)
    features, labels = encoded(regime.sources), torch.tensor([image.label for image in regime.sources])
    held_out = encoded(regime.held_out)
    made: dict[str, tuple[Projector | None, Tensor]] = {"frozen": (None, negatives.features)}
    tuned = fine_tune(_id_only(features, labels, id_text, negatives), settings.training, settings.seed)
    made["fine-tuned, ID only"] = (tuned.projector, tuned.negative_text)
    data = _accepted(settings, run, clip, REGIMES[name]) if run else None
    if data is not None:
        tuned = fine_tune(data, settings.training, settings.seed)
        made["fine-tuned, accepted"] = (tuned.projector, tuned.negative_text)
    options = {"temperature": settings.clip.temperature, "groups": settings.labels.groups}
    return {
        variant: score_functions(projector, id_text, negative_text, (features, labels, held_out), options)
        for variant, (projector, negative_text) in made.items()
    }


def _id_only(features: Tensor, labels: Tensor, id_text: Tensor, negatives: NegativeLabels) -> TrainingData:
    import torch

    from synood_ray.training.recipes import TrainingData

    return TrainingData(
        id_features=features,
        id_labels=labels,
        id_text=id_text,
        negative_text=negatives.features,
        negative_norms=torch.ones(len(negatives.words)),
        ood_features=features[:0],
        ood_negatives=labels[:0],
        companion_features=features[:0],
        companion_sources=labels[:0],
        far_features=features[:0],
    )


def _accepted(settings: Settings, run: str, clip: ClipModel, preset: str) -> TrainingData | None:
    """What a run trains on, None if it was made in another regime."""
    from synood_ray.negatives.stored import negative_labels
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store
    from synood_ray.training.features import run_features
    from synood_ray.training.finetune import Workers

    made = Run.open(open_store(run))
    if made.config["data"].get("where", {}) != _where(settings, preset).data.where:
        return None
    negatives = negative_labels(settings, made.store, made.classes, clip)
    return run_features(made, settings, clip, negatives, Workers()).training


def _measure(
    regime: Regime, encoded: Encoded, scores: dict[str, Callable[[Tensor], Tensor]], draws: int
) -> dict[tuple[str, str], dict[str, Any]]:
    """(test set, score) -> metric -> {mean, low, high}."""
    from synood_ray.detection.metrics import bootstrap, intervals, ood_metrics

    found = {}
    known_classes = [image.label for image in regime.tests["id"]]
    for name, score in scores.items():
        known = score(encoded(regime.tests["id"])).double().numpy()
        for test, images in regime.tests.items():
            if test != "id":
                unknown = score(encoded(images)).double().numpy()
                figures = ood_metrics(known, unknown)
                labels = [image.label for image in images]
                ends = intervals(bootstrap(known, known_classes, unknown, labels, draws))
                found[test, name] = {m: {"mean": figures[m], "low": ends[m][0], "high": ends[m][1]} for m in METRICS}
    return found


def show(found: dict[str, Any]) -> dict[str, Any]:
    """Print a table a regime: AUROC [interval] and FPR95 (ID positive), %."""
    from rich.console import Console
    from rich.table import Table

    for regime, tests in found.items():
        table = Table("variant", "score", *tests, title=f"{regime}: AUROC [interval] / FPR95 (ID positive), %")
        first = next(iter(tests.values()))
        for variant, scores in first.items():
            for score in scores:
                table.add_row(variant, score, *(_cell(rows[variant][score]) for rows in tests.values()))
        Console(width=110).print(table)
    return found


def _cell(figures: dict[str, dict[str, float]]) -> str:
    area, share = figures["auroc"], figures["fpr95_id_positive"]
    return f"{100 * area['mean']:.1f} [{100 * area['low']:.1f}, {100 * area['high']:.1f}] / {100 * share['mean']:.1f}"
