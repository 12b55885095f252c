"""Parquet files of samples and of prompts, readable as they are by `datasets`, Ray Data and pandas.

The Hugging Face features stand in the schema's metadata and name every column, so that images show as images and
labels by name. Equal rows give equal bytes (with one version of pyarrow).
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synood_ray.errors import UserError
from synood_ray.records import SampleRow
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Entry, NotFound, Store

ROW_GROUP = 100
"""Rows a row group: what the Hugging Face viewer reads at once."""

VOLATILE = ("worker", "attempt", "milliseconds")
"""Columns that tell how a sample was made, not what it is; they may differ between two equal runs."""

_COUNTS = b"synood_ray"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FOOTER = 64 * 1024
"""Bytes read from the end of a part for its counts: its footer has 10 kB, and about 45 bytes more a class."""

_HF_IMAGE = {"_type": "Image"}

_UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError)
"""What reading a Parquet file that is damaged or none of ours can raise."""


def _named(value: pa.DataType) -> pa.DataType:
    """A dict with free keys as a list of (name, value): the schema stays the same whatever the keys are."""
    return pa.list_(pa.struct([("name", pa.string()), ("value", value)]))


_COLUMNS: dict[str, pa.DataType] = {
    "key": pa.string(),
    "image": _IMAGE,
    "source_key": pa.string(),
    "source_label": pa.int64(),
    "source_name": pa.string(),
    "mask": pa.string(),
    "prompt": pa.string(),
    "policy": pa.string(),
    "names": pa.list_(pa.string()),
    "weight": pa.float64(),
    "partner": pa.string(),
    "negative_label": pa.string(),
    "seed": pa.int64(),
    "rerun": pa.int32(),
    "rounds": pa.int32(),
    "score_trace": pa.list_(pa.float64()),
    "margin_trace": pa.list_(pa.float64()),
    "margin": pa.float64(),
    "accepted": pa.bool_(),
    "failed": pa.bool_(),
    "reject_reason": pa.string(),
    "companion": _IMAGE,
    "feature": pa.list_(pa.float16()),
    "models": _named(pa.string()),
    "unit": pa.int64(),
    "attempt": pa.int32(),
    "worker": pa.string(),
    "milliseconds": _named(pa.float64()),
    "code_version": pa.string(),
    "arithmetic": pa.string(),
}
"""Columns of a sample, one a field of `SampleRow`."""

_ADDED: dict[str, Any] = {
    "policy": "",
    "names": [],
    "weight": 0.0,
    "partner": "",
    "feature": [],
    "rerun": 0,
    "arithmetic": "",
}
"""Columns that parts of version 0.1.0 do not have, and what their samples have instead."""

SAMPLE_COLUMNS = tuple(_COLUMNS)
"""Their names, in order."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One context prompt: raw is the model's answer, context the cleaned words, prompt the diffusion model's prompt.

    error: why there is none (context and prompt are "" then); its sample fails. neighbours, box: as in
    `models.describers.base.Context`; None where they were not asked for, [] where the answer held none to be used.
    """

    key: str
    unit: int
    source_key: str
    context: str
    raw: str
    prompt: str
    error: str = ""
    neighbours: list[str] | None = None
    box: list[int] | None = None


_PROMPT_TYPES = {"unit": pa.int64(), "neighbours": pa.list_(pa.string()), "box": pa.list_(pa.int32())}
_PROMPT_SCHEMA = pa.schema([(name, _PROMPT_TYPES.get(name, pa.string())) for name in PromptRow.__slots__])


class DamagedPart(UserError):  # noqa: N818
    """A part that is cut off or garbled, or that was not made for its place. key: its name in the run."""

    def __init__(self, store: Store, key: str, why: str) -> None:
        super().__init__(f"{store.uri}/{key}: damaged ({why}); --retry-failed makes its unit again")
        self.key = key


@dataclass(frozen=True, slots=True)
class PartCounts:
    """What a part's footer says. rows = accepted + rejected + failed; size in bytes.

    run: fingerprint of the run that it was made for; "" in parts of version 0.1.0. replaced_accepted and
    replaced_rejected: of a retry, how many of its samples had been that before it; all its others had failed. rerun:
    the highest number of a rerun that its samples have.
    """

    unit: int
    rows: int
    accepted: int
    rejected: int
    failed: int
    size: int
    run: str = ""
    replaced_accepted: int = 0
    replaced_rejected: int = 0
    rerun: int = 0


def outcomes(files: Sequence[PartCounts]) -> dict[str, int]:
    """A unit's accepted, rejected and failed samples. files: its part, then its retries in order, none left out."""
    found = {name: sum(getattr(counts, name) for counts in files) for name in ("accepted", "rejected", "failed")}
    for retry in files[1:]:
        found["accepted"] -= retry.replaced_accepted
        found["rejected"] -= retry.replaced_rejected
        found["failed"] -= retry.rows - retry.replaced_accepted - retry.replaced_rejected
    return found


