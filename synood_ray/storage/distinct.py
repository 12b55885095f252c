"""How unlike each other the accepted samples of a class are, and which are too like one that came before.

Distances are 1 - cos of the CLIP features that rows carry. These have unit length and half precision, so a sum of
their products is a multiple of 2^-48 and below 2: float64 holds it without rounding, in whatever order it is added up.
Which rows are found does not depend on the machine, or on where shards are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synood_ray.config.fingerprint import counted_fields

DUPLICATE = "duplicate"
"""The reject reason of a near-duplicate."""

_BLOCK = 4096
"""Features multiplied at once: 16 MiB in float64 where they have 512 numbers."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """What was found in a publication.

    distinct: the setting; compared: samples that had been accepted and have a feature; duplicates: those of them that
    were rejected for it. by_class: mean distance between two of the others, by label, None where there are not two;
    median: of these, None where there are none.
    """

    distinct: float
    compared: int
    duplicates: int
    median: float | None
    by_class: list[float | None]

    def __str__(self) -> str:
        if not self.compared:
            return "near-duplicates: not looked for, no accepted sample has a CLIP feature"
        told = f"near-duplicates: {self.duplicates} rejected, nearer than {self.distinct:g} to another of their class"
        if not self.distinct:
            told = "near-duplicates: kept (sampling.distinct 0)"
        if self.median is None:
            return told
        return f"{told}; diversity: {self.median:.3f}, the mean CLIP distance in a class (median of all classes)"

    def most_alike(self, classes: Sequence[str], count: int = 3) -> str:
        """The classes with the smallest mean distances, such as "duck 0.012, cup 0.013"; "" where none has one."""
        found = [(distance, label) for label, distance in enumerate(self.by_class) if distance is not None]
        return ", ".join(f"{classes[label]} {distance:.3f}" for distance, label in sorted(found)[:count])


def least_distance(config: Mapping[str, Any]) -> float:
    """``sampling.distinct`` of a stored configuration."""
    return float(dict(counted_fields(config))["sampling.distinct"])


class Distinct:
    """Goes through a publication's tables of rows in their order, and keeps what each class is compared with.

    least: the distance below which a sample is a near-duplicate; 0: none is. classes: how many labels there are.
    Of every accepted sample the feature stays in memory, 2 bytes a number: 1 million of 1000 classes, with 512 numbers,
    take 1 to 1.5 GB, and about 12 core-minutes. With least 0 none stays.
    """

    def __init__(self, least: float, classes: int) -> None:
        self.least = least
        self._classes = [_Class(least) for _ in range(classes)]
        self._compared = 0

    def sift(self, table: pa.Table) -> pa.Table:
        """The next rows (columns of `synood_ray.records.SampleRow`), near-duplicates rejected."""
        features = table.column("feature").combine_chunks()
        wanted = pc.and_(table.column("accepted"), pc.greater(pc.list_value_length(features), 0))
        rows = np.flatnonzero(wanted.to_numpy())
        if not len(rows):
            return table
        values = features.take(pa.array(rows)).flatten().to_numpy().reshape(len(rows), -1)
        labels = table.column("source_label").to_numpy()[rows]
        order = np.argsort(labels, kind="stable")
        duplicate = np.zeros(len(table), dtype=bool)
        for mine in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
            duplicate[rows[mine]] = ~self._classes[labels[mine[0]]].add(values[mine])
        self._compared += len(rows)
        return _rejected(table, duplicate) if duplicate.any() else table

    def diversity(self) -> Diversity:
        """Of all that was gone through."""
        duplicates = self._compared - sum(one.count for one in self._classes)
        by_class = [one.mean_distance() for one in self._classes]
        found = [distance for distance in by_class if distance is not None]
        median = round(float(np.median(found)), 4) if found else None
        return Diversity(self.least, self._compared, duplicates, median, by_class)


@dataclass(slots=True)
class _Class:
    """One class's accepted samples: their features [count, D] float16, in a buffer that grows, and sums over them."""

    least: float
    count: int = 0
    buffer: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.float16))
    total: np.ndarray | float = 0.0
    squares: float = 0.0

    def add(self, features: np.ndarray) -> np.ndarray:
        """Take those of features [K, D] float16 that are no near-duplicates; [K] bool, which these are."""
        exact = _exact(features)
        fresh = self._fresh(exact)
        if self.least:
            self._keep(features[fresh])
        self.count += int(fresh.sum())
        self.total = self.total + exact[fresh].sum(0)
        self.squares += float((exact[fresh] ** 2).sum())
        return fresh

    def _fresh(self, new: np.ndarray) -> np.ndarray:
        near = np.zeros(len(new), dtype=bool)
        if not self.least:
            return ~near
        for start in range(0, self.count, _BLOCK):
            block = _exact(self.buffer[start : min(start + _BLOCK, self.count)])
            near |= (1 - block @ new.T < self.least).any(0)
        alike = 1 - new @ new.T < self.least
        for place in range(len(new)):
            if not near[place]:
                near[place + 1 :] |= alike[place, place + 1 :]
        return ~near

    def _keep(self, features: np.ndarray) -> None:
        needed = self.count + len(features)
        if needed > len(self.buffer):
            grown = np.empty((max(needed, len(self.buffer) * 3 // 2), features.shape[1]), dtype=np.float16)
            if self.count:
                grown[: self.count] = self.buffer[: self.count]
            self.buffer = grown
        self.buffer[self.count : needed] = features

    def mean_distance(self) -> float | None:
        """Over all pairs, without looking at one: their products make up the square of the sum, beside the squares."""
        if self.count < 2:
            return None
        products = float(np.sum(np.square(self.total))) - self.squares
        return max(0.0, round(1 - products / (self.count * (self.count - 1)), 4))


def _exact(features: np.ndarray) -> np.ndarray:
    """float16 as float64; by way of float32, which NumPy does four times as fast."""
    return features.astype(np.float32).astype(np.float64)


def _rejected(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Those rows [N] bool of the table rejected as near-duplicates."""
    mask = pa.array(rows)
    changed = {
        "accepted": pc.and_not(table.column("accepted"), mask),
        "reject_reason": pc.if_else(mask, DUPLICATE, table.column("reject_reason")),
    }
    for name, column in changed.items():
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
    return table
