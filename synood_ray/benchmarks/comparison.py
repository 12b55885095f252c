"""Two things measured in turn, on a machine that others use too: the ratio of their medians, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

DRAWS = 10_000


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
    pairs = np.array([ours, bare])
    drawn = pairs[:, np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))]
    medians = np.median(drawn, axis=2)
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    ratio = np.median(pairs[0]) / np.median(pairs[1])
    return Comparison(list(ours), list(bare), float(ratio), float(low), float(high))
