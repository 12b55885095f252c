"""The plan: which samples a run makes, and in which unit. A pure function of the sources and a few settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synood_ray.records import SampleTask, SourceImage, sample_key, sample_seed


class Plan:
    """Samples 0, 1, … cut into units of unit_size (the last may be shorter); tasks are made when asked for.

    Order: draw 0 of all sources, then draw 1, …; within a draw round-robin over the classes, so that any beginning of
    the plan covers the classes evenly. limit: plan only that many samples. A sample's key depends on its position
    and its seed on (seed, source key, draw) alone, so no task depends on unit_size or on limit.
    """

    def __init__(
        self,
        sources: Sequence[SourceImage],
        *,
        per_image: int = 1,
        unit_size: int = 32,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        if per_image < 1 or unit_size < 1:
            raise ValueError("per_image and unit_size start at 1")
        total = len(sources) * per_image
        self.samples = total if limit is None else min(limit, total)
        self._sources, self._unit_size, self._seed = sources, unit_size, seed
        self._order = _round_robin(_labels(sources))

    def __len__(self) -> int:
        """Number of units."""
        return -(-self.samples // self._unit_size)

    @property
    def sizes(self) -> np.ndarray:
        """Samples of every unit, int64 [len(self)]."""
        sizes = np.full(len(self), self._unit_size, dtype=np.int64)
        sizes[-1:] -= len(self) * self._unit_size - self.samples
        return sizes

    def unit(self, unit: int) -> list[SampleTask]:
        """The tasks of a unit, without prompts. IndexError outside [0, len(self))."""
        return [self._task(index, unit) for index in self._indices(unit)]

    def _indices(self, unit: int) -> range:
        if not 0 <= unit < len(self):
            raise IndexError(f"unit {unit} of {len(self)}")
        return range(unit * self._unit_size, min((unit + 1) * self._unit_size, self.samples))

    def _task(self, index: int, unit: int) -> SampleTask:
        draw, position = divmod(index, len(self._order))
        source = self._sources[int(self._order[position])]
        return SampleTask(sample_key(index), unit, source, draw, sample_seed(self._seed, source.key, draw))


def _labels(sources: Sequence[SourceImage]) -> np.ndarray:
    """Labels, int64 [len(sources)]; a table of sources has them as a column."""
    column = getattr(sources, "labels", None)
    if column is not None:
        return column
    return np.fromiter((source.label for source in sources), dtype=np.int64, count=len(sources))


def _round_robin(labels: np.ndarray) -> np.ndarray:
    """Positions in the order: the first source of every class, then the second of every class, …"""
    by_class = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    return np.lexsort((labels, rank))
