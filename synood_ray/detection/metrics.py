"""How well a score tells ID from OOD images: AUROC, FPR95 in both conventions, AUPR in and out, with intervals.

Scores are 1-D arrays, higher = more ID. All values are shares in 0..1.

`METRICS` is the table that evaluation.json, the report and the printed table read. Every metric is a function of
`Cuts`, which has one weight per image: the plain metrics (all weights 1) and every bootstrap draw (weight = how often
the image's class was drawn) share the same formulas. How to add one: docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

RECALL = 0.95
_SLACK = 1e-9  # cumulative sums of whole numbers, but recall * total is not exact
_CHUNK = 4_000_000
"""Weights held at once while bootstrapping (elements of a float64 matrix)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cuts:
    """Both sets cut at each of the K distinct scores, from the highest to the lowest, for every draw of weights.

    above_id, above_ood: weight of the images with at least that score, [draws, K]. The last column is the set's total.
    """

    above_id: Floats
    above_ood: Floats

    @cached_property
    def total_id(self) -> Floats:
        """[draws, 1]"""
        return self.above_id[:, -1:]

    @cached_property
    def total_ood(self) -> Floats:
        """[draws, 1]"""
        return self.above_ood[:, -1:]

    @cached_property
    def at_id(self) -> Floats:
        """Weight of the images with exactly that score, [draws, K]."""
        return np.diff(self.above_id, prepend=0.0)

    @cached_property
    def at_ood(self) -> Floats:
        """As `at_id`."""
        return np.diff(self.above_ood, prepend=0.0)

    @cached_property
    def below_id(self) -> Floats:
        """Weight of the images with at most that score, [draws, K]."""
        return self.total_id - self.above_id + self.at_id

    @cached_property
    def below_ood(self) -> Floats:
        """As `below_id`."""
        return self.total_ood - self.above_ood + self.at_ood


def auroc(cuts: Cuts) -> Floats:
    below = cuts.total_ood - cuts.above_ood + cuts.at_ood / 2
    return (cuts.at_id * below).sum(axis=1) / (cuts.total_id * cuts.total_ood)[:, 0]


def fpr95_id_positive(cuts: Cuts) -> Floats:
    cut = np.argmax(cuts.above_id >= RECALL * cuts.total_id - _SLACK, axis=1)
    return cuts.above_ood[np.arange(len(cut)), cut] / cuts.total_ood[:, 0]


def fpr95_ood_positive(cuts: Cuts) -> Floats:
    caught = (cuts.below_ood >= RECALL * cuts.total_ood - _SLACK)[:, ::-1]
    cut = caught.shape[1] - 1 - np.argmax(caught, axis=1)
    return cuts.below_id[np.arange(len(cut)), cut] / cuts.total_id[:, 0]


def aupr_in(cuts: Cuts) -> Floats:
    return (cuts.at_id * _share(cuts.above_id, cuts.above_ood)).sum(axis=1) / cuts.total_id[:, 0]


def aupr_out(cuts: Cuts) -> Floats:
    return (cuts.at_ood * _share(cuts.below_ood, cuts.below_id)).sum(axis=1) / cuts.total_ood[:, 0]


