"""The observer that exports the farm's numbers: what events leave behind, and a whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synood_ray import used, waits
from synood_ray.config.settings import Settings
from synood_ray.farm.metrics import TABLE, Metrics
from synood_ray.farm.observers import (
    ActorCounts,
    Event,
    Snapshot,
    StageBegan,
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
from synood_ray.farm.queue import Counts
from synood_ray.farm.reports import Totals, UnitReport
from synood_ray.pipeline import synthesize
from tests.farm.local_ray import make_images, use_local_ray
from tests.farm.recorded import Recorded
from tests.farm.stubs import stub_actors

DOCS = Path(__file__).parents[2] / "docs"
COUNTS = Counts(waiting=4, leased=2, committed=3, quarantined=1, blocked=0)


def recorded(*events: Event) -> Recorded:
    kinds = Recorded()
    observer = Metrics("demo", kinds)
    for event in events:
        observer(event)
    return kinds


def sampled(unit: int, report: UnitReport, *, first: bool = True) -> UnitDone:
    return UnitDone("sample", unit, "sampler-0", 1, report, first, 8.0)


def test_units_that_are_done() -> None:
    described = UnitDone("describe", 0, "describer-0", 1, UnitReport(0, 4, seconds={"describe": 1.5}), True, 2.0)
    first = UnitReport(0, 4, accepted=3, rejected=1, seconds={"load": 0.5, "refine": 6.0}, checked=3, untold=1)
    first = replace(
        first, reasons={"clip": 1}, rounds=(1, 1, 2, 6), margins=(0.5, -0.25, 0.0, 2), denoiser_calls=40, stored=900
    )
    second = UnitReport(1, 4, accepted=2, failed=2, seconds={"refine": 4.0}, checked=2)
    kinds = recorded(described, sampled(0, first), sampled(1, second))
    assert kinds.of("synood_prompts", run="demo") == 4
    assert [kinds.of("synood_samples", run="demo", outcome=name) for name in ("accepted", "rejected", "failed")] == [
        5,
        1,
        2,
    ]
    assert [kinds.of("synood_checks", run="demo", outcome=name) for name in ("told", "untold")] == [4, 1]
    assert kinds.of("synood_rejections", run="demo", reason="clip") == 1
    assert kinds.of("synood_rounds", run="demo") == [1, 1, 2, 6]
    assert kinds.of("synood_margins", run="demo", side="id") == [0.5, 0.0, 2]
    assert kinds.of("synood_margins", run="demo", side="ood") == [0.25]
    assert kinds.of("synood_denoiser_calls", run="demo") == 40
    assert kinds.of("synood_stored_bytes", run="demo", stage="sample") == 900
    assert kinds.of("synood_unit_seconds", run="demo", stage="describe") == [2.0]
    assert kinds.of("synood_unit_seconds", run="demo", stage="sample") == [8.0, 8.0]
    work = {name: kinds.of("synood_work_seconds", run="demo", stage=name) for name in ("describe", "load", "refine")}
    assert work == {"describe": 1.5, "load": 0.5, "refine": 10.0}


def test_a_unit_counts_once_and_only_for_whom_committed_it() -> None:
    """A copy that came second, and a part that another driver had put there."""
    report = UnitReport(0, 4, accepted=4, seconds={"refine": 6.0})
    found = UnitReport(1, 4, found=True)
    kinds = recorded(sampled(0, report), sampled(0, report, first=False), sampled(1, found))
    assert kinds.of("synood_samples", run="demo", outcome="accepted") == 4
    assert kinds.of("synood_unit_seconds", run="demo", stage="sample") == [8.0]


def test_what_goes_wrong() -> None:
    lost = WorkerLost("sampler-3", "host", "out of memory", "", (1, 2))
    kinds = recorded(
        UnitFailed("sample", 1, "sampler-0", 1, "ValueError: no", "ValueError"),
        UnitFailed("sample", 1, "sampler-0", 2, "ValueError: no", "ValueError"),
        UnitFailed("sample", 1, "sampler-0", 3, "no answer", "deadline"),
        UnitQuarantined("sample", 1, "ValueError: no"),
        lost,
        lost,
        WorkerLost("describer-0", "host", "preempted", "", ()),
        WorkerReplaced("sampler-1", "hangs"),
    )
    assert kinds.of("synood_failed_attempts", run="demo", stage="sample", cause="ValueError") == 2
    assert kinds.of("synood_failed_attempts", run="demo", stage="sample", cause="deadline") == 1
    assert kinds.of("synood_quarantined_units", run="demo", stage="sample") == 1
    assert kinds.of("synood_lost_workers", run="demo", role="sampler", cause="out of memory") == 2
    assert kinds.of("synood_returned_units", run="demo", cause="out of memory") == 4
    assert kinds.of("synood_returned_units", run="demo", cause="preempted") is None
    assert kinds.of("synood_lost_workers", run="demo", role="describer", cause="preempted") == 1
    assert kinds.of("synood_replaced_workers", run="demo", role="sampler") == 1


def test_sizes_are_those_of_the_latest_tick() -> None:
    def tick(counts: Counts, actors: ActorCounts) -> Tick:
        units = {"describe": counts, "sample": counts}
        return Tick(Snapshot(units=units, samples=Totals(), actors={"sampler": actors}))  # type: ignore[arg-type]

    none = Counts(waiting=0, leased=0, committed=10, quarantined=0, blocked=0)
    kinds = recorded(tick(none, ActorCounts(waiting=5)), tick(COUNTS, ActorCounts(1, 2, 3, 4)))
    states = {
        state: kinds.of("synood_units", run="demo", stage="sample", state=state) for state in ("waiting", "leased")
    }
    assert states == {"waiting": 4, "leased": 2}
    assert sum(kinds.values["synood_units"].values()) == 2 * COUNTS.total, "every state has its number"
    assert sum(kinds.values["synood_workers"].values()) == 10
    assert kinds.of("synood_workers", run="demo", role="sampler", state="draining") == 4


def test_what_processes_use_is_told_once_by_whoever_reports() -> None:
    """A worker with a unit, even one that is not its first; one between units; the driver itself."""
    used.add("synood_store_bytes", "read", 5)
    told = {"synood_store_bytes": {"read": 100}, "synood_describer_tokens": {"written": 7}}
    kinds = recorded(
        sampled(0, UnitReport(0, 4, used=told), first=False),
        Used({"synood_describer_tokens": {"written": 3}}),
        Tick(Snapshot(units={}, samples=Totals(), actors={})),
        Tick(Snapshot(units={}, samples=Totals(), actors={})),
    )
    assert kinds.of("synood_store_bytes", run="demo", direction="read") == 105
    assert kinds.of("synood_describer_tokens", run="demo", direction="written") == 10


def test_waits_are_counted_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What events tell of, and what the driver's own process waits for; two places at once count once."""
    kinds = Recorded()
    metrics = Metrics("demo", kinds)
    for what in ("samplers without a place", "describers without a place"):
        metrics(WaitBegan(what, "…", "place"))
    metrics.wait(2.0)
    metrics(WaitEnded("samplers without a place", 2.0))
    metrics.wait(3.0)
    metrics(WaitEnded("describers without a place", 5.0))
    monkeypatch.setattr(waits.current, "__defaults__", (0.0,))
    waits.note("s3://runs/x", "HTTP 503")
    metrics.wait(4.0)
    waits.over("s3://runs/x")
    metrics.wait(8.0)
    assert kinds.of("synood_waited_seconds", run="demo", what="place") == 5
    assert kinds.of("synood_waited_seconds", run="demo", what="store") == 4
    metrics(Tick(Snapshot(units={}, samples=Totals(), actors={})))
    assert kinds.of("synood_repeated_requests", run="demo", what="store") == 1


