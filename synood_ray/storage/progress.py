"""How far a run has come, read from the store alone: units from names, samples from the footers of parts."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow.parquet as pq

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.parts import PartCounts, read_counts
from synood_ray.storage.publication import is_outdated, read_publications
from synood_ray.storage.run import load_json, read_run
from synood_ray.storage.stores.base import Entry, Store

_READERS = 16
"""Small reads in flight at once; a store answers them in parallel."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a listing says about one stage; it is what a queue is built from on resume.

    committed: units that have their file, int64, ascending. attempts: attempts on record of every unit that failed.
    quarantined: units without a file whose last attempt on record was their final one.
    """

    committed: np.ndarray
    attempts: dict[int, int]
    quarantined: set[int]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Progress of a run: units planned … quarantined, samples accepted, rejected and failed.

    leased is 0 where only the store is asked: who works on what is the driver's knowledge.
    """

    planned: int
    committed: int
    waiting: int
    leased: int
    quarantined: int
    accepted: int
    rejected: int
    failed: int
    published: bool

    def asdict(self) -> dict[str, int | bool]:
        """The fields by name, as `status.py --json` prints them."""
        return asdict(self)


def scan(store: Store, stage: layout.Stage = "parts") -> Scan:
    """What is done and what has failed in a stage. Two listings; nothing is opened."""
    folder, unit_of = (layout.PARTS, layout.part_unit) if stage == "parts" else (layout.PROMPTS, layout.prompts_unit)
    names = (unit_of(entry.key) for entry in store.list(folder))
    units = np.fromiter((name[0] for name in names if name and not name[1]), dtype=np.int64)
    units.sort()
    last: dict[int, layout.ErrorName] = {}
    for entry in store.list(layout.ERRORS):
        error = layout.parse_error(entry.key)
        if error and error.stage == stage and (error.unit not in last or error.attempt > last[error.unit].attempt):
            last[error.unit] = error
    final = np.array([unit for unit, error in last.items() if error.final], dtype=np.int64)
    return Scan(units, {u: e.attempt for u, e in last.items()}, set(np.setdiff1d(final, units).tolist()))


def part_counts(store: Store, parts: Iterable[Entry]) -> list[PartCounts]:
    """Counts of many parts, in their order."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda part: read_counts(store, part), parts))


def failed_samples(store: Store) -> dict[int, list[str]]:
    """Keys of the failed samples of every committed unit that has any, after all retries so far."""
    parts = sample_parts(store)
    latest = {unit: entries[-1] for unit, entries in parts.items()}
    counts = part_counts(store, latest.values())
    failed: dict[int, list[str]] = {}
    for (unit, entry), count in zip(latest.items(), counts, strict=True):
        if count.failed:
            table = pq.read_table(io.BytesIO(store.get(entry.key)), columns=["key", "failed"])
            failed[unit] = [row["key"] for row in table.to_pylist() if row["failed"]]
    return failed


def sample_parts(store: Store) -> dict[int, list[Entry]]:
    """Parts of every committed unit, units ascending; the unit's own part first, then its retries in order."""
    found: dict[int, dict[int, Entry]] = {}
    for entry in store.list(layout.PARTS):
        name = layout.part_unit(entry.key)
        if name:
            found.setdefault(name[0], {})[name[1]] = entry
    return {unit: [found[unit][retry] for retry in sorted(found[unit])] for unit in sorted(found) if 0 in found[unit]}


def run_status(store: Store) -> RunStatus:
    """Progress of the run in this store; of a published one, from its manifest. UserError where there is none."""
    record = read_run(store)
    if record is None:
        raise UserError(f"{store.uri}: no run here ({layout.RUN} is missing)")
    manifest, publications = load_json(store, layout.MANIFEST), read_publications(store)
    if manifest and not (publications and is_outdated(store, publications[-1])):
        quarantined = len(manifest["quarantined_units"])
        done = manifest["units"] - quarantined
        samples = {name: manifest[name] for name in ("accepted", "rejected", "failed")}
        return RunStatus(record.units, done, 0, 0, quarantined, **samples, published=True)
    parts = sample_parts(store)
    flat = [entry for entries in parts.values() for entry in entries]
    counts = part_counts(store, flat)
    # A retry holds all samples that had failed before it, so of the failed only the last file's count stays.
    last = {count.unit: count.failed for count in counts}
    stuck = (scan(store, "parts").quarantined | scan(store, "prompts").quarantined) - parts.keys()
    return RunStatus(
        planned=record.units,
        committed=len(parts),
        waiting=record.units - len(parts) - len(stuck),
        leased=0,
        quarantined=len(stuck),
        accepted=sum(count.accepted for count in counts),
        rejected=sum(count.rejected for count in counts),
        failed=sum(last.values()),
        published=False,
    )
