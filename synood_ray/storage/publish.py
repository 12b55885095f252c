"""Publishing: whole parts, in unit order, become shards; a manifest names them and makes the run finished.

The order of writes is publication.json, shards, dataset card, manifest. The first says what goes in and how it is cut;
it is create-only, so all that follows is a function of it and of parts that never change. Whatever kills a publisher
in between, the next one makes the same shards, finds some of them there, and goes on. Two at once do the same.

Parts that come later (retries, a slower driver's units) make a publication of the next number, which takes the place of
the one before. Nothing is replaced or removed but manifest, shards that a publication of this run has named, and a
dataset card that nobody has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from synood_ray.errors import UserError
from synood_ray.records import sample_key
from synood_ray.storage import layout
from synood_ray.storage.card import dataset_card, is_dataset_card
from synood_ray.storage.damage import put_aside
from synood_ray.storage.distinct import Distinct, least_distance
from synood_ray.storage.parts import DamagedPart, PartCounts, outcomes, read_part, sample_schema, to_parquet
from synood_ray.storage.progress import given_up, sample_parts, survey
from synood_ray.storage.publication import (
    Publication,
    earlier_shards,
    is_outdated,
    put_publication,
    read_publications,
)
from synood_ray.storage.record import RunRecord, require_record
from synood_ray.storage.shards import absent_shards, read_manifest
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores.base import Entry, NotFound, Put, Store

ROWS_PER_SHARD = 1000
BYTES_PER_SHARD = 256 * 1024 * 1024

Say = Callable[[str], None]


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


class _SupersededError(Exception):
    """Somebody has decided on a newer publication."""


def publish(
    store: Store,
    *,
    rows_per_shard: int = ROWS_PER_SHARD,
    bytes_per_shard: int = BYTES_PER_SHARD,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Write the shards, the dataset card and the manifest of a run that has no work left; return the manifest.

    A shard ends with the unit that reaches rows_per_shard rows or bytes_per_shard bytes. All samples are in it, the
    rejected and the failed ones too (`accepted` and `failed` tell them apart). Of accepted ones of a class that are
    nearly the same only the first of the plan stays accepted (`Distinct`); parts stay as they are. Does nothing if all
    parts are published and all shards are there. say is told what was left alone because somebody else made or changed
    it.
    Raises Unfinished while units are missing that are not quarantined; UserError, naming it, if a part is damaged: it
    is put aside then, and its unit can be tried again.
    """
    record = require_record(store)
    counts: dict[Entry, PartCounts] = {}
    while True:
        parts, publications, manifest = sample_parts(store), read_publications(store), read_manifest(store)
        if manifest is not None and not publications:
            return manifest  # somebody has tidied up
        newest = publications[-1] if publications else None
        stands = manifest is not None and _stands(store, manifest, len(publications))
        try:
            if newest is None or newest.lacks(parts) or (not stands and newest.misses(parts, record.units)):
                decision = _decide(store, record, parts, counts, rows_per_shard, bytes_per_shard)
                put_publication(store, len(publications), decision)
                continue  # with this one, or with that of another publisher who was first
            if manifest is not None and stands:
                return manifest
            units = _published_units(store, record, newest, parts, counts)
            return _write(store, record, units, publications, manifest, say)
        except _SupersededError:
            continue
        except NotFound as error:
            raise Unfinished(f"{store.uri}: {error} any more; run the same command again") from error


def is_finished(store: Store) -> bool:
    """Whether the run is published: all its parts, as far as a few questions tell, and all shards there in their sizes.

    Raises UserError if a shard has another size than the manifest says.
    """
    manifest = read_manifest(store)
    if manifest is None:
        return False
    publications = read_publications(store)
    if not publications:
        return True
    return _stands(store, manifest, len(publications)) and not is_outdated(store, publications[-1])


def retract(store: Store) -> None:
    """Take the manifest back, and the dataset card if it is as it was written. Parts and shards stay."""
    if _is_own_card(store):
        store.delete(layout.CARD)
    store.delete(layout.MANIFEST)


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


def _decide(
    store: Store,
    record: RunRecord,
    parts: dict[int, list[Entry]],
    counts: dict[Entry, PartCounts],
    rows_per_shard: int,
    bytes_per_shard: int,
) -> Publication:
    """What goes into the publication: all committed units with all their retries, if the others were given up."""
    missing = set(range(record.units)) - parts.keys()
    lost = given_up(store, record.units) if missing else set()
    if missing - lost:
        raise Unfinished(f"{store.uri}: {len(missing - lost)} of {record.units} units are still to be done")
    retries = {str(unit): len(files) - 1 for unit, files in parts.items() if len(files) > 1}
    decision = Publication(rows_per_shard, bytes_per_shard, sorted(missing), retries)
    shards = plan_shards(_published_units(store, record, decision, parts, counts), rows_per_shard, bytes_per_shard)
    return replace(decision, shards=len(shards))


def _published_units(
    store: Store,
    record: RunRecord,
    publication: Publication,
    parts: dict[int, list[Entry]],
    counts: dict[Entry, PartCounts],
) -> list[_Unit]:
    """The units that were decided on; what was committed later is not among them. counts: what is known already."""
    left_out = set(publication.quarantined_units)
    named = {u: files[: 1 + publication.retries.get(str(u), 0)] for u, files in parts.items() if u not in left_out}
    found, damaged = survey(
        store, record, (entry for files in named.values() for entry in files if entry not in counts)
    )
    if damaged:
        put_aside(store, record, damaged)
        more = f" (and {len(damaged) - 1} more in {layout.DAMAGED})" if len(damaged) > 1 else ""
        raise UserError(f"{damaged[0]}{more}")
    counts.update(found)
    return [_Unit(unit, files, [counts[entry] for entry in files]) for unit, files in named.items()]


