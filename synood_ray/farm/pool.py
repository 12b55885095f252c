"""A pool of equal actors: created at the needed size at once, restarted by Ray, let go when they are not needed."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from synood_ray.config.pools import PoolSettings
from synood_ray.farm.observers import ActorCounts, KindChanged, Observer, WorkerCreated, WorkerLeft, role_of
from synood_ray.farm.queue import Lease


class Place(NamedTuple):
    """Where an actor's process runs: Ray's IDs of the node and of the process, and the machine's name."""

    node: str
    process: str
    host: str


@dataclass(eq=False)
class Worker:
    """One actor as the driver sees it. Times are those of `time.monotonic`.

    asked: when it was created, or was lost and left to Ray to restart. place: where it runs, None while Ray has not
    placed it; placed: since when. freed: when it was ready or had its latest unit done; idle_since: or check. lives:
    processes so far. losses: deaths in a row, without a unit done in between. setups: this one, and those before it
    that took too long. draining: its node will go, so it gets nothing new. units: what it holds now, by lease id.
    kind: of the pool's `PoolSettings.kinds` ("" without any).
    checks: units of others for which it makes the semantic check. prepare_by: until when it must have prepared.
    Being removed is the end of its last life: what it answers after that is of no further interest.
    """

    name: str
    handle: Any
    asked: float
    place: Place | None = None
    placed: float = 0.0
    ready: bool = False
    draining: bool = False
    freed: float = 0.0
    idle_since: float = 0.0
    lives: int = 1
    losses: int = 0
    setups: int = 1
    units: dict[int, Lease] = field(default_factory=dict)
    checks: int = 0
    prepare_by: float = inf
    kind: str = ""

    @property
    def role(self) -> str:
        """Its pool's."""
        return role_of(self.name)

    @property
    def idle(self) -> bool:
        """Ready, with nothing to do."""
        return self.ready and not self.units and not self.checks and self.prepare_by == inf

    def hangs(self, now: float) -> bool:
        """Whether something that it holds is past its deadline."""
        return self.prepare_by <= now or any(lease.deadline <= now for lease in self.units.values())


