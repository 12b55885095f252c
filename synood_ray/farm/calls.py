"""The calls of actors that are in flight: what was asked of whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synood_ray.farm.pool import Worker, place_of
from synood_ray.farm.queue import Lease
from synood_ray.farm.stage import Stage


@dataclass(frozen=True, eq=False)
class Call:
    """One call in flight. lease None: the worker is being placed, starting ("ready") or preparing.

    life: the worker's at the call (`Worker.lives`). checker: who makes the unit's semantic check; checker_life: then.
    """

    stage: Stage
    worker: Worker
    lease: Lease | None
    method: str
    life: int
    checker: Worker | None = None
    checker_life: int = 0


class Calls:
    """flying: Ray's object reference -> call."""

    def __init__(self) -> None:
        self.flying: dict[Any, Call] = {}

    def ask(
        self,
        stage: Stage,
        worker: Worker,
        method: str,
        *arguments: Any,
        lease: Lease | None = None,
        checker: Worker | None = None,
    ) -> None:
        """Call an actor's method."""
        reference = getattr(worker.handle, method).remote(*arguments)
        checker_life = checker.lives if checker else 0
        self.flying[reference] = Call(stage, worker, lease, method, worker.lives, checker, checker_life)

    def start(self, stage: Stage, worker: Worker) -> None:
        """Ask a new or restarted actor where it is, and to load its models."""
        self.inside(stage, worker, place_of)
        self.ask(stage, worker, "ready")

    def inside(self, stage: Stage, worker: Worker, function: Callable[[Any], Any]) -> None:
        """Call a function of the actor in its process; the call goes by the function's name."""
        reference = worker.handle.__ray_call__.remote(function)
        self.flying[reference] = Call(stage, worker, None, function.__name__, worker.lives)

    def wait(self, seconds: float) -> list[Any]:
        """References of all that is answered by now, after a wait for the first answer of at most so long."""
        import ray

        answered, _ = ray.wait(list(self.flying), num_returns=1, timeout=seconds)
        if answered:
            answered, _ = ray.wait(list(self.flying), num_returns=len(self.flying), timeout=0)
        return list(answered)