def _stands(store: Store, manifest: dict[str, Any], publications: int) -> bool:
    """Whether a manifest is that of the newest of so many publications, and its shards are there."""
    return manifest.get("publication", 0) == publications - 1 and not absent_shards(store, manifest)


def _write(
    store: Store,
    record: RunRecord,
    units: Sequence[_Unit],
    publications: list[Publication],
    before: dict[str, Any] | None,
    say: Say,
) -> dict[str, Any]:
    """Write the units of the newest publication. Raises _SupersededError as soon as there is a newer one."""
    number, publication = len(publications) - 1, publications[-1]
    if before is not None:
        retract(store)
    plan = plan_shards(units, publication.rows_per_shard, publication.bytes_per_shard)
    distinct = Distinct(least_distance(record.config), len(record.classes))
    shards = [_write_shard(store, record, index, plan, number, distinct) for index in range(len(plan))]
    settled = [outcomes(unit.counts) for unit in units]
    accepted, rejected, failed = (sum(unit[name] for unit in settled) for name in ("accepted", "rejected", "failed"))
    diversity = distinct.diversity()
    manifest = {
        "format": 1,
        "publication": number,
        "shards": shards,
        "fingerprint": record.fingerprint,
        "units": record.units,
        "planned": record.planned,
        "accepted": accepted - diversity.duplicates,
        "rejected": rejected + diversity.duplicates,
        "failed": failed,
        "quarantined": record.planned - sum(u.rows for u in units),
        "quarantined_units": publication.quarantined_units,
        "diversity": asdict(diversity),
    }
    _remove_leftovers(store, manifest, earlier_shards(publications, before), say)
    _check_newest(store, number)
    _put_card(store, dataset_card(record, manifest).encode(), say)
    while put_json(store, layout.MANIFEST, manifest) is Put.DIFFERENT:  # another publisher's
        found = read_manifest(store)
        if found is not None and found.get("publication", 0) >= number:
            return found
        store.delete(layout.MANIFEST)
    return manifest


def _check_newest(store: Store, number: int) -> None:
    if store.exists(layout.publication_key(number + 1)):
        raise _SupersededError


def _write_shard(
    store: Store, record: RunRecord, index: int, plan: Sequence[Sequence[_Unit]], number: int, distinct: Distinct
) -> dict[str, Any]:
    """Create a shard. What stands there otherwise was left by an earlier publication, or by another pyarrow."""
    units = plan[index]
    table = distinct.sift(pa.concat_tables([_unit_table(store, record, unit) for unit in units])).combine_chunks()
    data = to_parquet(table.cast(sample_schema(record.classes)))
    key = layout.shard_key(index, len(plan))
    while store.put_new(key, data) is Put.DIFFERENT:
        _check_newest(store, number)
        store.delete(key)
    return {
        "path": key,
        "rows": table.num_rows,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "units": [units[0].unit, units[-1].unit],
    }


def _unit_table(store: Store, record: RunRecord, unit: _Unit) -> pa.Table:
    """The rows of a unit, each as its latest retry left it."""
    planned = {sample_key(index) for index in record.unit_samples(unit.unit)}
    tables = []
    for entry in unit.files:
        try:
            table = read_part(store, entry.key)
            keys = set(table.column("key").to_pylist())
            if len(keys) < len(table) or not keys <= planned or set(table.column("unit").to_pylist()) - {unit.unit}:
                raise DamagedPart(store, entry.key, "its samples are not those of its unit")
        except DamagedPart as damaged:
            put_aside(store, record, [damaged])
            raise
        tables.append(table)
    if len(tables) == 1:
        return tables[0]
    rows = pa.concat_tables(tables)
    latest = {key: position for position, key in enumerate(rows.column("key").to_pylist())}
    return rows.take(pa.array(latest.values()))


def _remove_leftovers(store: Store, manifest: dict[str, Any], earlier: Collection[str], say: Say) -> None:
    """Remove earlier shards that the manifest will not name, and see that all it will name is there."""
    named = {shard["path"]: shard["bytes"] for shard in manifest["shards"]}
    found = {entry.key: entry.size for entry in store.list(layout.DATA)}
    for key in sorted(found.keys() - named.keys()):
        if key in earlier:
            store.delete(key)
        elif layout.is_shard(key):
            say(f"{store.uri}/{key}: named like a shard, but none of this run; left as it is, better moved elsewhere")
    if any(found.get(key) != size for key, size in named.items()):
        raise Unfinished(f"{store.uri}: a shard was removed by another process; run the same command again")


def _put_card(store: Store, card: bytes, say: Say) -> None:
    while store.put_new(layout.CARD, card) is Put.DIFFERENT:
        if not _is_own_card(store):
            say(f"{store.uri}/{layout.CARD}: not the dataset card as it was written; left as it is")
            return
        store.delete(layout.CARD)


def _is_own_card(store: Store) -> bool:
    try:
        return is_dataset_card(store.get(layout.CARD).decode())
    except (NotFound, UnicodeDecodeError):
        return False