class Pool:
    """Actors of one role. ``arguments`` go to every actor's constructor; those of a functools.partial follow by name.

    task_retries: whether Ray repeats calls that were cut off; only for calls without effect. run: its name is part of
    the actors' names in the cluster, "sampler-3 · demo · 7f3a". The end, which tells this pool from any other, keeps
    names unique in their namespace. threads: `farm.threads`.
    """

    def __init__(
        self,
        role: str,
        actor_class: Callable[..., Any],
        settings: PoolSettings,
        arguments: tuple[Any, ...],
        slots: int,
        task_retries: int = 0,
        run: str = "run",
        tell: Observer = lambda event: None,
        threads: int = 0,
    ):
        import ray

        self.role = role
        self.settings = settings
        self.arguments = arguments
        self.slots = slots  # units a worker holds at once
        self.workers: dict[str, Worker] = {}
        self._vacant: list[dict[str, Worker]] = [{} for _ in range(slots)]  # by units held
        self._created = 0
        self._ending, self._tell = f" · {run} · {secrets.token_hex(2)}", tell
        self._more: dict[str, Any] = {}
        actor: Any = actor_class
        if isinstance(actor, functools.partial):
            actor, self._more = actor.func, actor.keywords
        self.kinds = settings.of_kinds()
        options: dict[str, Any] = {
            "max_restarts": -1,
            "max_task_retries": task_retries,
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(threads)}} if threads else None,  # Ray: logical CPUs
            "max_concurrency": slots + 3,  # the units, the semantic checks of others, `ready`, what it waits for
        }
        self._actors = {name: ray.remote(**_needs(kind), **options)(actor) for name, kind in self.kinds.items()}

    def grow(self, size: int) -> list[Worker]:
        """Create the missing actors, all at once (one by one would add up their start-up times).

        Actors on draining nodes do not count. Ray waits, and asks for machines, for those that fit nowhere yet.
        """
        missing = size - sum(not worker.draining for worker in self.workers.values())
        return [self._create() for _ in range(missing)]

    def _create(self, kind: str | None = None) -> Worker:
        kind = next(iter(self.kinds)) if kind is None else kind
        name = f"{self.role}-{self._created}"
        self._created += 1
        handle = self._actors[kind].options(name=name + self._ending).remote(*self.arguments, **self._more)
        worker = self.workers[name] = Worker(name, handle, time.monotonic(), kind=kind)
        self._tell(WorkerCreated(name))
        return worker

    def shrink(self, size: int, grace: float) -> list[Worker]:
        """Let actors go, down to ``size``: first those that Ray has not placed, then those idle for ``grace`` seconds.

        An actor in set-up stays: it will be ready sooner than another. With nothing to do for the pool (size 0), all
        go at once, whatever they do. Those on draining nodes go as soon as they are idle.
        """
        now = time.monotonic()
        leaving = [w for w in self.workers.values() if w.draining and not w.units and not w.checks]
        staying = [w for w in self.workers.values() if not w.draining]
        unplaced = [w for w in staying if w.place is None and not w.ready]  # ready: where it is has yet to be told
        over = unplaced + [w for w in staying if w.idle and now - w.idle_since >= grace]
        leaving += (staying if size == 0 else over)[: max(len(staying) - size, 0)]
        return [self.remove(worker) for worker in leaving]

    def replace(self, worker: Worker) -> Worker:
        """End an actor whose set-up takes too long; its place is taken by a new one."""
        self.remove(worker)
        new = self._create(worker.kind)
        new.setups = worker.setups + 1
        return new

    def next_kind(self, worker: Worker) -> Worker | None:
        """End an actor that finds no machine of its kind, for one of the next; None if there is no other kind left."""
        names = list(self.kinds)
        place = names.index(worker.kind) + 1
        if place == len(names):
            return None
        self._tell(KindChanged(worker.name, worker.kind, names[place], time.monotonic() - worker.asked))
        self.remove(worker)
        return self._create(names[place])

    def restarted(self, worker: Worker, *, waiting: bool = False) -> None:
        """An actor has died, and Ray starts it again, perhaps elsewhere. waiting: still, after an earlier death."""
        worker.ready, worker.draining, worker.place, worker.prepare_by = False, False, None, inf
        worker.asked = time.monotonic()
        worker.lives += 1
        worker.losses += not waiting
        worker.units.clear()
        self.file(worker)

    def remove(self, worker: Worker) -> Worker:
        """End an actor, whatever it is doing."""
        self._end(worker)
        self._tell(WorkerLeft(worker.name))
        return worker

    def _end(self, worker: Worker) -> None:
        import ray

        del self.workers[worker.name]
        worker.ready = False
        worker.lives += 1  # its "ready" may have come already: taken in late, it would offer a dead worker for units
        self.file(worker)
        ray.kill(worker.handle, no_restart=True)

    def clear(self) -> None:
        """End all actors at the end of the run, without a word that an observer could object to."""
        for worker in list(self.workers.values()):
            self._end(worker)

    def file(self, worker: Worker) -> None:
        """Note where a worker belongs, after any change of what it holds or whether it takes more."""
        for vacant in self._vacant:
            vacant.pop(worker.name, None)
        if worker.ready and not worker.draining and len(worker.units) < self.slots:
            self._vacant[len(worker.units)][worker.name] = worker

    def vacant(self) -> Worker | None:
        """A worker with an empty slot, of those the one that holds the least; in constant time."""
        for vacant in self._vacant:
            for worker in vacant.values():
                return worker
        return None

    def unoccupied(self) -> list[Worker]:
        """Workers that take units and hold none."""
        return list(self._vacant[0].values())

    @property
    def ready(self) -> Iterator[Worker]:
        """Workers that are ready and stay, in the order of their creation."""
        return (w for w in self.workers.values() if w.ready and not w.draining)

    def counts(self) -> ActorCounts:
        """Workers in every state."""
        workers = self.workers.values()
        draining = sum(w.draining for w in workers)
        ready = sum(w.ready and not w.draining for w in workers)
        waiting = sum(w.place is None and not w.ready and not w.draining for w in workers)
        held = sum(self.kinds[w.kind].gpus for w in workers if w.place is not None or w.ready)
        return ActorCounts(waiting, len(workers) - draining - ready - waiting, ready, draining, held)


def _needs(kind: PoolSettings) -> dict[str, Any]:
    """What an actor asks of a machine, as Ray's options."""
    return {
        "num_cpus": kind.cpus,
        "num_gpus": kind.gpus,
        "resources": kind.resources or None,
        "label_selector": kind.labels or None,
    }


def place_of(actor: Any) -> Place:
    """Where an actor runs; called inside it."""
    import socket

    import ray

    context = ray.get_runtime_context()
    return Place(context.get_node_id(), context.get_worker_id(), socket.gethostname())
