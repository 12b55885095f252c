"""A pool of equal actors: created at the needed size at once, restarted by Ray, let go when the stage is done."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from synood_ray.config import PoolSettings


@dataclass(eq=False)
class Worker:
    """One actor as the driver sees it. units: what it holds now, as lease ids."""

    name: str
    handle: Any
    started: float
    ready: bool = False
    losses: int = 0  # deaths in a row, without a unit done in between
    units: set[int] = field(default_factory=set)


class Pool:
    """Actors of one role. ``arguments`` go to every actor's constructor."""

    def __init__(self, role: str, actor_class: type, settings: PoolSettings, arguments: tuple[Any, ...], slots: int):
        import ray

        self.role = role
        self.settings = settings
        self.arguments = arguments
        self.slots = slots  # units a worker holds at once
        self.workers: dict[str, Worker] = {}
        self._created = 0
        options: dict[str, Any] = {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "resources": settings.resources or None,
            "label_selector": settings.labels or None,
            "max_restarts": -1,
            "max_concurrency": slots + 2,  # the units, the semantic checks of others, `ready`
        }
        self._actor: Any = ray.remote(**options)(actor_class)

    def wanted(self, units: int) -> int:
        """Actors that ``units`` open units ask for: enough to fill their slots, between min and max; none for none."""
        if units == 0:
            return 0
        return max(self.settings.min, min(self.settings.max, -(-units // self.slots)), 1)

    def grow(self, size: int) -> list[Worker]:
        """Create the missing actors, all at once (one by one would add up their start-up times)."""
        created = []
        while len(self.workers) < size:
            name = f"{self.role}-{self._created}"
            self._created += 1
            worker = Worker(name, self._actor.remote(*self.arguments), time.monotonic())
            self.workers[name] = worker
            created.append(worker)
        return created

    def shrink(self, size: int) -> list[Worker]:
        """Let go idle actors that are past set-up, down to ``size``."""
        removed = []
        for worker in list(self.workers.values()):
            if len(self.workers) <= size:
                break
            if worker.ready and not worker.units:
                removed.append(self.remove(worker))
        return removed

    def remove(self, worker: Worker) -> Worker:
        """End an actor, whatever it is doing."""
        import ray

        del self.workers[worker.name]
        ray.kill(worker.handle, no_restart=True)
        return worker

    def clear(self) -> None:
        for worker in list(self.workers.values()):
            self.remove(worker)

    def free(self) -> list[Worker]:
        """Ready workers with an empty slot, emptiest first."""
        workers = [w for w in self.workers.values() if w.ready and len(w.units) < self.slots]
        return sorted(workers, key=lambda w: (len(w.units), w.name))
