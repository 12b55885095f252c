"""What the report draws of two sets of scores: the ROC curve and the histograms, small enough to be stored as JSON."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

POINTS = 101
BINS = 40
SPREAD = 6.0
"""Histograms span this many ID standard deviations on either side of the ID mean; the rest counts in the end bins."""


def roc_curve(id_scores: ArrayLike, ood_scores: ArrayLike) -> list[float]:
    """Share of ID images kept at POINTS evenly spaced shares of OOD images let in, from 0 to 1."""
    id_sorted, ood_sorted = np.sort(np.asarray(id_scores, float)), np.sort(np.asarray(ood_scores, float))
    thresholds = np.unique(np.concatenate([id_sorted, ood_sorted]))[::-1]
    tpr = 1 - np.searchsorted(id_sorted, thresholds, side="left") / len(id_sorted)
    fpr = 1 - np.searchsorted(ood_sorted, thresholds, side="left") / len(ood_sorted)
    grid = np.linspace(0, 1, POINTS)
    return [round(float(v), 4) for v in np.interp(grid, np.r_[0, fpr, 1], np.r_[0, tpr, 1])]


def histograms(id_scores: ArrayLike, ood_scores: ArrayLike) -> dict[str, list[float]]:
    """Shares of both sets in BINS bins of the score in ID standard deviations from the ID mean.

    Returns edges (BINS + 1), id and ood (BINS each, summing to 1); so methods of any scale share one axis.
    """
    known, unknown = np.asarray(id_scores, float), np.asarray(ood_scores, float)
    mean, deviation = known.mean(), known.std() or 1.0
    edges = np.linspace(-SPREAD, SPREAD, BINS + 1)

    def shares(scores: np.ndarray) -> list[float]:
        inside = np.clip((scores - mean) / deviation, -SPREAD, SPREAD)
        return [round(float(n) / len(scores), 5) for n in np.histogram(inside, edges)[0]]

    return {"edges": [round(float(e), 3) for e in edges], "id": shares(known), "ood": shares(unknown)}
