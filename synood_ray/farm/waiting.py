"""What the run waits for, found out while it waits: a place for workers, or a service that one of them needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, NamedTuple

from synood_ray import used, waits
from synood_ray.farm import cluster
from synood_ray.farm.calls import Calls
from synood_ray.farm.observers import Observer, Used, WaitBegan, WaitEnded
from synood_ray.farm.placement import Need
from synood_ray.farm.pool import Pool, Worker
from synood_ray.farm.stage import Stage

LOOK = 3.0
"""Seconds between questions to the cluster, and to one worker of each pool in turn: a service is away for all."""


class Heard(NamedTuple):
    """Of an actor's process: what it waits for (`waits.current`), and what it has used (`used.take`)."""

    waits: list[tuple[str, str]]
    used: used.Used


def waits_of(actor: Any) -> Heard:
    """What an actor's process waits for; called inside it. What it used is told along: checks have no other report."""
    return Heard(waits.current(), used.take())


@dataclass(slots=True)
class _Wait:
    group: Literal["place", "service"]
    line: str
    since: float


class Waiting:
    """pools: each with the stage that its workers' answers belong to."""

    def __init__(self, pools: Sequence[tuple[Pool, Stage]], calls: Calls, tell: Observer) -> None:
        self._pools, self._calls, self._tell = pools, calls, tell
        self._open: dict[str, _Wait] = {}
        self._places: dict[str, str] = {}
        self._services: dict[str, list[tuple[str, str]]] = {}  # by role, as its worker said that was asked last
        self._turn = 0
        self._due = -inf

    @property
    def lines(self) -> tuple[str, ...]:
        """What does not go on."""
        return tuple(wait.line for wait in self._open.values())

    def answered(self, worker: Worker, answer: Heard) -> None:
        """What a worker waits for."""
        self._services[worker.role] = answer.waits
        if answer.used:
            self._tell(Used(answer.used))

    def look(self) -> None:
        """Find out, if it is time to; tell what has begun and what is over."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + LOOK
            self._ask()
            self._places = dict(self._unplaced(now))
        services = dict(waits.current())
        for pool, _ in self._pools:
            services |= dict(self._services.get(pool.role, ())) if pool.workers else {}
        self._take_in(now, "place", self._places)
        self._take_in(now, "service", services)

    def _ask(self) -> None:
        """Ask a worker of each pool; while one has not answered, no other."""
        self._turn += 1
        asked = {call.worker.role for call in self._calls.flying.values() if call.method == waits_of.__name__}
        for pool, stage in self._pools:
            placed = [worker for worker in pool.workers.values() if worker.place]
            if placed and pool.role not in asked:
                self._calls.inside(stage, placed[self._turn % len(placed)], waits_of)

    def _unplaced(self, now: float) -> dict[str, str]:
        found = {}
        for pool, _ in self._pools:
            waiting = [w for w in pool.workers.values() if not (w.place or w.ready) and now - w.asked >= waits.AFTER]
            for kind in dict.fromkeys(worker.kind for worker in waiting):
                need, count = Need.of(pool.role, pool.kinds[kind]), sum(worker.kind == kind for worker in waiting)
                who, which = f"{count} {pool.role}s" if count > 1 else pool.role, f" (kind {kind})" if kind else ""
                line = f"{who}: waiting for {need}{which}; {cluster.outlook(need)}"
                found[f"{pool.role}s{which} without a place"] = line
        return found

    def _take_in(self, now: float, group: Literal["place", "service"], found: dict[str, str]) -> None:
        for what, line in found.items():
            if what in self._open:
                self._open[what].line = line
            else:
                self._open[what] = _Wait(group, line, now - waits.AFTER)
                self._tell(WaitBegan(what, line, "place" if group == "place" else waits.kind_of(what)))
        for what in [what for what, wait in self._open.items() if wait.group == group and what not in found]:
            self._tell(WaitEnded(what, now - self._open.pop(what).since))
