"""Reading single images by their `SourceImage` alone: what a worker on another machine does."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import DataSettings
from synood_ray.data import files
from synood_ray.errors import first_line
from synood_ray.locations import resolve
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_OPEN_FILES = 8
ROWS_AT_ONCE = 64
"""Rows that are read at once: of the largest photos a gigabyte; Arrow cannot read two of a row group in one piece."""
_ROW_GROUPS = 2  # row groups whose encoded images are kept; one may be 100 MB


def open_parquet(address: str) -> pq.ParquetFile:
    """The Parquet file at an address. Raises OSError, or pyarrow.ArrowException if it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if address.startswith(files.S3):
        return pq.ParquetFile(files.open_file(address))
    files.check_regular(address)
    return pq.ParquetFile(pa.OSFile(resolve(address)))


def bytes_field(column: str, schema: pa.Schema) -> str | None:
    """Path of the encoded bytes in an image column: ``image.bytes`` of a struct, the column itself if it is binary."""
    import pyarrow as pa

    kind = schema.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return f"{column}.bytes"
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return column if binary else None


def encoded_images(column: pa.ChunkedArray) -> Iterator[pa.Buffer | None]:
    """The encoded images of an image column, in order, not copied; None where a row has no bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for chunk in column.chunks:
        values = pc.struct_field(chunk, "bytes") if pa.types.is_struct(chunk.type) else chunk
        for value in values:
            yield value.as_buffer()


class ImageReader:
    """Reads the encoded bytes of images anywhere. Safe to use from several threads; make one a process.

    A row of a Parquet file costs the reading of its row group, the last two of which are kept: read neighbours in turn.
    """

    def __init__(self, data: DataSettings) -> None:
        self._column = data.image_column
        self._lock = threading.Lock()
        self._files: OrderedDict[str, tuple[Any, list[int]]] = OrderedDict()
        self._groups: OrderedDict[tuple[str, int], list[pa.Buffer | None]] = OrderedDict()

    def read(self, image: SourceImage) -> bytes:
        """Encoded bytes of one image. Raises OSError if it is not there any more."""
        if not image.uri.endswith(".parquet"):
            return files.read_bytes(image.uri)
        row = int(image.key.rpartition("#")[2])
        with self._lock:
            data = self._row(image.uri, row)
        if data is None:
            raise FileNotFoundError(f"{image.key}: the row holds no image bytes")
        return data.to_pybytes()

    def _row(self, address: str, row: int) -> pa.Buffer | None:
        file, ends = _cached(self._files, address, _OPEN_FILES, lambda: self._open(address))
        group = bisect_right(ends, row)
        if group == len(ends):
            raise FileNotFoundError(f"{address} has only {ends[-1] if ends else 0} rows, not row {row}")
        images = _cached(self._groups, (address, group), _ROW_GROUPS, lambda: self._read_group(file, group))
        return images[row - (ends[group - 1] if group else 0)]

    @staticmethod
    def _open(address: str) -> tuple[pq.ParquetFile, list[int]]:
        file = open_parquet(address)
        rows = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        return file, list(accumulate(rows))

    def _read_group(self, file: pq.ParquetFile, group: int) -> list[pa.Buffer | None]:
        import pyarrow as pa

        field = bytes_field(self._column, file.schema_arrow)
        try:
            batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[field])
            return [
                image for batch in batches for image in encoded_images(pa.Table.from_batches([batch])[self._column])
            ]
        except pa.ArrowException as error:
            raise OSError(f"damaged: {first_line(error)}") from error


def _cached(cache: OrderedDict[Any, Any], key: Any, size: int, make: Any) -> Any:
    """The cached value, made if need be; the least recently used one beyond ``size`` is dropped first."""
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    while len(cache) >= size:
        cache.popitem(last=False)
    cache[key] = make()
    return cache[key]
