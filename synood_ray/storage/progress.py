"""How far a run has come, read from the store alone: units from names, samples from the footers of parts."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from synood_ray.errors import counted
from synood_ray.storage import layout
from synood_ray.storage.distinct import Diversity
from synood_ray.storage.parts import DamagedPart, PartCounts, outcomes, read_counts, read_latest
from synood_ray.storage.publication import is_outdated, read_publications, unpublished_retries
from synood_ray.storage.record import RunRecord, require_record
from synood_ray.storage.shards import read_manifest
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


class Again(NamedTuple):
    """Samples that a retry or rerun was to make again since the run was published last, and those that are made."""

    planned: int
    made: int

    @classmethod
    def of(cls, retries: Mapping[str, int], parts: Container[str]) -> Again | None:
        """Of these retries, key of the part -> samples, with these parts there; None if there are none."""
        planned = sum(retries.values())
        return cls(planned, sum(count for key, count in retries.items() if key in parts)) if planned else None


class Scans(NamedTuple):
    """Both stages."""

    prompts: Scan
    parts: Scan


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Progress of a run: units planned … quarantined; samples accepted, rejected and failed of those planned.

    leased is 0 where only the store is asked: who works on what is the driver's knowledge. diversity: None before the
    run is published, and of a run that version 0.1.0 published; near-duplicates count as accepted until then. again:
    None where nothing is run again; of what is, the latest outcome counts.
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
    planned_samples: int
    diversity: Diversity | None = None
    again: Again | None = None

    def units(self) -> dict[str, int]:
        """Units by state."""
        return {name: getattr(self, name) for name in ("planned", "committed", "waiting", "leased", "quarantined")}

    def samples(self) -> dict[str, int]:
        """Samples by what became of them; those that are not made yet are planned and nothing else."""
        made = {name: getattr(self, name) for name in ("accepted", "rejected", "failed")}
        return {"planned": self.planned_samples, **made}

    def headline(self) -> str:
        """One line: how far the run is, and what is run again of it."""
        left, again = self.waiting + self.leased, self.again
        words = [f"{left} of {self.planned} units to go"] if left else []
        if again and again.made < again.planned:
            words.append(f"{again.planned - again.made:,} of {counted(again.planned, 'sample')} to be run again")
        if self.published:
            return "; ".join(["published", *words])
        return f"running or stopped: {', '.join(words)}" if words else "finished, not published yet"

    def asdict(self) -> dict[str, Any]:
        """What ``synood status --json`` prints: units and samples apart, and beside them the flat names of 0.1.0."""
        samples = self.samples()
        flat = self.units() | {name: samples[name] for name in ("accepted", "rejected", "failed")}
        diversity = asdict(self.diversity) if self.diversity else None
        return {
            "units": self.units(),
            "samples": samples,
            "diversity": diversity,
            "again": self.again and self.again._asdict(),
            **flat,
            "published": self.published,
        }


def scan(store: Store, units: int, stage: layout.Stage = "parts") -> Scan:
    """What is done and what has failed in a stage, of so many units: what is there of others is none of the run's. Two
    listings; nothing is opened."""
    folder, unit_of = (layout.PARTS, layout.part_unit) if stage == "parts" else (layout.PROMPTS, layout.prompts_unit)
    names = (unit_of(entry.key) for entry in store.list(folder))
    done = np.fromiter((name[0] for name in names if name and not name[1] and name[0] < units), dtype=np.int64)
    done.sort()
    last = last_attempts((entry.key for entry in store.list(layout.ERRORS)), stage, units)
    final = np.array([unit for unit, error in last.items() if error.final], dtype=np.int64)
    return Scan(done, {u: e.attempt for u, e in last.items()}, set(np.setdiff1d(final, done).tolist()))


def scan_stages(store: Store, units: int) -> Scans:
    """`scan` of both stages."""
    return Scans(scan(store, units, "prompts"), scan(store, units, "parts"))


def last_attempts(keys: Iterable[str], stage: layout.Stage, units: int) -> dict[int, layout.ErrorName]:
    """The last attempt on record of every unit that has failed in a stage, by the names of the records."""
    last: dict[int, layout.ErrorName] = {}
    for error in map(layout.parse_error, keys):
        if error is None or error.stage != stage or error.unit >= units:
            continue
        if error.unit not in last or error.attempt > last[error.unit].attempt:
            last[error.unit] = error
    return last


def given_up(store: Store, units: int) -> set[int]:
    """Units that are quarantined in either stage."""
    prompts, parts = scan_stages(store, units)
    return prompts.quarantined | parts.quarantined


def survey(
    store: Store, record: RunRecord, parts: Iterable[Entry]
) -> tuple[dict[Entry, PartCounts], list[DamagedPart]]:
    """Counts of many parts, in their order, and those that are damaged or are not of their place in this run."""

    def look(part: Entry) -> PartCounts | DamagedPart:
        try:
            counts = read_counts(store, part)
        except DamagedPart as damaged:
            return damaged
        why = _misplaced(record, part.key, counts)
        return DamagedPart(store, part.key, why) if why else counts

    parts = list(parts)
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(zip(parts, readers.map(look, parts), strict=True))
    damaged = [what for _, what in found if isinstance(what, DamagedPart)]
    return {part: what for part, what in found if isinstance(what, PartCounts)}, damaged


def _misplaced(record: RunRecord, key: str, counts: PartCounts) -> str:
    """Why a part is not the one that belongs under this key; "" if it is."""
    unit, retry = layout.part_unit(key) or (record.units, 0)
    planned = len(record.unit_samples(unit))
    if unit >= record.units:
        return f"the run has {record.units} units"
    if counts.unit != unit:
        return f"it holds unit {counts.unit}"
    if counts.run not in ("", record.fingerprint):
        return "it was made by another run"
    if counts.rows != planned if retry == 0 else counts.rows > planned:
        return f"it has {counts.rows} samples, and the unit {planned}"
    return ""


def part_counts(store: Store, record: RunRecord, parts: Iterable[Entry]) -> dict[Entry, PartCounts]:
    """Counts of many parts, in their order. Raises DamagedPart if one is."""
    counts, damaged = survey(store, record, parts)
    if damaged:
        raise damaged[0]
    return counts


def failed_samples(store: Store, parts: Mapping[Entry, PartCounts]) -> dict[int, dict[str, int]]:
    """Failed samples of every unit that has any, after all retries so far: their keys, and the rerun that drew them.

    parts: counts of all parts, those of a unit in the order of its retries.
    """
    files = by_unit(parts.values())
    failing = {unit: len(found) for unit, found in files.items() if outcomes(found)["failed"]}
    rows = {unit: read_latest(store, unit, count, ["failed", "rerun"]) for unit, count in failing.items()}
    return {unit: {key: row["rerun"] for key, row in its.items() if row["failed"]} for unit, its in rows.items()}


def by_unit(counts: Iterable[PartCounts]) -> dict[int, list[PartCounts]]:
    """Counts of parts by their unit, in their order."""
    found: dict[int, list[PartCounts]] = {}
    for one in counts:
        found.setdefault(one.unit, []).append(one)
    return found


def sample_parts(store: Store) -> dict[int, list[Entry]]:
    """Parts of every committed unit, units ascending; the unit's own part first, then its retries in order."""
    found: dict[int, dict[int, Entry]] = {}
    for entry in store.list(layout.PARTS):
        name = layout.part_unit(entry.key)
        if name:
            found.setdefault(name[0], {})[name[1]] = entry
    return {unit: [found[unit][retry] for retry in sorted(found[unit])] for unit in sorted(found) if 0 in found[unit]}


