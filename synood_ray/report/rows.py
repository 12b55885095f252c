"""What the report needs of a run's samples, without holding all of its images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_shard
from synood_ray.storage.stored_file import StoredFile
from synood_ray.storage.stores.base import Store

SCALARS = ["key", "source_key", "source_label", "source_name", "prompt", "negative_label", "rounds", "margin"]
SCALARS += ["margin_trace", "accepted", "failed", "reject_reason"]
MOST_GROUPS = 8
"""Row groups (of about 100 rows) that images are fetched from, however large the run."""


@dataclass(frozen=True)
class Sample:
    """One sample's columns by name, and where its image lies."""

    values: dict[str, Any]
    shard: int
    group: int
    row: int

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


class Samples:
    """All samples of a published run (`rows`, in order); images on demand. A run that is not published has none.

    Every shard is read once as a whole, one at a time. Raises UserError if one is not the one that was published.
    """

    def __init__(self, run: Run) -> None:
        shards = (run.manifest() or {"shards": []})["shards"]
        self.rows = [
            Sample(values, number, group, row)
            for number, shard in enumerate(shards)
            for group, row, values in _scalars(read_shard(run.store, shard))
        ]
        self._files = [pq.ParquetFile(_open(run.store, shard["path"], shard["bytes"])) for shard in shards]

    def draw(self, count: int, *, accepted: bool) -> list[tuple[Sample, bytes]]:
        """Up to `count` samples with their images: drawn by a hash of the key, so not picked, every class once before
        any comes again. Samples without an image (failed ones) are left out."""
        groups = sorted({(s.shard, s.group) for s in self.rows})
        chosen = set(groups[:: max(1, -(-len(groups) // MOST_GROUPS))])
        pool = [s for s in self.rows if (s.shard, s.group) in chosen and s.accepted == accepted and not s.failed]
        pool.sort(key=lambda s: hashlib.sha256(s.key.encode()).digest())
        turns: dict[int, int] = {}
        order: list[tuple[int, int, Sample]] = []
        for sample in pool:
            turns[sample.source_label] = turns.get(sample.source_label, 0) + 1
            order.append((turns[sample.source_label], len(order), sample))
        drawn = [sample for _, _, sample in sorted(order, key=lambda item: item[:2])[:count]]
        images: dict[tuple[int, int], list[Any]] = {}
        for place in {(s.shard, s.group) for s in drawn}:
            table = self._files[place[0]].read_row_group(place[1], columns=["image"])
            images[place] = table.column("image").to_pylist()
        found = [(s, images[s.shard, s.group][s.row]) for s in drawn]
        return [(sample, image["bytes"]) for sample, image in found if image and image["bytes"]]


def _scalars(shard: bytes) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Row group, row in it and columns without images of all samples of a shard."""
    file = pq.ParquetFile(pa.BufferReader(shard))
    for group in range(file.num_row_groups):
        for row, values in enumerate(file.read_row_group(group, columns=SCALARS).to_pylist()):
            yield group, row, values


def _open(store: Store, key: str, size: int) -> pa.PythonFile:
    return pa.PythonFile(StoredFile(store, key, size), mode="r")
