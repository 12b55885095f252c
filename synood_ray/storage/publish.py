"""Publishing: whole parts, in unit order, become shards; a manifest names them and makes the run finished.

The order of writes is publication.json, shards, dataset card, manifest. The first says what goes in and how it is cut;
it is create-only, so all that follows is a function of it and of parts that never change. Whatever kills a publisher
in between, the next one makes the same shards, finds some of them there, and goes on. Two at once do the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from synood_ray.records import SampleRow
from synood_ray.storage import layout
from synood_ray.storage.card import dataset_card
from synood_ray.storage.parts import PartCounts, decode_samples, samples_table, to_parquet
from synood_ray.storage.progress import part_counts, sample_parts, scan
from synood_ray.storage.run import RunRecord, load_json, put_json, read_run
from synood_ray.storage.stores.base import Entry, NotFound, Put, Store

ROWS_PER_SHARD = 1000
BYTES_PER_SHARD = 256 * 1024 * 1024


class Unfinished(Exception):  # noqa: N818
    """The run still has units that are neither committed nor quarantined."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """One committed unit: its files (the part, then retries), and their counts."""

    unit: int
    files: list[Entry]
    counts: list[PartCounts]

    @property
    def rows(self) -> int:
        return self.counts[0].rows

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)


def publish(
    store: Store, *, rows_per_shard: int = ROWS_PER_SHARD, bytes_per_shard: int = BYTES_PER_SHARD
) -> dict[str, Any]:
    """Write the shards, the dataset card and the manifest of a run that has no work left; return the manifest.

    A shard ends with the unit that reaches rows_per_shard rows or bytes_per_shard bytes. All samples are in it, the
    rejected and the failed ones too (`accepted` and `failed` tell them apart). Does nothing if the run is published.
    Raises Unfinished while units are missing that are not quarantined.
    """
    manifest = read_manifest(store)
    if manifest is not None:
        return manifest
    record = read_run(store)
    if record is None:
        raise Unfinished(f"{store.uri}: no run here")
    publication = load_json(store, layout.PUBLICATION)
    if publication is None:
        put_json(store, layout.PUBLICATION, _decide(store, record, rows_per_shard, bytes_per_shard))
        publication = load_json(store, layout.PUBLICATION) or {}
    units = _published_units(store, publication)
    plan = plan_shards(units, publication["rows_per_shard"], publication["bytes_per_shard"])
    shards = [_write_shard(store, record, index, len(plan), members) for index, members in enumerate(plan)]
    accepted, rejected = (sum(getattr(c, name) for u in units for c in u.counts) for name in ("accepted", "rejected"))
    manifest = {
        "format": 1,
        "shards": shards,
        "fingerprint": record.fingerprint,
        "units": record.units,
        "planned": record.planned,
        "accepted": accepted,
        "rejected": rejected,
        "failed": sum(u.counts[-1].failed for u in units),
        "quarantined": record.planned - sum(u.rows for u in units),
        "quarantined_units": publication["quarantined_units"],
    }
    _remove_leftovers(store, {shard["path"]: shard["bytes"] for shard in shards})
    if load_json(store, layout.PUBLICATION) != publication:
        raise Unfinished(f"{store.uri}: another process has taken the publication back; run the same command again")
    _put(store, layout.CARD, dataset_card(record, manifest).encode())
    put_json(store, layout.MANIFEST, manifest)
    published = read_manifest(store)  # another publisher may have been first
    return manifest if published is None else published


def retract(store: Store) -> None:
    """Take a publication back, to publish again after a retry of failed samples. Parts and shards stay."""
    store.delete(layout.MANIFEST)
    store.delete(layout.CARD)
    store.delete(layout.PUBLICATION)


def read_manifest(store: Store) -> dict[str, Any] | None:
    """The manifest of a published run, or None."""
    return load_json(store, layout.MANIFEST)


def manifest_digest(store: Store, prefix: str = "") -> str | None:
    """Hex sha256 of the manifest (of a run below prefix): which samples are published. None if none are.

    What is derived from a run's samples keeps it, and so can tell when a retry has changed them.
    """
    try:
        return hashlib.sha256(store.get(prefix + layout.MANIFEST)).hexdigest()
    except NotFound:
        return None


def iter_samples(store: Store) -> Iterator[SampleRow]:
    """All rows of a published run in order, one shard in memory at a time. Raises Unfinished if it is not published."""
    manifest = read_manifest(store)
    if manifest is None:
        raise Unfinished(f"{store.uri}: not published yet")
    for shard in manifest["shards"]:
        yield from decode_samples(store.get(shard["path"]))


def plan_shards(units: Sequence[_Unit], rows_per_shard: int, bytes_per_shard: int) -> list[list[_Unit]]:
    """Cut units into shards. A function of the units' rows and sizes alone, which never change once committed."""
    shards: list[list[_Unit]] = []
    open_shard: list[_Unit] = []
    for unit in units:
        open_shard.append(unit)
        full = sum(u.rows for u in open_shard) >= rows_per_shard or sum(u.size for u in open_shard) >= bytes_per_shard
        if full:
            shards.append(open_shard)
            open_shard = []
    return [*shards, open_shard] if open_shard else shards


