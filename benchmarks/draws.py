"""Metrics of drawn classes, over which differences are paired, and the intervals that come of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draw(
    known: np.ndarray,
    its: np.ndarray,
    unknown: np.ndarray,
    others: np.ndarray | None,
    metrics: Sequence[str],
    draws: int,
) -> dict[str, np.ndarray]:
    """metric -> its values [1 + draws]: of all classes once, then of drawn ones (`detection.metrics.bootstrap`).

    known, unknown: scores of ID and OOD images; its, others: their classes.
    """
    from synood_ray.detection.metrics import bootstrap, ood_metrics

    plain, drawn = ood_metrics(known, unknown), bootstrap(known, its, unknown, others, draws)
    return {metric: np.concatenate([[plain[metric]], drawn[metric]]) for metric in metrics}


def span(values: np.ndarray) -> dict[str, float]:
    """The value of all classes and the ends of the 95 % interval, of values as `draw` gives them."""
    from synood_ray.detection.metrics import interval

    low, high = interval(values[1:])
    return {"value": float(values[0]), "low": low, "high": high}
