"""One stage of a run: a queue of units, the pool that works on it, and its pace."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from synood_ray.config.pools import FarmSettings
from synood_ray.farm.observers import StageName
from synood_ray.farm.pool import Pool, Worker
from synood_ray.farm.queue import Lease, UnitQueue
from synood_ray.farm.retry import Retry
from synood_ray.farm.sizing import Pace, wanted
from synood_ray.storage.progress import Scan, Scans


@dataclass(eq=False)
class Stage:
    """folder: where its units are committed. began, ended: when its first unit was handed out and its last one came
    back (time.monotonic); over: no unit is left, and observers know."""

    name: StageName
    folder: Literal["prompts", "parts"]
    queue: UnitQueue
    pool: Pool
    pace: Pace = field(default_factory=Pace)
    began: float = 0.0
    ended: float = 0.0
    over: bool = False

    def size(self) -> int:
        """Actors that the stage asks for now."""
        counts = self.queue.counts()
        due = counts.waiting + counts.leased
        return wanted(due + counts.blocked, due, self.pool.slots, self.pool.settings, self.pace)

    def straggler(self, worker: Worker) -> Lease | None:
        """A copy for this worker of the unit that is longest overdue; None if none is, or others wait to be done."""
        after = self.pace.straggler
        if after is None or self.queue.counts().waiting:
            return None
        return self.queue.lease_copy(worker.name, max(after, 1.0))

    def hold(self, worker: Worker, lease: Lease) -> None:
        """The worker holds one more unit."""
        worker.units[lease.id] = lease
        self.pool.file(worker)

    def put_down(self, worker: Worker, lease: Lease) -> None:
        """The worker holds a unit no more. Those that it got later have only now begun."""
        worker.units.pop(lease.id, None)
        for later in [held for held in worker.units.values() if held.id > lease.id]:
            worker.units[later.id] = self.queue.extend(later) or later
        worker.idle_since = time.monotonic()
        self.pool.file(worker)

    def done(self, worker: Worker, lease: Lease) -> None:
        """The worker has made a unit, in good order: measure it."""
        now = time.monotonic()
        self.pace.unit(now - lease.started, now - max(worker.freed, lease.started))
        worker.freed = self.ended = now
        worker.losses = 0


def open_stages(
    scans: Scans,
    units: int,
    describers: Pool,
    samplers: Pool,
    farm: FarmSettings,
    retry: Mapping[int, Retry],
    rng: random.Random | None = None,
) -> tuple[Stage, Stage]:
    """The describe and the sample stage of a run of so many units, as far as the store says they have come.

    retry: if there is any, only these units are to be done. rng: see `UnitQueue`.
    """

    def queue(found: Scan, committed: np.ndarray, given_up: set[int], **more: Any) -> UnitQueue:
        """Earlier attempts and quarantined units are kept over restarts."""
        history: dict[str, Any] = {"attempts": found.attempts, "quarantined": given_up - retry.keys()}
        limits: dict[str, Any] = {"max_attempts": farm.max_attempts, "deadline": farm.unit_deadline}
        return UnitQueue(units, committed, rng=rng, **history, **limits, **more)

    prompts, parts = scans
    sampled = np.setdiff1d(np.arange(units), [*retry]) if retry else parts.committed
    # A unit whose samples are committed needs no prompts any more, but for those that failed for want of one.
    described = np.union1d(np.union1d(prompts.committed, parts.committed), sampled)
    described = np.setdiff1d(described, [unit for unit, again in retry.items() if again.undescribed])
    undescribed = queue(prompts, described, prompts.quarantined, in_turn=True)
    # Without prompts there are no samples, whether or not whoever gave the prompts up lived to say so of the samples.
    unsampled = queue(parts, sampled, parts.quarantined | prompts.quarantined, blocked=True)
    describing = Stage("describe", "prompts", undescribed, describers)
    sampling = Stage("sample", "parts", unsampled, samplers)
    sampling.queue.add_all(described)
    if len(described) and not retry:
        for stage in (describing, sampling):
            stage.queue.leap()  # another driver may be at work on a run that has begun
    return describing, sampling