def test_gpus_that_are_held_and_the_unit_that_is_out_longest() -> None:
    def tick(held: float, age: float) -> Tick:
        return Tick(Snapshot({}, Totals(), {}, ages={"sample": age}, gpu_seconds={"sampler": held}))

    kinds = recorded(tick(0.0, 1.0), tick(4.0, 30.0), tick(7.0, 0.0))
    assert kinds.of("synood_gpu_seconds", run="demo", role="sampler") == 7.0
    assert kinds.of("synood_oldest_unit_seconds", run="demo", stage="sample") == 0.0


def test_a_worker_that_is_ready_tells_how_long_it_took() -> None:
    kinds = recorded(StageBegan("describe"), WorkerReady("describer-12", 42.0))
    assert kinds.of("synood_start_seconds", run="demo", role="describer") == [42.0]


def test_every_run_is_observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use_local_ray(monkeypatch)
    data = {"uri": str(make_images(tmp_path / "images", 10)), "per_class": 100}
    settings = Settings.model_validate({"data": data, "output": str(tmp_path / "mine"), "farm": {"unit_size": 4}})
    synthesize(settings, lambda line: None, actors=stub_actors("once-1 error-2"))
    kinds = ray.metrics
    assert kinds.of("synood_units", run="mine", stage="sample", state="committed") == 3
    assert kinds.of("synood_units", run="mine", stage="sample", state="quarantined") == 1
    assert kinds.of("synood_failed_attempts", run="mine", stage="sample", cause="ValueError") == 4
    assert kinds.of("synood_store_operations", run="mine", operation="write") > 6
    assert kinds.of("synood_store_bytes", run="mine", direction="written") > 1000
    assert kinds.of("synood_quarantined_units", run="mine", stage="sample") == 1
    assert sum(kinds.values["synood_samples"].values()) == 12
    assert len(kinds.of("synood_unit_seconds", run="mine", stage="sample")) == 3


def test_the_docs_have_the_table() -> None:
    """One row a metric: name as Prometheus has it, kind, labels, meaning."""
    ending = {"counter": "_total", "gauge": "", "histogram": ""}
    rows = [
        f"| `ray_{name}{ending[metric.kind]}` | {metric.kind} | {', '.join(metric.labels)} | {metric.about} |"
        for name, metric in TABLE.items()
    ]
    page = (DOCS / "operating" / "metrics.md").read_text().splitlines()
    assert [line for line in page if line.startswith("| `")] == rows
