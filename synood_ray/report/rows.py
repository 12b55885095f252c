"""What the report needs of a run's samples, without fetching all of its images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synood_ray.storage.publish import read_manifest
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
    """All samples of a published run (`rows`, in order); images on demand. A run that is not published has none."""

    def __init__(self, store: Store) -> None:
        manifest = read_manifest(store) or {"shards": []}
        self._files = [pq.ParquetFile(_open(store, shard["path"], shard["bytes"])) for shard in manifest["shards"]]
        self.rows = [
            Sample(values, shard, group, row)
            for shard, file in enumerate(self._files)
            for group in range(file.num_row_groups)
            for row, values in enumerate(file.read_row_group(group, columns=SCALARS).to_pylist())
        ]

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


def _open(store: Store, key: str, size: int) -> pa.PythonFile:
    return pa.PythonFile(StoredFile(store, key, size), mode="r")
