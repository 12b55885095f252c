"""How well a score tells ID from OOD images: AUROC, FPR95 in both conventions, AUPR in and out, with intervals.

Scores are 1-D arrays, higher = more ID. All values are shares in 0..1.

One function computes everything: `_weighted_metrics` takes one weight per image, so the plain metrics (all weights
1) and every bootstrap draw (weight = how often the image's class was drawn) share the same formulas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

METRICS = ("auroc", "fpr95_id_positive", "fpr95_ood_positive", "aupr_in", "aupr_out")
RECALL = 0.95
_CHUNK = 4_000_000
"""Weights held at once while bootstrapping (elements of a float64 matrix)."""

Floats = NDArray[np.float64]


def ood_metrics(id_scores: ArrayLike, ood_scores: ArrayLike) -> dict[str, float]:
    """Metrics of one score on one ID set [N] and one OOD set [K].

    auroc: P(ID score > OOD score) + P(equal) / 2.
    fpr95_id_positive: share of OOD images at or above the highest threshold that keeps 95 % of the ID images
        (the convention of MCM, NegLabel and CSP).
    fpr95_ood_positive: share of ID images at or below the lowest threshold that catches 95 % of the OOD images
        (the convention of OpenOOD).
    aupr_in, aupr_out: average precision with ID, or OOD, as the positive class (no interpolation).

    Raises ValueError if a set is empty or holds a value that is not finite.
    """
    ranks = _Ranks(_checked(id_scores, "ID"), _checked(ood_scores, "OOD"))
    values = _weighted_metrics(ranks, np.ones((1, ranks.n_id)), np.ones((1, ranks.n_ood)))
    return {name: float(values[name][0]) for name in METRICS}


def class_bootstrap(
    id_scores: ArrayLike,
    id_classes: ArrayLike,
    ood_scores: ArrayLike,
    ood_classes: ArrayLike | None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of `ood_metrics` when ID and OOD classes are drawn again with replacement.

    id_classes [N], ood_classes [K]: the class of every image, any hashable scalars. Images of one class are alike, so
    whole classes are resampled; ``ood_classes=None`` treats every OOD image as its own class.
    Returns metric -> (low, high), the central `level` of the draws. Raises ValueError as `ood_metrics` does, and for
    draws < 1.
    """
    ranks = _Ranks(_checked(id_scores, "ID"), _checked(ood_scores, "OOD"))
    if draws < 1:
        raise ValueError("an interval needs at least one bootstrap draw")
    id_groups = _class_index(id_classes, ranks.n_id, "ID")
    ood_groups = _class_index(np.arange(ranks.n_ood) if ood_classes is None else ood_classes, ranks.n_ood, "OOD")
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // (ranks.n_id + ranks.n_ood))
    values: dict[str, list[Floats]] = {name: [] for name in METRICS}
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        drawn = _weighted_metrics(ranks, _draw(rng, id_groups, count), _draw(rng, ood_groups, count))
        for name in METRICS:
            values[name].append(drawn[name])
    tails = [(1.0 - level) / 2, (1.0 + level) / 2]
    intervals = {name: np.quantile(np.concatenate(values[name]), tails) for name in METRICS}
    return {name: (float(low), float(high)) for name, (low, high) in intervals.items()}


def threshold_at(id_scores: ArrayLike, recall: float = RECALL) -> float:
    """The highest threshold t such that at least `recall` of the ID scores are >= t (one of the scores themselves)."""
    scores = np.sort(_checked(id_scores, "ID"))[::-1]
    return float(scores[_first_at(recall, len(scores))])


class _Ranks:
    """The distinct scores of both sets in descending order, and each image's position among them."""

    def __init__(self, id_scores: Floats, ood_scores: Floats) -> None:
        self.n_id, self.n_ood = len(id_scores), len(ood_scores)
        distinct, position = np.unique(-np.concatenate([id_scores, ood_scores]), return_inverse=True)
        self.count = len(distinct)
        self.id_order, self.id_ends = self._cuts(position[: self.n_id])
        self.ood_order, self.ood_ends = self._cuts(position[self.n_id :])

    def _cuts(self, position: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(position, kind="stable")
        return order, np.searchsorted(position[order], np.arange(self.count), side="right")

    def cumulative(self, id_weights: Floats, ood_weights: Floats) -> tuple[Floats, Floats]:
        """Weight of the images with a score at least the k-th distinct score, as shares of each set: [draws, count]."""
        return self._share(id_weights, self.id_order, self.id_ends), self._share(
            ood_weights, self.ood_order, self.ood_ends
        )

    @staticmethod
    def _share(weights: Floats, order: NDArray[np.int64], ends: NDArray[np.int64]) -> Floats:
        sums = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights[:, order], axis=1)], axis=1)
        return sums[:, ends]


def _weighted_metrics(ranks: _Ranks, id_weights: Floats, ood_weights: Floats) -> dict[str, Floats]:
    """Every metric for every row of weights [draws, N] and [draws, K]; returns metric -> [draws]."""
    above_id, above_ood = ranks.cumulative(id_weights, ood_weights)
    total_id, total_ood = above_id[:, -1:], above_ood[:, -1:]
    zero = np.zeros((len(above_id), 1))
    at_id, at_ood = np.diff(above_id, prepend=zero), np.diff(above_ood, prepend=zero)
    below_id, below_ood = total_id - above_id + at_id, total_ood - above_ood + at_ood

    auroc = (at_id * (total_ood - above_ood + at_ood / 2)).sum(axis=1) / (total_id * total_ood)[:, 0]
    slack = 1e-9  # cumulative sums of whole numbers, but recall * total is not exact
    cut_id = np.argmax(above_id >= RECALL * total_id - slack, axis=1)
    cut_ood = above_ood.shape[1] - 1 - np.argmax((below_ood >= RECALL * total_ood - slack)[:, ::-1], axis=1)
    row = np.arange(len(above_id))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_in = np.nan_to_num(above_id / (above_id + above_ood))
        precision_out = np.nan_to_num(below_ood / (below_id + below_ood))
    return {
        "auroc": auroc,
        "fpr95_id_positive": above_ood[row, cut_id] / total_ood[:, 0],
        "fpr95_ood_positive": below_id[row, cut_ood] / total_id[:, 0],
        "aupr_in": (at_id * precision_in).sum(axis=1) / total_id[:, 0],
        "aupr_out": (at_ood * precision_out).sum(axis=1) / total_ood[:, 0],
    }


def _checked(scores: ArrayLike, which: str) -> Floats:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if len(values) == 0:
        raise ValueError(f"no {which} scores to measure")
    if not np.isfinite(values).all():
        raise ValueError(f"{which} scores hold a value that is not finite")
    return values


def _first_at(recall: float, count: int) -> int:
    """Index, in descending order, of the last score that must be kept so that `recall` of `count` are."""
    return max(0, int(np.ceil(recall * count - 1e-9)) - 1)


def _class_index(classes: ArrayLike, count: int, which: str) -> NDArray[np.int64]:
    index = np.unique(np.asarray(classes).ravel(), return_inverse=True)[1]
    if len(index) != count:
        raise ValueError(f"{len(index)} {which} classes for {count} {which} scores")
    return index


def _draw(rng: np.random.Generator, groups: NDArray[np.int64], draws: int) -> Floats:
    """Weights [draws, images]: how often each image's class was drawn."""
    n_classes = int(groups.max()) + 1
    return rng.multinomial(n_classes, np.full(n_classes, 1.0 / n_classes), size=draws).astype(np.float64)[:, groups]
