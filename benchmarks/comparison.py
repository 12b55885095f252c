"""Two things measured in turn, on a machine that others use too: the ratio of their medians, with an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

DRAWS = 10_000

Interval = tuple[float, float]


def interval(statistic: Callable[..., Any], *columns: Any) -> Interval:
    """95 % bootstrap interval of ``statistic(*columns)``: the same rows are drawn of every column.

    columns: arrays [n] of what was measured together. statistic: works along the last axis of arrays [draws, n].
    """
    data = [np.asarray(column, dtype=float) for column in columns]
    count = len(data[0])
    rows = np.random.default_rng(0).integers(0, count, (DRAWS, count))
    low, high = np.nanquantile(statistic(*(column[rows] for column in data)), (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """ratio = median(ours) / median(bare); low, high: its 95 % bootstrap interval over the repetitions."""

    ours: list[float]
    bare: list[float]
    ratio: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        ours, bare = np.median(self.ours), np.median(self.bare)
        return f"{ours:.4g} / {bare:.4g} a second = {self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


def compare(ours: Sequence[float], bare: Sequence[float]) -> Comparison:
    """Compare repetition i of the one with repetition i of the other, its neighbour in time.

    The bootstrap draws pairs, because what else the machine does weighs on both of a pair alike.
    """
    if len(ours) != len(bare) or not ours:
        raise ValueError(f"{len(ours)} and {len(bare)} repetitions cannot be compared")
    low, high = interval(_ratio_of_medians, ours, bare)
    return Comparison(list(ours), list(bare), float(np.median(ours) / np.median(bare)), low, high)


def _ratio_of_medians(ours: np.ndarray, bare: np.ndarray) -> Any:
    return np.median(ours, axis=-1) / np.median(bare, axis=-1)