def _share(part: Floats, other: Floats) -> Floats:
    """part / (part + other), 0 where both are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(part / (part + other))


@dataclass(frozen=True)
class Metric:
    """function: `Cuts` -> one value a draw, [draws], a share in 0..1.

    title: in tables; meaning: the definition with its convention, for the report; higher_is_better: which way is good;
    headline: whether it is among the few that the printed table and the top of the report show.
    """

    function: Callable[[Cuts], Floats]
    title: str
    meaning: str
    higher_is_better: bool
    headline: bool = False


METRICS: dict[str, Metric] = {
    "auroc": Metric(
        auroc,
        title="AUROC",
        meaning="share of pairs of an ID and an OOD image in which the ID image scores higher (ties count half)",
        higher_is_better=True,
        headline=True,
    ),
    "fpr95_id_positive": Metric(
        fpr95_id_positive,
        title="FPR95 (ID positive)",
        meaning="share of OOD images at or above the highest threshold that keeps 95 % of the ID ones (MCM, NegLabel)",
        higher_is_better=False,
        headline=True,
    ),
    "fpr95_ood_positive": Metric(
        fpr95_ood_positive,
        title="FPR95 (OOD positive)",
        meaning="share of ID images at or below the lowest threshold that catches 95 % of the OOD ones (OpenOOD)",
        higher_is_better=False,
    ),
    "aupr_in": Metric(
        aupr_in,
        title="AUPR in (average precision)",
        meaning="average precision with ID as the positive class, no interpolation (OpenOOD: trapezoids)",
        higher_is_better=True,
    ),
    "aupr_out": Metric(
        aupr_out,
        title="AUPR out (average precision)",
        meaning="average precision with OOD as the positive class, no interpolation (OpenOOD: trapezoids)",
        higher_is_better=True,
    ),
}
"""Names in evaluation.json, in the order of tables."""


def ood_metrics(id_scores: ArrayLike, ood_scores: ArrayLike) -> dict[str, float]:
    """`METRICS` of one score on one ID set [N] and one OOD set [K], by name.

    Raises ValueError if a set is empty or holds a value that is not finite.
    """
    ranks = _Ranks(_checked(id_scores, "ID"), _checked(ood_scores, "OOD"))
    cuts = ranks.cuts(np.ones((1, ranks.n_id)), np.ones((1, ranks.n_ood)))
    return {name: float(metric.function(cuts)[0]) for name, metric in METRICS.items()}


def bootstrap(
    id_scores: ArrayLike,
    id_classes: ArrayLike,
    ood_scores: ArrayLike,
    ood_classes: ArrayLike | None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """`ood_metrics` [draws] when ID and OOD classes are drawn again with replacement.

    id_classes [N], ood_classes [K]: the class of every image, any hashable scalars. Images of one class are alike, so
    whole classes are resampled; ``ood_classes=None`` treats every OOD image as its own class. Which classes a draw
    takes depends on the seed and the classes alone: draws of several scores of the same images are paired, and so are
    the ID classes of several OOD sets. Raises ValueError as `ood_metrics` does, and for draws < 1.
    """
    ranks = _Ranks(_checked(id_scores, "ID"), _checked(ood_scores, "OOD"))
    if draws < 1:
        raise ValueError("an interval needs at least one bootstrap draw")
    id_groups = _class_index(id_classes, ranks.n_id, "ID")
    ood_groups = _class_index(np.arange(ranks.n_ood) if ood_classes is None else ood_classes, ranks.n_ood, "OOD")
    id_rng, ood_rng = (np.random.default_rng([seed, which]) for which in range(2))
    chunk = max(1, _CHUNK // (ranks.n_id + ranks.n_ood))
    values: dict[str, list[Floats]] = {name: [] for name in METRICS}
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        cuts = ranks.cuts(_draw(id_rng, id_groups, count), _draw(ood_rng, ood_groups, count))
        for name, metric in METRICS.items():
            values[name].append(metric.function(cuts))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def interval(values: Floats) -> tuple[float, float]:
    """(low, high) of the central 95 % of values [draws]."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def intervals(drawn: Mapping[str, Floats]) -> dict[str, tuple[float, float]]:
    """Percentile intervals of what `bootstrap` has drawn: metric -> (low, high)."""
    return {name: interval(values) for name, values in drawn.items()}


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

    def cuts(self, id_weights: Floats, ood_weights: Floats) -> Cuts:
        """From one weight per image, [draws, N] and [draws, K]."""
        return Cuts(
            self._sums(id_weights, self.id_order, self.id_ends), self._sums(ood_weights, self.ood_order, self.ood_ends)
        )

    @staticmethod
    def _sums(weights: Floats, order: NDArray[np.int64], ends: NDArray[np.int64]) -> Floats:
        sums = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights[:, order], axis=1)], axis=1)
        return sums[:, ends]


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
