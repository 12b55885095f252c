"""What the driver uses of Ray, in this process and on a clock of its own: calls take the time that a test gives them.

Without times a call is done when it is made. Fast, and the same every time.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synood_ray.farm import cluster
from synood_ray.farm.placement import Node
from synood_ray.farm.pool import Place, place_of
from tests.farm.recorded import Recorded


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class OutOfMemoryError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Call:
    """One call of an actor: an object reference."""

    def __init__(self, handle: Handle, work: Callable[[], Any], due: float) -> None:
        self.handle, self.work, self.due = handle, work, due
        self.answer: Any = None
        self.error: Exception | None = None

    def finish(self) -> None:
        """Do the work, if it is not done."""
        if self in self.handle.calls:
            self.handle.calls.remove(self)
            try:
                self.answer = self.work()
            except Exception as error:
                self.error = RayTaskError(error)


class Handle:
    """An actor. It is placed on `node` and alive until it is killed; None: it waits for a machine."""

    def __init__(self, ray: LocalRay, make: Callable[[], Any], number: int, name: str, options: dict[str, Any]) -> None:
        self.ray, self.make, self.number, self.name, self.options = ray, make, number, name, options
        self.actor = make()
        self.calls: list[Call] = []
        self.node: str | None = ray.place(self)
        self.killed = False
        self.away = 0.0  # until then it is being restarted

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=functools.partial(self.call, method))

    def call(self, method: str, *arguments: Any) -> Call:
        ray = self.ray
        if self.killed:
            failed = Call(self, lambda: None, ray.now)
            failed.error = RayActorError("killed")
            return failed
        if ray.now < self.away:
            failed = Call(self, lambda: None, ray.now + 2.0)
            failed.error = ActorUnavailableError("The actor is restarting")
            return failed
        if method == "__ray_call__":
            (function,) = arguments
            here = Place(str(self.node), "", str(self.node))
            work = (lambda: here) if function is place_of else functools.partial(function, self.actor)
        else:
            work = functools.partial(getattr(self.actor, method), *arguments)
        call = Call(self, work, inf if self.node is None else ray.now + ray.seconds(self, method, arguments))
        self.calls.append(call)
        if call.due <= ray.now:
            call.finish()
        return call

    def die(self, error: Exception | None = None, seconds: float = 0.0) -> None:
        """The process is gone; Ray starts another one, which takes some seconds."""
        self.away = self.ray.now + seconds
        for call in self.calls:
            call.error, call.due = error or RayActorError("gone"), 0.0
        self.calls = []
        self.actor = self.make()


class LocalRay(SimpleNamespace):
    """A stand-in for the module.

    seconds(handle, method, arguments): how long a call takes. place(handle): the node of an actor. draining: nodes.
    metrics: what was recorded with `ray.util.metrics` by the latest observer.
    """

    __version__ = "here"

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.handles: list[Handle] = []
        self.draining: dict[str, int] = {}
        self.metrics = Recorded()
        self.seconds: Callable[[Handle, str, tuple[Any, ...]], float] = lambda handle, method, arguments: 0.0
        self.place: Callable[[Handle], str | None] = lambda handle: "here"
        self.exceptions = SimpleNamespace(
            RayError=RayError,
            RayTaskError=RayTaskError,
            ActorUnavailableError=ActorUnavailableError,
            OutOfMemoryError=OutOfMemoryError,
        )
        state = SimpleNamespace(get_draining_nodes=lambda: self.draining)
        self._private = SimpleNamespace(state=SimpleNamespace(state=state))

    def is_initialized(self) -> bool:
        return True

    def remote(self, **options: Any) -> Callable[[type], Any]:
        def named(cls: type, name: str) -> Any:
            assert name not in [handle.name for handle in self.handles], "names are unique in their namespace"
            return SimpleNamespace(remote=functools.partial(self._create, name, options, cls))

        return lambda cls: SimpleNamespace(options=functools.partial(named, cls))

    def _create(self, name: str, options: dict[str, Any], cls: type, *arguments: Any, **more: Any) -> Handle:
        make = functools.partial(cls, *arguments, **more)
        self.handles.append(Handle(self, make, len(self.handles), name, options))
        return self.handles[-1]

    def nodes(self) -> list[dict[str, Any]]:
        """None lasts: every death is that of a node."""
        return []

    def wait(self, calls: list[Call], num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        """Goes on to the next answer, or until the time is over."""
        self.now = max(self.now, min(self.now + timeout, *(call.due for call in calls)))
        assert self.now < 1e5, "the driver waits for something that never comes"
        for call in calls:
            if call.due <= self.now:
                call.finish()
        done = [call for call in calls if call.due <= self.now][:num_returns]
        return done, [call for call in calls if call not in done]

    def get(self, call: Call) -> Any:
        if call.error is not None:
            raise call.error
        return call.answer

    def kill(self, handle: Handle, no_restart: bool) -> None:
        handle.die()
        handle.killed = True


class Util:
    """Stands where the module `ray.util` does: metrics that begin anew each time, as in a process of their own."""

    def __init__(self, ray: LocalRay) -> None:
        self.ray = ray

    @property
    def metrics(self) -> Recorded:
        self.ray.metrics = Recorded()
        return self.ray.metrics


def use_local_ray(monkeypatch: pytest.MonkeyPatch) -> LocalRay:
    """Every driver made from now on works in this process."""
    ray = LocalRay()
    monkeypatch.setattr(cluster, "nodes", lambda: [Node({"CPU": 64.0, "GPU": 8.0})])
    monkeypatch.setattr(cluster, "autoscaling", lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.util", Util(ray))
    monkeypatch.setattr(os, "fsync", lambda file: None)  # nobody pulls the plug here, and disks are slow
    return ray


def use_its_clock(monkeypatch: pytest.MonkeyPatch, ray: LocalRay) -> None:
    """The driver lives in the time of the local Ray, which passes only while it waits."""

    def sleep(seconds: float) -> None:
        ray.now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: ray.now)
    monkeypatch.setattr(time, "sleep", sleep)


def make_images(folder: Path, count: int) -> Path:
    """A folder of two classes with count images in each, no two of them alike."""
    pixels = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder
