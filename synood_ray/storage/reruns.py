"""Reruns: which samples of a published run are drawn anew. A rerun is stored, create-only, before its first sample is.

So whatever ends it, the same command goes on with the same samples, and finds nothing left of it once all are made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from synood_ray.errors import UserError, counted
from synood_ray.records import redrawn_seed
from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.stored_json import load_json, put_json
from synood_ray.storage.stores.base import Put, Store
from synood_ray.storage.where import Where

_SHOWN = 5  # reasons, and classes


@dataclass(frozen=True)
class Choice:
    """What a user asks for. again: 1, or another number to draw once more what was drawn before."""

    where: Where
    again: int = 1


@dataclass(frozen=True)
class Rerun:
    """A choice as it is stored. number: from 1. units: unit -> keys of those of its samples that are drawn anew."""

    number: int
    where: str
    again: int
    units: Mapping[int, Sequence[str]]

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return sum(map(len, self.units.values()))

    def seed(self, seed: int) -> int:
        """What a sample is drawn with that the plan gave this seed."""
        return redrawn_seed(seed, self.where, self.again)


def chosen(run: Run, choice: Choice) -> pa.Table:
    """The rows of a published run that are chosen: key, unit, class, reason and what the predicate looks at.

    Raises UserError if a shard is not the one that was published.
    """
    columns = list(dict.fromkeys(("key", "unit", "source_name", "reject_reason", *choice.where.columns)))
    return pa.concat_tables([choice.where.of(table) for table in run.rows(columns)])


def in_words(rows: pa.Table, planned: int) -> str:
    """Chosen rows: "40 of 200 samples, in 12 units: 30 rounds, 10 accepted; 25 owl, 15 duck"."""
    reasons = (reason.partition(":")[0] or "accepted" for reason in rows.column("reject_reason").to_pylist())
    units = len(rows.column("unit").unique())
    found = f"{_counted(reasons)}; {_counted(rows.column('source_name').to_pylist())}"
    return f"{len(rows):,} of {counted(planned, 'sample')}, in {counted(units, 'unit')}: {found}"


def none_chosen(run: Run, choice: Choice) -> str:
    """That no row is chosen, and what the rows have in those columns where a slip of the pen is likely."""
    told = f"nothing to draw anew: no row has {choice.where.text}"
    if "reject_reason" in choice.where.columns:
        told += f"; reasons: {_counted(reason.partition(':')[0] or 'none' for reason in run.outcomes().elements())}"
    if "source_name" in choice.where.columns:
        told += f"; classes: {', '.join(run.classes[: 4 * _SHOWN])}{', …' * (len(run.classes) > 4 * _SHOWN)}"
    return told


def _counted(names: Iterable[str]) -> str:
    found = Counter(names).most_common()
    return ", ".join([*(f"{count:,} {name}" for name, count in found[:_SHOWN]), *["…"][: len(found) > _SHOWN]])


def read_reruns(store: Store) -> dict[int, Rerun]:
    """All reruns of a run, by number."""
    numbers = sorted(number for entry in store.list(layout.RERUNS) if (number := layout.rerun_number(entry.key)))
    return {number: _read(store, number) for number in numbers}


def _read(store: Store, number: int) -> Rerun:
    key = layout.rerun_key(number)
    try:
        found = load_json(store, key) or {}
        units = {int(unit): list(keys) for unit, keys in found["units"].items()}
        return Rerun(number, found["where"], found["again"], units)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{store.uri}/{key}: not a rerun of synood_ray ({error}); was it edited?") from error


def find_same(store: Store, choice: Choice) -> Rerun | None:
    """The rerun of this choice, if there is one."""
    return _same(read_reruns(store), choice)


def _same(known: Mapping[int, Rerun], choice: Choice) -> Rerun | None:
    wanted = choice.where.text, choice.again
    return next((one for one in known.values() if (one.where, one.again) == wanted), None)


def put_rerun(store: Store, choice: Choice, rows: pa.Table) -> Rerun:
    """Store a rerun of these rows; if somebody else was faster with the same choice, theirs is returned."""
    units: dict[int, list[str]] = {}
    for key, unit in zip(rows.column("key").to_pylist(), rows.column("unit").to_pylist(), strict=True):
        units.setdefault(unit, []).append(key)
    value = {"where": choice.where.text, "again": choice.again, "units": {str(unit): units[unit] for unit in units}}
    while True:
        known = read_reruns(store)
        if same := _same(known, choice):
            return same
        number = 1 + max(known, default=0)
        if put_json(store, layout.rerun_key(number), value) is not Put.DIFFERENT:
            return Rerun(number, choice.where.text, choice.again, units)