def _decide(store: Store, record: RunRecord, rows_per_shard: int, bytes_per_shard: int) -> dict[str, Any]:
    """What goes into the publication: all committed units with all their retries, if the others were given up."""
    parts = sample_parts(store)
    missing = set(range(record.units)) - parts.keys()
    given_up = scan(store, "parts").quarantined | scan(store, "prompts").quarantined if missing else set()
    if missing - given_up:
        raise Unfinished(f"{store.uri}: {len(missing - given_up)} of {record.units} units are still to be done")
    return {
        "rows_per_shard": rows_per_shard,
        "bytes_per_shard": bytes_per_shard,
        "quarantined_units": sorted(missing),
        "retries": {str(unit): len(files) - 1 for unit, files in parts.items() if len(files) > 1},
    }


def _published_units(store: Store, publication: dict[str, Any]) -> list[_Unit]:
    """The units that were decided on; what was committed later is not among them."""
    left_out, retries = set(publication["quarantined_units"]), publication["retries"]
    parts = {u: files[: 1 + retries.get(str(u), 0)] for u, files in sample_parts(store).items() if u not in left_out}
    counts = iter(part_counts(store, (entry for files in parts.values() for entry in files)))
    return [_Unit(unit, files, [next(counts) for _ in files]) for unit, files in parts.items()]


def _write_shard(store: Store, record: RunRecord, index: int, total: int, units: Sequence[_Unit]) -> dict[str, Any]:
    rows = [row for unit in units for row in _unit_rows(store, unit)]
    data = to_parquet(samples_table(rows, record.classes))
    key = layout.shard_key(index, total)
    _put(store, key, data)
    return {
        "path": key,
        "rows": len(rows),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "units": [units[0].unit, units[-1].unit],
    }


def _unit_rows(store: Store, unit: _Unit) -> list[SampleRow]:
    """The rows of a unit, a failed one replaced by its latest retry."""
    rows: dict[str, SampleRow] = {}
    for entry in unit.files:
        rows.update({row.key: row for row in decode_samples(store.get(entry.key))})
    return list(rows.values())


def _put(store: Store, key: str, data: bytes) -> None:
    """Create; what stands there otherwise, before there is a manifest, is left from a publication taken back."""
    while store.put_new(key, data) is Put.DIFFERENT:
        store.delete(key)


def _remove_leftovers(store: Store, shards: dict[str, int]) -> None:
    """Leave nothing in the data folder that the manifest will not name, and see that all it will name is there."""
    found = {entry.key: entry.size for entry in store.list(layout.DATA)}
    for key in found.keys() - shards.keys():
        store.delete(key)
    if any(found.get(key) != size for key, size in shards.items()):
        raise Unfinished(f"{store.uri}: a shard was removed by another process; run the same command again")
