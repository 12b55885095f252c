"""Signs that a result is worth little: each is told by the job, kept in evaluation.json, put on top of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synood_ray.config.settings import Settings
from synood_ray.storage.run import Run

FEW_CALIBRATION_IMAGES = 100
"""Below it the threshold, a 5 % quantile, rests on fewer than five images."""

_BUNDLED = "mini://"


def run_warnings(run: Run, settings: Settings) -> list[str]:
    """What is known from the run's images and models alone, a sentence each."""
    told = []
    held_out, sources = run.held_out(), run.sources()
    if len(held_out) < FEW_CALIBRATION_IMAGES:
        told.append(
            f"only {len(held_out)} held-out ID images: thresholds are chance below {FEW_CALIBRATION_IMAGES} "
            "(data.calibration, data.holdout)"
        )
    counts = np.bincount(sources.labels)
    single = int((counts == 1).sum())
    if single:
        told.append(f"{single} of {len(counts)} classes have one ID image: nothing can be learned about how they vary")
    if settings.clip.model.startswith(_BUNDLED) and not settings.data.uri.startswith(_BUNDLED):
        told.append(
            f"{settings.clip.model} is a bundled miniature model that has seen small drawings only; for images of "
            "your own take a real one, as in --preset imagenet"
        )
    return told


def result_warnings(result: Mapping[str, Any]) -> list[str]:
    """What the figures of an evaluation (`synood_ray.detection.evaluate.evaluate`) say, a sentence each."""
    told = []
    low = {name: each["accuracy"] for name, each in result["id"].items() if each["accuracy"] < 0.5}
    if low:
        name, accuracy = min(low.items(), key=lambda item: item[1])
        told.append(
            f"{name} names the class of {100 * accuracy:.0f} % of the ID test images: the CLIP does not know the "
            "classes by these names (data.class_names, scorer.templates)"
        )
    for where, methods in result["sets"].items():
        worse = [name for name, figures in methods.items() if figures["auroc"] < 0.5]
        if worse:
            told.append(f"{where}: AUROC under 50 %, worse than chance, of {', '.join(worse)}")
    return told