def sample_schema(class_names: Sequence[str]) -> pa.Schema:
    """Schema of samples; `source_label` shows as one of class_names (made unique, since names may repeat)."""
    schema = pa.schema(list(_COLUMNS.items()))
    features = {field.name: _hf_feature(field.type) for field in schema}
    features["image"] = features["companion"] = _HF_IMAGE
    features["source_label"] = {"names": unique_names(class_names), "_type": "ClassLabel"}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def samples_table(rows: Iterable[SampleRow], class_names: Sequence[str]) -> pa.Table:
    """Rows as an Arrow table with the schema of `sample_schema`."""
    return pa.Table.from_pylist([_flat(row) for row in rows], schema=sample_schema(class_names))


def encode_samples(
    rows: Sequence[SampleRow], class_names: Sequence[str], run: str = "", replaced: Mapping[str, int] | None = None
) -> bytes:
    """One unit's samples as a part: Parquet, with checksums of its pages and `PartCounts` in its footer.

    run: the run's fingerprint. replaced: of a retry, what `read_replaced` gives.

    Raises ValueError unless all rows are of one unit and every label has a class name.
    """
    units = {row.unit for row in rows}
    if len(units) != 1:
        raise ValueError(f"a part holds the rows of one unit, not of {sorted(units)}")
    if not all(0 <= row.source_label < len(class_names) for row in rows):
        raise ValueError(f"a label is outside the {len(class_names)} classes")
    kinds = Counter("failed" if row.failed else "accepted" if row.accepted else "rejected" for row in rows)
    counts: dict[str, Any] = {
        "unit": units.pop(),
        "rows": len(rows),
        **{k: kinds[k] for k in ("accepted", "rejected", "failed")},
    }
    counts |= {"run": run} if run else {}
    counts |= {f"replaced_{kind}": count for kind, count in (replaced or {}).items() if count}
    counts |= {"rerun": rerun} if (rerun := max(row.rerun for row in rows)) else {}
    table = samples_table(rows, class_names)
    metadata = {**(table.schema.metadata or {}), _COUNTS: json.dumps(counts)}
    return to_parquet(table.replace_schema_metadata(metadata), checksums=True)


def read_columns(data: bytes, columns: Sequence[str] = SAMPLE_COLUMNS) -> pa.Table:
    """These columns of the samples of a part or of a published shard, in that order; the others are not decoded."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    table = file.read(list(columns), use_threads=False)
    for name in columns:
        if name in _ADDED and name not in table.column_names:
            values = pa.array([_ADDED[name]] * len(table), type=_COLUMNS[name])
            table = table.append_column(name, values)
    table = table.select(columns)
    return table.cast(pa.schema([(name, _COLUMNS[name]) for name in columns]))


def picture(image: Mapping[str, Any] | None) -> bytes | None:
    """The bytes of an image column's value; None where there is no image."""
    return image["bytes"] if image else None


def decode_samples(data: bytes) -> list[SampleRow]:
    """Samples of a part or of a published shard."""
    return [_row(found) for found in read_columns(data).to_pylist()]


def read_part(store: Store, key: str, columns: Sequence[str] = SAMPLE_COLUMNS) -> pa.Table:
    """Columns of a part as they are stored. Raises DamagedPart if they cannot be read, NotFound."""
    data = store.get(key)
    try:
        return read_columns(data, columns)
    except _UNREADABLE as error:
        raise DamagedPart(store, key, _first_line(error)) from error


def encode_prompts(rows: Sequence[PromptRow]) -> bytes:
    """One unit's prompts as Parquet."""
    found = [{name: getattr(row, name) for name in PromptRow.__slots__} for row in rows]
    return to_parquet(pa.Table.from_pylist(found, schema=_PROMPT_SCHEMA))


def decode_prompts(data: bytes) -> list[PromptRow]:
    """Prompts of a unit."""
    return [PromptRow(**found) for found in pq.read_table(io.BytesIO(data)).to_pylist()]


