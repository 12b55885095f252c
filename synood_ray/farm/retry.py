"""What ``--retry-failed`` runs again: the quarantined units of a run, and the failed samples of its other units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synood_ray.records import SampleTask
from synood_ray.storage.damage import put_aside
from synood_ray.storage.parts import read_prompts
from synood_ray.storage.progress import failed_samples, sample_parts, scan, survey
from synood_ray.storage.record import require_record
from synood_ray.storage.stores.base import Store


@dataclass(frozen=True, slots=True)
class Retry:
    """One unit to do again. number 0: the whole unit, which was quarantined and has no part yet.

    Otherwise only its failed samples, named by keys; their new rows become retry `number` of the unit's part.
    undescribed: those of them that have no prompt yet; their new ones become retry `number` of the unit's prompts.
    """

    number: int = 0
    keys: frozenset[str] = frozenset()
    undescribed: frozenset[str] = frozenset()

    def tasks(self, unit: list[SampleTask]) -> list[SampleTask]:
        """Those of a unit's tasks that are to be done."""
        return [task for task in unit if task.key in self.keys] if self.number else unit

    def to_describe(self, unit: list[SampleTask]) -> list[SampleTask]:
        """Those of a unit's tasks that need a prompt first."""
        return [task for task in unit if task.key in self.undescribed] if self.number else unit


WHOLE = Retry()


def find_retries(store: Store, say: Callable[[str], None] = lambda line: None) -> dict[int, Retry]:
    """Everything to do again, by unit. Units that are only waiting are not among it.

    Damaged parts are put aside, and say is told: their units are among it then.
    """
    record = require_record(store)
    parts = sample_parts(store)
    counts, damaged = survey(store, record, (entry for files in parts.values() for entry in files))
    while damaged:
        put_aside(store, record, damaged)
        for part in damaged:
            say(str(part))
        parts = sample_parts(store)
        counts, damaged = survey(store, record, (entry for files in parts.values() for entry in files))
    quarantined = (scan(store, "prompts").quarantined | scan(store, "parts").quarantined) - parts.keys()
    failed: dict[int, Retry] = {}
    for unit, keys in failed_samples(store, counts).items():
        number = len(parts[unit])
        prompts = read_prompts(store, unit, number - 1)
        undescribed = frozenset(key for key in keys if key not in prompts or prompts[key].error)
        failed[unit] = Retry(number, frozenset(keys), undescribed)
    return dict.fromkeys(quarantined, WHOLE) | failed
