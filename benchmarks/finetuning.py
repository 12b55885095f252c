"""What a run's accepted images add: fine-tuning with them, beside far outliers alone and beside the ID images alone.
And what fine-tuning again takes, as a command, on the features that the run keeps.

The three train on the same features, with the same settings and seeds. Each is measured by the detector's own score and
by the grouped NegLabel score, which the paper uses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.targets import Target
from synood_ray.config.settings import Settings
from synood_ray.storage import layout

METRICS = ("auroc", "fpr95_id_positive")
PAPER = "neglabel"
AGAIN = "fine-tuning again, other settings: the whole command, core-seconds"
SECONDS = 5.0
TURNS = 3


def benchmark(settings: Settings, run: str, seeds: int = 3) -> dict[str, Any]:
    """Returns set -> score -> variant -> metric -> one value per seed. UserError where there is no published run."""
    from synood_ray.detection.evaluate import evaluate
    from synood_ray.detection.methods import Method
    from synood_ray.detection.run_images import RunImages
    from synood_ray.detection.sets import encode_sets, open_sets
    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.stored import negative_labels
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store
    from synood_ray.training.features import run_features
    from synood_ray.training.finetune import Workers, fine_tune
    from synood_ray.training.job import detector_of

    made = Run.open(open_store(run))
    sources = open_sets(settings, made.record)
    clip = ClipModel(settings.clip)
    negatives = negative_labels(settings, made.store, made.classes, clip)
    data = run_features(made, settings, clip, negatives, Workers())
    images = data.training
    variants = {"accepted images": images, "far outliers only": images.far_only(), "ID images only": images.id_only()}
    scores = list(dict.fromkeys([settings.detector.score, PAPER]))
    methods: dict[str, Method] = {}
    for seed in range(seeds):
        for name, chosen in variants.items():
            tuned = fine_tune(chosen.to(clip.device), settings.training, seed)
            for score in scores:
                asked = settings.model_copy(update={"detector": settings.detector.model_copy(update={"score": score})})
                detector = detector_of(tuned, replace(data, training=chosen), clip, negatives, asked, made.classes)
                methods[f"{score}, {name}, {seed}"] = Method(detector.score_features, detector.id_logits)
    id_set, ood_sets = encode_sets(RunImages(made, settings, clip, lambda line: None), sources)
    found = evaluate(id_set, ood_sets, methods, draws=0)["sets"]

    def values(where: str, score: str, variant: str) -> dict[str, list[float]]:
        rows = [found[where][f"{score}, {variant}, {seed}"] for seed in range(seeds)]
        return {metric: [row[metric] for row in rows] for metric in METRICS}

    return {
        where: {score: {variant: values(where, score, variant) for variant in variants} for score in scores}
        for where in found
    }


def show(found: dict[str, Any]) -> dict[str, Any]:
    """Print the table: every figure the mean over seeds, with the lowest and highest."""
    from rich.console import Console
    from rich.table import Table

    table = Table("set", "score", "fine-tuned on", "AUROC", "FPR95 (ID positive)", title="fine-tuning, %")
    for where, scores in found.items():
        for score, variants in scores.items():
            for name, metrics in variants.items():
                cells = [100 * np.array(metrics[metric]) for metric in METRICS]
                spans = (f"{x.mean():.1f} ({x.min():.1f} to {x.max():.1f})" for x in cells)
                table.add_row(where, score, name, *spans)
    Console().print(table)
    return found


def again(run: str, turns: int = TURNS) -> dict[str, float]:
    """What ``synood finetune --run RUN --training.epochs N`` takes on a run that keeps its features: the least of
    `turns`. ``cpu``: core-seconds of the process; ``wall``: seconds until it is done.

    It works on a copy of the run, whose detector is removed before each turn. The first one encodes, if nobody has.
    """
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder, "run")
        shutil.copytree(run, copied)
        found = [_turn(copied, epochs) for epochs in range(20, 21 + turns)][1:]
    return {"cpu": min(cpu for cpu, _ in found), "wall": min(wall for _, wall in found)}


def _turn(run: Path, epochs: int) -> tuple[float, float]:
    """Core-seconds and seconds of one command."""
    shutil.rmtree(run / layout.DETECTOR, ignore_errors=True)
    command = [sys.executable, "-m", "synood_ray", "finetune", "--run", str(run), "--training.epochs", str(epochs)]
    before, begin = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    wall, after = time.perf_counter() - begin, os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    return own, wall


def targets(found: dict[str, float]) -> list[Target]:
    return [Target(AGAIN, found["cpu"], SECONDS, "most")]
