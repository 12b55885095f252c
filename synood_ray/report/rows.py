"""What the report needs of a run's samples, without holding their images: columns of all, pictures of some."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synood_ray.storage.parts import ROW_GROUP, picture, read_part
from synood_ray.storage.progress import sample_parts
from synood_ray.storage.run import Run
from synood_ray.storage.stored_file import StoredFile

_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "source_key": pa.string(),
        "source_label": pa.int64(),
        "source_name": pa.string(),
        "mask": pa.string(),
        "policy": pa.string(),
        "names": pa.list_(pa.string()),
        "weight": pa.float64(),
        "prompt": pa.string(),
        "negative_label": pa.string(),
        "rounds": pa.int32(),
        "margin": pa.float64(),
        "margin_trace": pa.list_(pa.float64()),
        "accepted": pa.bool_(),
        "failed": pa.bool_(),
        "reject_reason": pa.string(),
    }
)
COLUMNS = _SCHEMA.names
"""Columns of a sample that the report shows, beside its pictures."""

_IMAGES = ("image", "companion")
_READERS = 8
"""Files read at once; each is held as a whole while its columns are taken."""
_HELD = 200_000_000
"""Bytes of all files up to which their pictures stay in memory, so that none is read again."""


class Samples:
    """All samples that a run has so far, in order: of a published run from its shards, else from its parts.

    table: `COLUMNS` of all of them. Every file is read as a whole, so that none is shown that is not what was written:
    raises UserError if a shard is not the one that was published, or a part is damaged.
    """

    def __init__(self, run: Run, *, published: bool) -> None:
        self._store = run.store
        reads: list[Callable[[Sequence[str]], pa.Table]]
        if published:
            shards = run.published()["shards"]
            self._files = [(shard["path"], shard["bytes"]) for shard in shards]
            reads = [partial(run.table, shard) for shard in shards]
        else:
            parts = [entry for files in sample_parts(run.store).values() for entry in files]
            self._files = [(part.key, part.size) for part in parts]
            reads = [partial(read_part, run.store, part.key) for part in parts]
        held = sum(size for _, size in self._files) <= _HELD
        columns = [*COLUMNS, *_IMAGES] if held else COLUMNS
        with ThreadPoolExecutor(_READERS) as readers:
            tables = list(readers.map(lambda read: read(columns), reads))
        self._held = [table.select(_IMAGES) for table in tables] if held else None
        self.table = pa.concat_tables(
            [_SCHEMA.empty_table(), *(table.select(COLUMNS).cast(_SCHEMA) for table in tables)]
        )
        rows = [table.num_rows for table in tables]
        self._file = np.repeat(np.arange(len(rows)), rows)
        self._row = np.concatenate([np.arange(0), *(np.arange(count) for count in rows)])
        self._drop_retried()

    def _drop_retried(self) -> None:
        """A failed sample that was made again is shown once, as its last retry left it."""
        keys = self.table.column("key").to_pylist()
        latest = {key: position for position, key in enumerate(keys)}
        if len(latest) < len(keys):
            kept = np.array(list(latest.values()))
            self.table, self._file, self._row = self.table.take(kept), self._file[kept], self._row[kept]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> np.ndarray:
        """A column of numbers or booleans."""
        return np.asarray(self.table.column(name).to_numpy())

    def mixed(self) -> np.ndarray:
        """Positions in the order in which samples are shown: by a hash of the key, so not picked; the accepted before
        the others, every class once before any comes again. Samples without an image (failed ones) come last."""
        keys = self.table.column("key").to_pylist()
        hashes = np.array([hashlib.sha256(key.encode()).digest()[:8] for key in keys], dtype="S8")
        kind = np.where(self.column("failed"), 2, np.where(self.column("accepted"), 0, 1))
        labels = self.column("source_label")
        group = kind * (1 + labels.max(initial=0)) + labels
        order = np.lexsort((hashes, group))
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        turn = np.empty(len(self), dtype=np.int64)
        turn[order] = np.arange(len(self)) - np.repeat(starts, np.diff([*starts, len(self)]))
        return np.lexsort((hashes, turn, kind))

    def near_each_other(self, positions: np.ndarray, groups: int) -> np.ndarray:
        """Those of the positions that lie in at most so many row groups, evenly chosen of those that they lie in."""
        place = self._file[positions] * (1 + self._row.max(initial=0)) + self._row[positions] // ROW_GROUP
        places = np.unique(place)
        return positions[np.isin(place, places[:: max(1, -(-len(places) // groups))])]

    def pictures(self, positions: np.ndarray) -> Iterator[tuple[int, bytes | None, bytes | None]]:
        """(position, image, companion) of these samples, as stored, in the order of the run. Of a large run, one row
        group is in memory."""
        for file in np.unique(self._file[positions]):
            inside = np.sort(positions[self._file[positions] == file])
            rows = self._row[inside]
            for begin, table in self._tables(int(file), rows):
                here = (rows >= begin) & (rows < begin + table.num_rows)
                for position, row in zip(inside[here].tolist(), rows[here].tolist(), strict=True):
                    image, companion = (table.column(name)[row - begin].as_py() for name in _IMAGES)
                    yield position, picture(image), picture(companion)

    def _tables(self, file: int, rows: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
        """Pictures of a file, at least those of these rows, and the row that each table begins with."""
        if self._held is not None:
            yield 0, self._held[file]
            return
        key, size = self._files[file]
        stored = pq.ParquetFile(pa.PythonFile(StoredFile(self._store, key, size), mode="r"))
        begin = 0
        for group in range(stored.num_row_groups):
            end = begin + stored.metadata.row_group(group).num_rows
            if ((rows >= begin) & (rows < end)).any():
                yield begin, stored.read_row_group(group, columns=list(_IMAGES))
            begin = end
