"""The farm's numbers for Prometheus: an observer that records events with `ray.util.metrics`.

Ray serves them beside its own, on every node's metrics port, under "ray_" and, for counters, with "_total" behind.
docs/operating/metrics.md shows the table below.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synood_ray import used, waits
from synood_ray.farm.observers import (
    Event,
    Tick,
    UnitDone,
    UnitFailed,
    UnitQuarantined,
    Used,
    WaitBegan,
    WaitEnded,
    WorkerLost,
    WorkerReady,
    WorkerReplaced,
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. labels: beside `run`, which all have. bounds: of a histogram's buckets."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    about: str
    bounds: tuple[float, ...] = ()


ROUNDS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
MARGINS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)

TABLE: Mapping[str, Metric] = {
    "synood_units": Metric(
        "gauge", ("stage", "state"), "units of the run: waiting, leased, committed, quarantined, blocked"
    ),
    "synood_workers": Metric("gauge", ("role", "state"), "workers: waiting for a place, starting, ready, draining"),
    "synood_samples": Metric(
        "counter", ("outcome",), "samples committed by this run's workers: accepted, rejected, failed"
    ),
    "synood_rejections": Metric(
        "counter", ("reason",), "samples that were not accepted: rounds, clip, mllm, empty, and others; error: failed"
    ),
    "synood_rounds": Metric("histogram", (), "rounds of a sample, accepted or not", ROUNDS),
    "synood_margins": Metric(
        "histogram",
        ("side",),
        "distance of a sample from the boundary, ID standard deviations, on the side id or ood",
        MARGINS,
    ),
    "synood_denoiser_calls": Metric(
        "counter", (), "denoiser evaluations, one per sample and step, guidance counted twice"
    ),
    "synood_stored_bytes": Metric("counter", ("stage",), "bytes of committed prompts and parts"),
    "synood_prompts": Metric("counter", (), "samples described by this run's workers"),
    "synood_checks": Metric(
        "counter", ("outcome",), "semantic checks by the describer: told, or untold (neither yes nor no)"
    ),
    "synood_unit_seconds": Metric(
        "histogram",
        ("stage",),
        "seconds from handing out a unit to its commit, waiting at its worker included",
        SECONDS,
    ),
    "synood_work_seconds": Metric(
        "counter", ("stage",), "seconds that workers spent on committed units: describe, load, refine, check"
    ),
    "synood_start_seconds": Metric(
        "histogram", ("role",), "seconds from asking for a worker, or losing it, until its models are loaded", SECONDS
    ),
    "synood_failed_attempts": Metric(
        "counter", ("stage", "cause"), "attempts at a unit that ended in an error, by its kind; deadline; lost"
    ),
    "synood_returned_units": Metric(
        "counter", ("cause",), "units that go back because their worker died, by the cause of that"
    ),
    "synood_oldest_unit_seconds": Metric(
        "gauge", ("stage",), "queue age: seconds since the unit was begun that has been out longest; 0: none is out"
    ),
    "synood_waited_seconds": Metric(
        "counter", ("what",), "seconds in which the run waited for what does not come: place, store, server"
    ),
    "synood_repeated_requests": Metric(
        "counter", ("what",), "requests that a store or server did not answer properly, and that are made again"
    ),
    "synood_store_operations": Metric(
        "counter", ("operation",), "what is asked of the run's store: write, read, list, look up, delete"
    ),
    "synood_store_errors": Metric("counter", ("operation",), "operations that were given up with an error"),
    "synood_store_bytes": Metric("counter", ("direction",), "bytes read from stores and written to them"),
    "synood_describer_tokens": Metric(
        "counter", ("direction",), "tokens that the describer has read and written, as far as its model tells"
    ),
    "synood_gpu_seconds": Metric("counter", ("role",), "seconds of GPUs that workers held, whatever they did"),
    "synood_quarantined_units": Metric("counter", ("stage",), "units given up"),
    "synood_lost_workers": Metric(
        "counter", ("role", "cause"), "workers that died: out of memory, node, preempted, crash, unknown"
    ),
    "synood_replaced_workers": Metric("counter", ("role",), "workers ended because they hung"),
}
"""Name -> what it is. Units stand in the names."""

UNIT_STATES = ("waiting", "leased", "committed", "quarantined", "blocked")
WORKER_STATES = ("waiting", "starting", "ready", "draining")


BEAT = 1.0
"""Seconds between looks at what is waited for."""


def make_metrics(table: Mapping[str, Metric], run: str, kinds: Any = None) -> dict[str, Any]:
    """The metrics of a table, by name. run: value of the label `run`; kinds: see `Metrics`."""
    if kinds is None:
        from ray.util import metrics

        kinds = metrics
    found: dict[str, Any] = {}
    for name, metric in table.items():
        make = {"counter": kinds.Counter, "gauge": kinds.Gauge, "histogram": kinds.Histogram}[metric.kind]
        more = {"boundaries": list(metric.bounds)} if metric.bounds else {}
        found[name] = make(name, description=metric.about, tag_keys=("run", *metric.labels), **more)
        found[name].set_default_tags({"run": run})
    return found


class Metrics:
    """An observer. run: value of the label `run`, the name of the run's folder. kinds: has Counter, Gauge and
    Histogram; None: Ray's.

    Counters begin with this call of the job; gauges of units are of the whole run, whoever works on it. As a context
    manager it counts by the clock what is waited for: the driver's own thread may be what waits.
    """

    def __init__(self, run: str, kinds: Any = None) -> None:
        self._metrics = make_metrics(TABLE, run, kinds)
        self._waits: dict[str, waits.Kind] = {}
        self._gpu_seconds: Mapping[str, float] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Metrics:
        threading.Thread(target=self._beat, daemon=True, name="metrics").start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._take(used.take())

    def _beat(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(BEAT):
            now = time.monotonic()
            self.wait(now - before)
            before = now

    def wait(self, seconds: float) -> None:
        """So much time has passed: count it for everything that is waited for now."""
        own = {what: waits.kind_of(what) for what, _ in waits.current()}
        for kind in {*self._waits.copy().values(), *own.values()}:
            self._count("synood_waited_seconds", seconds, what=kind)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Tick):
            self._sizes(event)
            self._take(used.take())
        elif isinstance(event, UnitDone):
            self._take(event.report.used)
            self._unit(event)
        elif isinstance(event, Used):
            self._take(event.used)
        elif isinstance(event, WaitBegan):
            self._waits[event.what] = event.kind
        elif isinstance(event, WaitEnded):
            self._waits.pop(event.what, None)
        elif isinstance(event, UnitFailed):
            self._count("synood_failed_attempts", stage=event.stage, cause=event.cause)
        elif isinstance(event, UnitQuarantined):
            self._count("synood_quarantined_units", stage=event.stage)
        elif isinstance(event, WorkerReady):
            self._metrics["synood_start_seconds"].observe(event.seconds, tags={"role": event.role})
        elif isinstance(event, WorkerLost):
            self._count("synood_lost_workers", role=event.role, cause=event.cause)
            self._count("synood_returned_units", len(event.units), cause=event.cause)
        elif isinstance(event, WorkerReplaced):
            self._count("synood_replaced_workers", role=event.role)

    def _take(self, counts: used.Used) -> None:
        """What some process has used: each metric has one label of its own."""
        for name, by_label in counts.items():
            for value, count in by_label.items():
                self._count(name, count, **{TABLE[name].labels[0]: value})

    def _count(self, name: str, value: float = 1, **tags: str) -> None:
        if value > 0:  # Ray refuses to add nothing
            self._metrics[name].inc(value, tags=tags)

    def _sizes(self, event: Tick) -> None:
        units, workers = self._metrics["synood_units"], self._metrics["synood_workers"]
        for stage, counts in event.snapshot.units.items():
            for state in UNIT_STATES:
                units.set(getattr(counts, state), tags={"stage": stage, "state": state})
        for role, actors in event.snapshot.actors.items():
            for state in WORKER_STATES:
                workers.set(getattr(actors, state), tags={"role": role, "state": state})
        for stage, age in event.snapshot.ages.items():
            self._metrics["synood_oldest_unit_seconds"].set(age, tags={"stage": stage})
        for role, seconds in event.snapshot.gpu_seconds.items():
            self._count("synood_gpu_seconds", seconds - self._gpu_seconds.get(role, 0.0), role=role)
        self._gpu_seconds = event.snapshot.gpu_seconds

    def _unit(self, event: UnitDone) -> None:
        """A unit that this run's workers committed, and were the first to; others would count twice."""
        report = event.report
        if not event.first or report.found:
            return
        self._metrics["synood_unit_seconds"].observe(event.seconds, tags={"stage": event.stage})
        self._count("synood_stored_bytes", report.stored, stage=event.stage)
        for stage, seconds in report.seconds.items():
            self._count("synood_work_seconds", seconds, stage=stage)
        if event.stage == "describe":
            self._count("synood_prompts", report.samples)
            return
        for outcome in ("accepted", "rejected", "failed"):
            self._count("synood_samples", getattr(report, outcome), outcome=outcome)
        self._count("synood_denoiser_calls", report.denoiser_calls)
        for reason, count in report.reasons.items():
            self._count("synood_rejections", count, reason=reason)
        for rounds in report.rounds:
            self._metrics["synood_rounds"].observe(rounds, tags={})
        for margin in report.margins:
            self._metrics["synood_margins"].observe(abs(margin), tags={"side": "ood" if margin < 0 else "id"})
        self._count("synood_checks", report.checked - report.untold, outcome="told")
        self._count("synood_checks", report.untold, outcome="untold")
