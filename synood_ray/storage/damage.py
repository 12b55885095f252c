"""Parts that are cut off, garbled or not made for their place: put aside, so that their units can be made again."""

from __future__ import annotations

from collections.abc import Sequence

from synood_ray.storage import layout
from synood_ray.storage.parts import DamagedPart
from synood_ray.storage.progress import scan
from synood_ray.storage.record import RunRecord
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores.base import NotFound, Put, Store


def put_aside(store: Store, record: RunRecord, damaged: Sequence[DamagedPart]) -> None:
    """Move these parts to ``damaged/``, with all retries of their unit after them.

    A unit that has no part any more is quarantined with the reason, and `--retry-failed` makes it again; a retry that
    is gone leaves samples that failed, which are tried again in the same way.
    """
    attempts = scan(store, record.units).attempts if damaged else {}
    for part in damaged:
        unit, retry = layout.part_unit(part.key) or (record.units, 0)
        if retry == 0 and unit < record.units:
            attempt = attempts.get(unit, 0) + 1
            error = {"unit": unit, "attempt": attempt, "error": str(part)}
            put_json(store, layout.error_key("parts", unit, attempt, final=True), error)
        names = (layout.part_unit(entry.key) for entry in store.list(layout.part_key(unit).removesuffix(".parquet")))
        later = {name[1] for name in names if name and name[0] == unit and name[1] >= retry}
        for number in sorted(later, reverse=True):  # the damaged one last: while it is there, what is wrong can be seen
            move_aside(store, layout.part_key(unit, number))


def move_aside(store: Store, key: str) -> None:
    """Into the folder of damaged files, unless it has changed since it was read: another process was faster."""
    try:
        data, number = store.get(key), 0
        while store.put_new(layout.damaged_key(key, number), data) is Put.DIFFERENT:
            number += 1
        if store.get(key) == data:
            store.delete(key)
    except NotFound:
        return
