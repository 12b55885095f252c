"""What a run's accepted images add: fine-tuning with them, beside far outliers alone and beside the ID images alone.

The three train on the same features, with the same settings and seeds; the score is the grouped NegLabel score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from synood_ray.config.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.detection.methods import Method
    from synood_ray.training.finetune import FineTuned

METRICS = ("auroc", "fpr95_ood_positive")


def benchmark(settings: Settings, run: str, seeds: int = 3) -> dict[str, Any]:
    """Returns set -> variant -> metric -> one value a seed. Raises UserError where there is no published run."""
    from synood_ray.detection.evaluate import evaluate
    from synood_ray.detection.sets import encode_sets, open_sets
    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.stored import negative_labels
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store
    from synood_ray.training.features import run_features
    from synood_ray.training.finetune import Workers, fine_tune

    store = open_store(run)
    made = Run.open(store)
    sources = open_sets(settings, made.record)
    clip = ClipModel(settings.clip)
    negatives = negative_labels(settings, store, made.classes, clip)
    data = run_features(made, settings, clip, negatives, Workers()).training
    variants = {"accepted images": data, "far outliers only": data.far_only(), "ID images only": data.id_only()}
    methods = {
        (name, seed): _method(fine_tune(chosen, settings.training, seed), data.id_text, settings.labels.groups)
        for seed in range(seeds)
        for name, chosen in variants.items()
    }
    named = {f"{name}, seed {seed}": method for (name, seed), method in methods.items()}
    id_set, ood_sets = encode_sets(made, settings, sources, clip, lambda line: None)
    found = evaluate(id_set, ood_sets, named, draws=0)["sets"]
    return {
        where: {
            name: {metric: [rows[f"{name}, seed {seed}"][metric] for seed in range(seeds)] for metric in METRICS}
            for name in variants
        }
        for where, rows in found.items()
    }


def _method(tuned: FineTuned, id_text: Tensor, groups: int) -> Method:
    import torch

    from synood_ray.detection.methods import Method
    from synood_ray.scores import SCORES, ScoreInput

    def look(features: Tensor) -> ScoreInput:
        with torch.inference_mode():
            return ScoreInput.of_features(tuned.projector(features), id_text, tuned.negative_text, groups=groups)

    return Method(lambda x: SCORES["neglabel"](look(x)), lambda x: look(x).id_logits)


def show(found: dict[str, Any]) -> dict[str, Any]:
    """Print the table: every figure the mean over seeds, with the lowest and highest."""
    from rich.console import Console
    from rich.table import Table

    table = Table("set", "fine-tuned on", "AUROC", "FPR95", title="fine-tuning, %")
    for where, variants in found.items():
        for name, metrics in variants.items():
            cells = [100 * np.array(metrics[metric]) for metric in METRICS]
            table.add_row(where, name, *(f"{x.mean():.1f} ({x.min():.1f} to {x.max():.1f})" for x in cells))
    Console().print(table)
    return found