def prompt_column(data: bytes, name: str) -> list[str]:
    """The different values of one column of a unit's prompts, the only one that is decoded."""
    return pq.read_table(io.BytesIO(data), columns=[name])[name].unique().to_pylist()  # type: ignore[no-any-return]


def read_prompts(store: Store, unit: int, retry: int = 0) -> dict[str, PromptRow]:
    """A unit's prompts by sample, as its retries up to that one left them; empty if it has none. Raises DamagedPart."""
    rows: dict[str, PromptRow] = {}
    for again in range(retry + 1):
        key = layout.prompts_key(unit, again)
        try:
            data = store.get(key)
        except NotFound:
            continue  # most retries need no new prompts
        try:
            rows |= {row.key: row for row in decode_prompts(data)}
        except _UNREADABLE as error:
            raise DamagedPart(store, key, _first_line(error)) from error
    return rows


def read_latest(store: Store, unit: int, retry: int, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Columns of a unit's samples by key, as they were before that retry. Raises DamagedPart, NotFound."""
    rows: dict[str, dict[str, Any]] = {}
    for earlier in range(retry):
        table = read_part(store, layout.part_key(unit, earlier), ["key", *columns])
        rows |= {row["key"]: row for row in table.to_pylist()}
    return rows


def read_replaced(store: Store, unit: int, retry: int, keys: Iterable[str]) -> dict[str, int]:
    """How many of these samples a unit's retry takes from its accepted and its rejected ones."""
    before = read_latest(store, unit, retry, ["accepted", "failed"])
    found = [before[key] for key in keys if not before[key]["failed"]]
    accepted = sum(row["accepted"] for row in found)
    return {"accepted": accepted, "rejected": len(found) - accepted}


def read_counts(store: Store, part: Entry) -> PartCounts:
    """Counts of a part from its footer: one small read, whatever the part's size. Raises DamagedPart, NotFound."""
    start = max(0, part.size - _FOOTER)
    tail = store.get_range(part.key, start, part.size - start)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] != b"PAR1" or length > part.size:
        raise DamagedPart(store, part.key, "its end is not that of a Parquet file")
    if length > len(tail):
        tail = store.get_range(part.key, part.size - length, length)
    try:
        metadata = pq.read_metadata(pa.BufferReader(b"PAR1" + tail[-length:])).metadata
        return PartCounts(**json.loads((metadata or {})[_COUNTS]), size=part.size)
    except _UNREADABLE as error:
        raise DamagedPart(store, part.key, f"its footer is no part's: {_first_line(error)}") from error


def to_parquet(table: pa.Table, row_group: int = ROW_GROUP, checksums: bool = False) -> bytes:
    """A table as Parquet bytes, the same bytes for the same table.

    row_group: rows a row group. checksums: write a CRC with every page.
    """
    buffer = io.BytesIO()
    plain = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    pq.write_table(
        table,
        buffer,
        row_group_size=row_group,
        compression="zstd",
        use_dictionary=[name for name in plain if table.schema.field(name).type == pa.string()],
        write_statistics=plain,
        write_page_checksum=checksums,
    )
    return buffer.getvalue()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__} {error}".splitlines()[0]


def _flat(row: SampleRow) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in _COLUMNS}
    found["image"] = None if row.image is None else {"bytes": row.image, "path": f"{row.key}.png"}
    found["companion"] = None if row.companion is None else {"bytes": row.companion, "path": f"{row.key}-companion.png"}
    for name in ("models", "milliseconds"):
        found[name] = [{"name": k, "value": v} for k, v in sorted(found[name].items())]
    return found


def _row(found: dict[str, Any]) -> SampleRow:
    for name in ("image", "companion"):
        found[name] = picture(found[name])
    for name in ("models", "milliseconds"):
        found[name] = {pair["name"]: pair["value"] for pair in found[name]}
    return SampleRow(**found)


def unique_names(names: Sequence[str]) -> list[str]:
    """Names that all differ: those that occur more than once get their place behind them."""
    counts = Counter(names)
    shown: dict[str, None] = {}
    for label, name in enumerate(names):
        unique = name if counts[name] == 1 else f"{name} #{label}"
        while unique in shown or (unique != name and unique in counts):  # a class may really be called "crane #3"
            unique += "'"
        shown[unique] = None
    return list(shown)


def _hf_feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _hf_feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _hf_feature(field.type) for field in kind}
    dtype = {"double": "float64", "halffloat": "float16"}.get(str(kind), str(kind))
    return {"dtype": dtype, "_type": "Value"}
