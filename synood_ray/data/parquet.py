"""Images in Parquet files of the Hugging Face layout: a struct<bytes, path> column and a label column.

Class names come from the ClassLabel feature that ``datasets`` stores in the schema; else the labels themselves,
strings or integers, are the classes.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import DataSettings
from synood_ray.data import files
from synood_ray.data.class_names import name_classes
from synood_ray.data.decode import LFS, UnusableImage, read_header
from synood_ray.data.folder import THREADS
from synood_ray.data.images import UNLABELLED, ClassInfo, ImageSource, Progress, ScanResult, Skip
from synood_ray.data.names import some, split_of
from synood_ray.data.reader import ROWS_AT_ONCE, ImageReader, bytes_field, encoded_images, open_parquet
from synood_ray.errors import UserError, first_line
from synood_ray.records import Box, SourceImage

if TYPE_CHECKING:
    import pyarrow as pa

BOX_COLUMN = "box"
NO_LABEL = -1
"""What `datasets` writes where a row has no label, as in the test splits of competitions."""


def find_parquet(folder: files.Folder, setting: str) -> list[str]:
    """Parquet files meant by an address: the file, those of a pattern (``train-*.parquet``), or a folder's.

    Raises UserError if a folder's are of several splits: a test split is not to be mixed with what is trained on.
    """
    address = folder.address
    if files.is_file(address):
        return [address] if address.endswith(".parquet") else []
    if address.endswith(".parquet") and "*" in address:
        above, _, pattern = address.rpartition("/")
        return [files.join(above, key) for key in fnmatch.filter(files.Folder(above).files_inside(), pattern)]
    keys = [key for key in folder.files_inside() + folder.files_inside("data") if key.endswith(".parquet")]
    splits = {split_of(key): key for key in reversed(keys)}
    if len(splits.keys() - {""}) > 1:
        first = next(key for key in keys if split_of(key))
        pattern = first[: first.lower().rindex(split_of(first)) + len(split_of(first))] + "*.parquet"
        raise UserError(
            f"{setting}: {address} holds the splits {some(sorted(splits.keys() - {''}))}; name the files of one, such "
            f"as {files.join(address, pattern)}"
        )
    return [files.join(address, key) for key in keys]


def has_images(address: str, data: DataSettings, setting: str) -> bool:
    """Whether a Parquet file has the image column. Raises UserError if it is none."""
    return data.image_column in _schema(address, setting).names


class ParquetSource(ImageSource):
    """Rows of one or more Parquet files; a key is ``file.parquet#row``. See `synood_ray.data.source.open_source`."""

    def __init__(
        self,
        uri: str,
        addresses: Sequence[str],
        data: DataSettings,
        classes: Sequence[ClassInfo] | None,
        labelled: bool,
        setting: str,
        notes: Sequence[str] = (),
    ) -> None:
        self.uri = uri
        self.notes = notes
        self.classes = []
        self._addresses = list(addresses)
        self._data = data
        self._reader = ImageReader(data)
        self._where = {column: {value.strip() for value in values.split(",")} for column, values in data.where.items()}
        self._filter = f"{'evaluation' if setting.startswith('evaluation') else 'data'}.where"
        self._labels: dict[Any, int] | None = None  # value in the label column -> our label
        schemas = {address: self._check(address, labelled, setting) for address in addresses}
        if labelled:
            values, unused = _read_classes(schemas, data.label_column, self._where)
            if self._where and not values:
                raise self._no_row()
            if unused:
                self.notes = [*notes, f"{len(unused)} class names without an image are left out ({some(unused)})"]
            keys = list(values.values())
            self.classes = list(classes) if classes is not None else name_classes(keys, data.class_names, uri, setting)
            known = {info.key: label for label, info in enumerate(self.classes)}
            unknown = [key for key in keys if key not in known]
            if unknown:
                raise UserError(f"{setting}: {uri} has classes that data.uri lacks: {some(unknown)}")
            self._labels = {value: known[key] for value, key in values.items()}

    def scan(self, progress: Progress | None = None) -> ScanResult:
        images: list[SourceImage] = []
        skips: list[Skip] = []
        with ThreadPoolExecutor(min(THREADS, 8)) as pool:
            for done, found in enumerate(pool.map(self._scan_file, self._addresses), start=1):
                images += found.images
                skips += found.skips
                if progress:
                    progress(done, len(self._addresses))
        if self._where and not images and not skips:
            raise self._no_row()
        return ScanResult(sorted(images, key=lambda image: (image.label, image.key)), skips)

    def _no_row(self) -> UserError:
        return UserError(f"{self._filter}: no row of {self.uri} has {some(list(self._where))} as it is asked for")

    def census(self) -> list[int]:
        counts = [0] * len(self.classes)
        for address in self._addresses:
            for value, count in _distinct(address, self._data.label_column, self._where).items():
                counts[(self._labels or {})[value]] += count
        return counts

    def listing(self) -> dict[str, int]:
        return {address: files.sizes(address)[""] for address in self._addresses}

    def read(self, image: SourceImage) -> bytes:
        return self._reader.read(image)

    def _check(self, address: str, labelled: bool, setting: str) -> pa.Schema:
        """The file's schema. Raises UserError if it is no Parquet file, or lacks a column or has it in another type."""
        schema = _schema(address, setting)
        wanted = {"data.image_column": self._data.image_column}
        wanted |= {f"{self._filter}.{column}": column for column in self._where}
        if labelled:
            wanted["data.label_column"] = self._data.label_column
        for name, column in wanted.items():
            if column not in schema.names:
                raise UserError(f"{name}: {address} has no column {column!r}; it has {', '.join(schema.names)}")
        for column in [*wanted.values(), BOX_COLUMN]:
            if schema.names.count(column) > 1:
                raise UserError(f"{setting}: {address} has the column {column!r} {schema.names.count(column)} times")
        if bytes_field(self._data.image_column, schema) is None:
            kind = schema.field(self._data.image_column).type
            raise UserError(f"data.image_column: {address}, column {self._data.image_column!r} is {kind}, not images")
        if labelled and not _is_label(kind := schema.field(self._data.label_column).type):
            shown = f"{address}, column {self._data.label_column!r} is {kind}"
            raise UserError(f"data.label_column: {shown}; it must hold strings or integers, one class an image")
        if BOX_COLUMN in schema.names and not _is_box(kind := schema.field(BOX_COLUMN).type):
            raise UserError(f"{setting}: {address}, column {BOX_COLUMN!r} is {kind}, not lists of four numbers")
        return schema

    def _scan_file(self, address: str) -> ScanResult:
        name = address.removeprefix(f"{self.uri}/") if address != self.uri else address.rpartition("/")[2]
        images: list[SourceImage] = []
        skips: list[Skip] = []
        row = 0
        for table in self._tables(address):
            nothing = [None] * len(table)
            labels = nothing if self._labels is None else table[self._data.label_column].to_pylist()
            boxes = table[BOX_COLUMN].to_pylist() if BOX_COLUMN in table.column_names else nothing
            data = encoded_images(table[self._data.image_column])
            for encoded, label, box, taken in zip(data, labels, boxes, self._wanted(table), strict=True):
                key = f"{name}#{row}"
                row += 1
                if not taken:
                    continue
                try:
                    images.append(self._look_at(address, key, encoded, label, box))
                except UnusableImage as error:
                    skips.append(Skip(key, str(error)))
        return ScanResult(images, skips)

    def _tables(self, address: str) -> Iterator[pa.Table]:
        """The columns that are looked at, some rows at a time. Raises UserError where the file is damaged."""
        import pyarrow as pa

        with open_parquet(address) as file:
            schema = file.schema_arrow
            columns = [bytes_field(self._data.image_column, schema)]
            columns += [self._data.label_column] if self._labels is not None else []
            columns += [BOX_COLUMN] if BOX_COLUMN in schema.names else []
            columns += [column for column in self._where if column not in columns]
            try:
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                    yield pa.Table.from_batches([batch])
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"{address} is damaged: {first_line(error)}; fetch or write it again") from error

    def _wanted(self, table: pa.Table) -> list[bool]:
        """Which rows have the values that ``where`` names, compared as text."""
        columns = [
            [str(value) in values for value in table[column].to_pylist()] for column, values in self._where.items()
        ]
        return [all(row) for row in zip(*columns, strict=True)] if columns else [True] * len(table)

    def _look_at(self, address: str, key: str, encoded: pa.Buffer | None, value: Any, box: Any) -> SourceImage:
        import pyarrow as pa

        label, name = UNLABELLED, ""
        if self._labels is not None:
            if value is None or value == NO_LABEL:
                raise UnusableImage("has no label")
            if value not in self._labels:
                raise UserError(
                    f"data.label_column: {key} in {self.uri} has label {value!r}, outside 0..{len(self._labels) - 1}"
                )
            label = self._labels[value]
            name = self.classes[label].name
        if encoded is None:
            raise UnusableImage("the row holds no image bytes")
        width, height = read_header(pa.BufferReader(encoded), self._data)
        return SourceImage(key, label, name, address, encoded.size, width, height, _check_box(box, width, height))


