"""How busy the farm keeps many workers: stub workers with a set time a unit, through the real driver."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.local_cluster import local_cluster
from benchmarks.stub_workers import (
    CLASSES,
    ListedStore,
    StubSampler,
    busy_times,
    make_output,
    stub_settings,
    stub_sources,
)
from benchmarks.targets import Target
from synood_ray.farm.observers import Event, StageBegan, UnitHandedOut


def benchmark(workers: int = 64, latency: float = 1.0, units_each: int = 30) -> dict[str, Any]:
    """The busy share of `workers` actors at `latency` seconds a unit; `units_each` units a worker on average.

    From the first unit handed out, when all actors stand ready, to when the queue has no unit left to hand out.
    """
    from synood_ray.farm.actors import Actors
    from synood_ray.farm.driver import Driver
    from synood_ray.farm.plan import Plan

    units = workers * units_each
    times = _Times()
    with tempfile.TemporaryDirectory() as folder, local_cluster():
        store = ListedStore(str(make_output(Path(folder))), units)
        plan = Plan(stub_sources(units), unit_size=1)
        actors = Actors(sampler=partial(StubSampler, latency=latency))
        Driver(stub_settings(workers), store, plan, CLASSES, actors=actors, observers=[times]).run()
        done = busy_times(Path(folder))
    begin, end = times.begin, times.end
    return {
        "workers": workers,
        "latency": latency,
        "units": units,
        "seconds": end - begin,
        "busy": busy_share(done, workers, begin, end),
    }


def targets(figures: dict[str, Any]) -> list[Target]:
    what = f"busy share of {figures['workers']} stub workers at {figures['latency']:g} s a unit"
    return [Target(what, figures["busy"], 0.95)]


def busy_share(done: Iterable[tuple[float, float]], workers: int, begin: float, end: float) -> float:
    """Share of the workers' time in [begin, end] in which they did units, given when each unit was begun and ended."""
    return sum(max(0.0, min(e, end) - max(b, begin)) for b, e in done) / (workers * (end - begin))


class _Times:
    """Notes when the first unit was handed out and when the last one was (time.monotonic); an observer."""

    begin = end = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageBegan) and event.stage == "sample":
            self.begin = time.monotonic()
        elif isinstance(event, UnitHandedOut) and event.stage == "sample" and not event.copy:
            self.end = time.monotonic()