def published_status(store: Store, record: RunRecord) -> RunStatus | None:
    """What a run has come to, from its manifest; None if it is not published, or has gone on since."""
    manifest, publications = read_manifest(store), read_publications(store)
    if not manifest or (publications and is_outdated(store, publications[-1])):
        return None
    quarantined = len(manifest["quarantined_units"])
    return RunStatus(
        planned=record.units,
        committed=manifest["units"] - quarantined,
        waiting=0,
        leased=0,
        quarantined=quarantined,
        **{name: manifest[name] for name in ("accepted", "rejected", "failed")},
        published=True,
        planned_samples=record.planned,
        diversity=Diversity(**manifest["diversity"]) if "diversity" in manifest else None,
        again=Again.of(unpublished_retries(store), ()),  # if one were made, the publication would lack it
    )


def run_status(store: Store) -> RunStatus:
    """Progress of the run in this store; of a published one, from its manifest. UserError where there is none."""
    record = require_record(store)
    if published := published_status(store, record):
        return published
    parts = sample_parts(store)
    flat = [entry for entries in parts.values() for entry in entries]
    settled = [outcomes(files) for files in by_unit(part_counts(store, record, flat).values()).values()]
    stuck = given_up(store, record.units) - parts.keys()
    return RunStatus(
        planned=record.units,
        committed=len(parts),
        waiting=record.units - len(parts) - len(stuck),
        leased=0,
        quarantined=len(stuck),
        accepted=sum(unit["accepted"] for unit in settled),
        rejected=sum(unit["rejected"] for unit in settled),
        failed=sum(unit["failed"] for unit in settled),
        published=False,
        planned_samples=record.planned,
        again=Again.of(unpublished_retries(store), {entry.key for entry in flat}),
    )