def _check_box(box: Any, width: int, height: int) -> Box | None:
    if box is None:
        return None
    if len(box) != 4 or any(side is None or not math.isfinite(side) for side in box):
        raise UnusableImage(f"box {box} is not [x0, y0, x1, y1]")
    x0, y0, x1, y1 = (round(side) for side in box)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise UnusableImage(f"box {[x0, y0, x1, y1]} (x0, y0, x1, y1) does not lie in {width}x{height} pixels")
    return x0, y0, x1, y1


def _schema(address: str, setting: str) -> pa.Schema:
    import pyarrow as pa

    try:
        with open_parquet(address) as file:
            return file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        hint = "; it is a Git LFS pointer, git lfs pull fetches the file" if _is_pointer(address) else ""
        raise UserError(f"{setting}: {address} cannot be read as Parquet: {first_line(error)}{hint}") from error


def _is_pointer(address: str) -> bool:
    try:
        with files.open_file(address) as file:
            return file.read(len(LFS)) == LFS
    except OSError:
        return False


def _is_label(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return texts or pa.types.is_integer(kind)


def _is_box(kind: pa.DataType) -> bool:
    import pyarrow as pa

    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))


def _read_classes(
    schemas: dict[str, pa.Schema], column: str, where: Mapping[str, set[str]]
) -> tuple[dict[Any, str], list[str]]:
    """Value in the label column -> class key, in the order of the labels; and names of the feature that no row has."""
    addresses = list(schemas)
    names = [_class_label_names(schema, column) for schema in schemas.values()]
    for address, other in zip(addresses, names, strict=True):
        if other != names[0]:
            raise UserError(f"data.label_column: {address} names other classes than {addresses[0]}")
    values: set[Any] = set()
    for address in addresses:
        values |= _distinct(address, column, where).keys()
    if names[0] is not None:
        twice = {name for name, count in Counter(names[0]).items() if count > 1}
        keys = {i: f"{name}#{i}" if name in twice else name for i, name in enumerate(names[0])}
        if outside := sorted(values - keys.keys()):
            raise UserError(
                f"data.label_column: {addresses[0]} has the label {outside[0]!r}, outside 0..{len(keys) - 1}, for "
                "which it names classes"
            )
        return {i: key for i, key in keys.items() if i in values}, [key for i, key in keys.items() if i not in values]
    return {value: str(value) for value in sorted(values)}, []


def _class_label_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of the ClassLabel feature in the schema's ``huggingface`` metadata, None if there is none."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    try:
        feature = json.loads(stored)["info"]["features"][column]
        return [str(name) for name in feature["names"]] if feature.get("_type") == "ClassLabel" else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # another writer's metadata


def _distinct(address: str, column: str, where: Mapping[str, set[str]]) -> dict[Any, int]:
    """The labels of the rows that are wanted and how many rows have each, without those that mean "no label"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        with open_parquet(address) as file:
            table = file.read(columns=list({column, *where}))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{address} is damaged: {first_line(error)}; fetch or write it again") from error
    for name, values in where.items():
        table = table.filter(pa.array([str(value) in values for value in table[name].to_pylist()], pa.bool_()))
    counts = {one["values"]: one["counts"] for one in pc.value_counts(table[column]).to_pylist()}
    return {value: count for value, count in counts.items() if value is not None and value != NO_LABEL}
