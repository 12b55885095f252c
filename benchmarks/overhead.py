"""What metrics cost: units a second with the observer and counted stores, and without, in turn in one run of a driver.

Every other slice of units goes without: the observer hears nothing, and workers ask a store that nobody counts. What a
worker asks of its store, and what it reports, is what a unit of `SAMPLES` samples comes to.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.alternation import Enough
from benchmarks.comparison import Comparison, compare
from benchmarks.stub_workers import CLASSES, ListedStore, StubSampler, make_output, stub_settings, stub_sources
from benchmarks.targets import Target
from synood_ray import used
from synood_ray.farm.observers import Event, UnitDone
from synood_ray.farm.reports import UnitReport
from synood_ray.records import SampleTask
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Put
from synood_ray.storage.stores.counted import CountedStore

SAMPLES = 32
"""Of a unit: the default farm.unit_size."""


def with_metrics(unit: int, units: int) -> bool:
    """Whether a unit is of a slice with metrics; units: of one slice."""
    return unit // units % 2 == 0


def measure(folder: Path, workers: int, units: int, slices: int, latency: float = 0.0) -> Comparison:
    """Units a second with metrics and without, in so many slices of each. units: of one slice. Needs a cluster."""
    from synood_ray.farm.actors import Actors
    from synood_ray.farm.driver import Driver
    from synood_ray.farm.metrics import Metrics
    from synood_ray.farm.plan import Plan

    planned = 2 * (slices + 2) * units
    store = ListedStore(str(make_output(folder)), planned)
    actors = Actors(sampler=partial(ReportingSampler, latency=latency, units=units))
    with Metrics("overhead") as metrics:
        turns = Turns(metrics, units, slices)
        driver = Driver(
            stub_settings(workers),
            CountedStore(store),
            Plan(stub_sources(planned), unit_size=1),
            CLASSES,
            actors=actors,
            observers=[turns],
            rng=_InOrder(),
        )
        with suppress(Enough):
            driver.run()
    return compare(turns.rates[True], turns.rates[False])


def milliseconds(found: Comparison) -> float:
    """What metrics add to a unit, by the medians of the rates."""
    return 1000 * (1 / median(found.ours) - 1 / median(found.bare))


def targets(figures: dict[str, Any]) -> list[Target]:
    farm, idle = figures["farm"], figures["idle"]
    workers = f"{figures['workers']} stub workers at {figures['latency']:g} s a unit"
    what = f"units per second with metrics / without, {workers}"
    return [
        Target(what, farm["ratio"], 0.99, interval=(farm["low"], farm["high"])),
        Target(f"ms that metrics take of a unit of {SAMPLES} samples", idle["milliseconds"], 10.0, "most"),
    ]


class Turns:
    """An observer that hands events on to `metrics` in every other slice, and notes each slice's rate.

    The first two slices are thrown away.
    """

    def __init__(self, metrics: Any, units: int, slices: int) -> None:
        self.metrics, self.units, self.slices = metrics, units, slices
        self.rates: dict[bool, list[float]] = {True: [], False: []}
        self._done, self._begin = 0, time.monotonic()

    def __call__(self, event: Event) -> None:
        with_them = with_metrics(self._done, self.units)
        if with_them:
            self.metrics(event)
        if not (isinstance(event, UnitDone) and event.stage == "sample"):
            return
        self._done += 1
        if self._done % self.units:
            return
        now = time.monotonic()
        if self._done > 2 * self.units:
            self.rates[with_them].append(self.units / (now - self._begin))
        self._begin = now
        if len(self.rates[False]) == self.slices:
            raise Enough


class _InOrder(random.Random):
    """Where a driver of a run that has begun goes on: at the first unit that waits, not at a random one."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0


class _MemoryStore(ListedStore):
    """Takes what it is given, and forgets it."""

    def put_new(self, key: str, data: bytes) -> Put:
        return Put.CREATED


class ReportingSampler(StubSampler):
    """units: of one slice."""

    def __init__(self, *arguments: Any, units: int, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.units, self.data = units, bytes(1000)
        self.bare = _MemoryStore(str(self.output), 0, objects={"prompts": self.data})
        self.counted = CountedStore(self.bare)

    def sample(
        self, unit: int, tasks: list[SampleTask], attempt: int, checker: Any | None, retry: int = 0
    ) -> UnitReport:
        """What a sampler asks of its store, and the report of a unit whose samples were not all accepted."""
        super().sample(unit, tasks, attempt, checker, retry)
        with_them = with_metrics(unit, self.units)
        store = self.counted if with_them else self.bare
        store.exists(layout.part_key(unit))
        store.get("prompts")
        store.put_new(layout.part_key(unit), self.data)
        report = UnitReport(
            unit,
            SAMPLES,
            accepted=SAMPLES // 2,
            rejected=SAMPLES // 2,
            seconds={"load": 0.1, "refine": 10.0, "check": 1.0},
            checked=SAMPLES,
            reasons={"clip": SAMPLES // 4, "mllm": SAMPLES // 4},
            rounds=tuple(1 + number % 4 for number in range(SAMPLES)),
            margins=tuple(number / SAMPLES for number in range(SAMPLES)),
            denoiser_calls=40 * SAMPLES,
            stored=len(self.data),
        )
        return replace(report, used=used.take()) if with_them else report
