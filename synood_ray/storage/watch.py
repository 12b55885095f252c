"""A run watched from its store alone, from any machine: how far it is, how fast it goes, what goes wrong.

Whether somebody works on it is told by when its objects were written: that is all that a store knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from synood_ray.storage import layout
from synood_ray.storage.causes import Cause, causes
from synood_ray.storage.parts import DamagedPart, PartCounts, outcomes, read_counts
from synood_ray.storage.progress import Again, last_attempts, published_status
from synood_ray.storage.publication import unpublished_retries
from synood_ray.storage.record import require_record
from synood_ray.storage.stored_json import load_json
from synood_ray.storage.stores.base import Entry, NotFound, Store

WINDOW = 300.0
"""Seconds over which the rate is measured."""
QUIET = 300.0
"""Seconds without a new object after which a run counts as stopped, at least; or three times its slowest units."""
_AT_ONCE = 2000  # parts and errors that are read in one look: what a look costs has a bound
_READERS = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """A run at one moment. Samples; rate: a second, over the last minutes; latest: seconds since the latest object.

    read: parts whose outcomes are in accepted, rejected and failed, of those that are there. again: see `RunStatus`.
    """

    state: str
    planned: int
    described: int
    sampled: int
    accepted: int
    rejected: int
    failed: int
    read: tuple[int, int]
    rate: float
    latest: float | None
    quarantined: int
    causes: Sequence[Cause]
    again: Again | None = None

    @property
    def left(self) -> float | None:
        """Seconds until all is sampled, at this rate; None if nothing moves or all is done."""
        samples = self.planned - self.sampled + (self.again.planned - self.again.made if self.again else 0)
        return samples / self.rate if samples and self.rate else None


class Watch:
    """Looks at a run again and again; what cannot change is read once."""

    def __init__(self, store: Store) -> None:
        self.store, self.record = store, require_record(store)
        self._counts: dict[str, PartCounts] = {}
        self._errors: dict[str, str] = {}

    def look(self, now: float) -> Picture:
        """The run now; now: seconds since 1970. Raises Unavailable if the store stays away."""
        parts = [entry for entry in self.store.list(layout.PARTS) if layout.part_unit(entry.key)]
        first = [entry for entry in parts if layout.part_unit(entry.key)[1] == 0]  # type: ignore[index]
        prompts = [entry for entry in self.store.list(layout.PROMPTS) if layout.prompts_unit(entry.key)]
        errors = [entry for entry in self.store.list(layout.ERRORS) if layout.parse_error(entry.key)]
        self._read(parts, errors)
        sampled = self._samples(first)
        latest = max((entry.modified for entry in (*parts, *prompts, *errors)), default=0.0)
        quiet = now - latest if latest else None
        status = published_status(self.store, self.record)
        if status:
            state, sampled = status.headline(), status.accepted + status.rejected + status.failed
        elif quiet is None:
            state = "nothing is made yet"
        elif quiet < max(QUIET, 3 * _gap(parts)):
            state = "running"
        else:
            state = "stopped, or nothing gets done; the same command resumes it"
        outcomes = {name: getattr(status, name) for name in ("accepted", "rejected", "failed")} if status else {}
        retries = unpublished_retries(self.store)
        made = self._samples([entry for entry in first if now - entry.modified < WINDOW])
        made += sum(retries.get(entry.key, 0) for entry in parts if now - entry.modified < WINDOW)
        stages: tuple[layout.Stage, ...] = ("prompts", "parts")
        names = [entry.key for entry in errors]
        last = [last_attempts(names, stage, self.record.units) for stage in stages]
        given_up = {unit for attempts in last for unit, attempt in attempts.items() if attempt.final}
        done = {layout.part_unit(entry.key)[0] for entry in first}  # type: ignore[index]
        return Picture(
            state,
            planned=self.record.planned,
            described=max(self._samples(prompts), sampled),
            sampled=sampled,
            **(outcomes or self._outcomes()),
            read=(len(first), len(first)) if outcomes else (sum(e.key in self._counts for e in parts), len(parts)),
            rate=made / WINDOW,
            latest=quiet,
            quarantined=len(given_up - done),
            causes=causes(self._errors.values()),
            again=Again.of(retries, {entry.key for entry in parts}),
        )

    def _samples(self, entries: Sequence[Entry]) -> int:
        return sum(len(self.record.unit_samples(_unit(entry))) for entry in entries)

    def _read(self, parts: Sequence[Entry], errors: Sequence[Entry]) -> None:
        """Outcomes and errors that are not known yet, so many of them."""
        with ThreadPoolExecutor(_READERS) as readers:
            new = [entry for entry in parts if entry.key not in self._counts][:_AT_ONCE]
            counts = zip([entry.key for entry in new], readers.map(self._count, new), strict=True)
            self._counts.update((key, one) for key, one in counts if one is not None)  # a damaged part is made again
            keys = [entry.key for entry in errors if entry.key not in self._errors][-_AT_ONCE:]
            self._errors.update(zip(keys, readers.map(self._error, keys), strict=True))

    def _count(self, part: Entry) -> PartCounts | None:
        try:
            return read_counts(self.store, part)
        except (DamagedPart, NotFound):  # `synood synthesize` says what is wrong with it
            return None

    def _error(self, key: str) -> str:
        found = load_json(self.store, key)
        return str(found.get("error", "")) if isinstance(found, dict) else ""

    def _outcomes(self) -> dict[str, int]:
        """As in `run_status`, of the units whose files have been read."""
        names = sorted((name, key) for key in self._counts if (name := layout.part_unit(key)))
        files: dict[int, list[PartCounts]] = {}
        for (unit, retry), key in names:
            if len(files.setdefault(unit, [])) == retry:  # none before it is still to be read
                files[unit].append(self._counts[key])
        settled = [outcomes(its) for its in files.values() if its]
        return {name: sum(unit[name] for unit in settled) for name in ("accepted", "rejected", "failed")}


def _unit(entry: Entry) -> int:
    name = layout.part_unit(entry.key) or layout.prompts_unit(entry.key)
    return name[0] if name else -1


def _gap(parts: Sequence[Entry]) -> float:
    """Longest wait for a part among the latest ten, seconds."""
    times = sorted(entry.modified for entry in parts)[-10:]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
