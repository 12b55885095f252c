"""What is run again: the quarantined units of a run and the failed samples of its other units (``--retry-failed``), or
the samples that a rerun draws anew (``--rerun``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from synood_ray.records import SampleTask
from synood_ray.storage.damage import move_aside, put_aside
from synood_ray.storage.parts import DamagedPart, read_prompts
from synood_ray.storage.progress import failed_samples, given_up, part_counts, sample_parts, survey
from synood_ray.storage.record import require_record
from synood_ray.storage.reruns import Rerun, read_reruns
from synood_ray.storage.stores.base import Store


@dataclass(frozen=True, slots=True)
class Retry:
    """One unit to do again. number 0: the whole unit, which was quarantined and has no part yet.

    Otherwise only some of its samples, named by keys; their new rows become retry `number` of the unit's part.
    undescribed: those of them that have no prompt yet; their new ones become retry `number` of the unit's prompts.
    reruns: what draws them, by key; those that it lacks are drawn as the plan says.
    """

    number: int = 0
    keys: frozenset[str] = frozenset()
    undescribed: frozenset[str] = frozenset()
    reruns: Mapping[str, Rerun] = field(default_factory=dict)

    def tasks(self, unit: list[SampleTask]) -> list[SampleTask]:
        """Those of a unit's tasks that are to be done."""
        return [self._drawn(task) for task in unit if task.key in self.keys] if self.number else unit

    def _drawn(self, task: SampleTask) -> SampleTask:
        rerun = self.reruns.get(task.key)
        return replace(task, seed=rerun.seed(task.seed), rerun=rerun.number) if rerun else task

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
    quarantined = given_up(store, record.units) - parts.keys()
    for unit in quarantined:
        try:
            read_prompts(store, unit)
        except DamagedPart as damaged_prompts:  # those of its retries are read after them, by whoever needs them
            move_aside(store, damaged_prompts.key)
            say(str(damaged_prompts))
    failing = failed_samples(store, counts)
    reruns = read_reruns(store) if any(number for keys in failing.values() for number in keys.values()) else {}
    failed = {
        unit: _again(
            store, unit, len(parts[unit]), keys, {key: reruns[number] for key, number in keys.items() if number}
        )
        for unit, keys in failing.items()
    }
    return dict.fromkeys(quarantined, WHOLE) | failed


def find_rerun(store: Store, rerun: Rerun) -> dict[int, Retry]:
    """What is left of a rerun, by unit. A unit that has no part any more is not among it.

    Raises DamagedPart if a retry of one of its units is.
    """
    parts = {unit: files for unit, files in sample_parts(store).items() if unit in rerun.units}
    retries = part_counts(store, require_record(store), (entry for files in parts.values() for entry in files[1:]))
    done = {counts.unit for counts in retries.values() if counts.rerun == rerun.number}
    return {
        unit: _again(store, unit, len(files), rerun.units[unit], dict.fromkeys(rerun.units[unit], rerun))
        for unit, files in parts.items()
        if unit not in done
    }


def _again(store: Store, unit: int, number: int, keys: Iterable[str], reruns: Mapping[str, Rerun]) -> Retry:
    """The retry of this number of some of a unit's samples."""
    try:
        prompts = read_prompts(store, unit, number - 1)
    except DamagedPart:
        prompts = {}  # they are made anew, and the damaged ones put aside by the sampler that finds them
    undescribed = frozenset(key for key in keys if key not in prompts or prompts[key].error)
    return Retry(number, frozenset(keys), undescribed, reruns)
