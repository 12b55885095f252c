"""The driver's loop on real Ray actors without models."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from synood_ray.config.pools import PoolSettings
from synood_ray.config.settings import LogSettings, Settings
from synood_ray.farm.actors.named import Named, logged
from synood_ray.farm.driver import Driver
from synood_ray.farm.metrics import Metrics
from synood_ray.farm.observers import Event, Tick, WorkerLost
from synood_ray.farm.plan import Plan
from synood_ray.farm.pool import Pool
from synood_ray.farm.reports import UnitReport
from synood_ray.records import SourceImage
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.farm.stubs import stub_actors

pytestmark = pytest.mark.real
CLASSES = ["a", "b"]
SOURCES = [SourceImage(f"{i % 2}/{i}.png", i % 2, CLASSES[i % 2], "nowhere", 1, 8, 8) for i in range(40)]
UNITS = 10


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    soon = {"metrics_report_interval_ms": 500}  # for the scrape
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _system_config=soon)
    yield
    ray.shutdown()


def driver(store: Store, faults: str = "", **farm: object) -> Driver:
    settings = Settings.model_validate({"farm": {"unit_size": 4, **farm}})
    return Driver(settings, store, Plan(SOURCES, unit_size=4), CLASSES, actors=stub_actors(faults))


def keys(store: Store) -> list[str]:
    return [row.key for entry in store.list(layout.PARTS) for row in decode_samples(store.get(entry.key))]


@pytest.mark.parametrize("faults", ["", "once-3", "die-2", "once-0 die-1 die-9"])
def test_every_sample_once_whatever_fails(tmp_path: Path, faults: str) -> None:
    store = open_store(str(tmp_path / "run"))
    found = driver(store, faults)
    totals = found.run()
    assert sorted(keys(store)) == [f"{i:08d}" for i in range(40)]
    # What a worker had committed just before it died is found, not made again.
    assert totals.accepted == 40 or "die" in faults
    assert found.quarantined == 0
    assert not any(stage.pool.workers for stage in found.stages)


def test_a_scrape_shows_the_numbers_of_a_run(tmp_path: Path) -> None:
    found = driver(open_store(str(tmp_path / "run")), "once-3 error-4")
    found.observers.append(Metrics("scraped"))
    assert found.run().accepted == 36
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

    def scraped() -> dict[tuple[str, ...], float]:
        """Name and values of our labels, sorted by the label -> value."""
        with urllib.request.urlopen(address, timeout=10) as answer:
            lines = re.findall(r"^ray_(synood_\w+)\{(.*)\} (\S+)$", answer.read().decode(), flags=re.M)
        ours = r'(?:cause|outcome|role|stage|state)="([^"]*)"'
        return {(n, *re.findall(ours, labels)): float(v) for n, labels, v in lines if 'run="scraped"' in labels}

    expected = {
        ("synood_units", "sample", "committed"): 9,
        ("synood_units", "sample", "quarantined"): 1,
        ("synood_samples_total", "accepted"): 36,
        ("synood_prompts_total",): 40,
        ("synood_failed_attempts_total", "ValueError", "sample"): 4,
        ("synood_quarantined_units_total", "sample"): 1,
        ("synood_unit_seconds_count", "sample"): 9,
    }
    deadline = time.monotonic() + 60  # numbers come late
    while (values := scraped()).items() & expected.items() != expected.items() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert {name: values.get(name) for name in expected} == expected


def test_a_lost_worker_is_told_with_its_machine_and_the_cause(tmp_path: Path) -> None:
    told: list[Event] = []
    one = {"max": 1}  # another would make the unit's copy, and the run be over before Ray knows of the death
    found = driver(open_store(str(tmp_path / "run")), "die-2", samplers=one)
    found.observers.append(told.append)
    found.run()
    lost = [event for event in told if isinstance(event, WorkerLost)]
    assert [(event.role, event.host, event.cause) for event in lost] == [("sampler", socket.gethostname(), "crash")]
    # Which of its units are told depends on whose answer comes first.
    assert lost[0].units and lost[0].detail and "\n" not in str(lost[0])


def test_actors_have_the_names_that_the_driver_calls_them_by() -> None:
    """Also where another pool has, or just had, actors of the same names."""
    for _ in range(2):
        pool = Pool("sampler", Named, PoolSettings(cpus=0.1), (), 1, run="demo")
        names = ray.get([worker.handle.__ray_call__.remote(repr) for worker in pool.grow(2)])
        assert names == ["sampler-0 · demo", "sampler-1 · demo"] and list(pool.workers) == ["sampler-0", "sampler-1"]
        pool.clear()


class Failing(Named):
    """Logs as the real actors do."""

    def __init__(self) -> None:
        self.start_log(LogSettings(form="json"), "s3://runs/demo")

    @logged
    def ready(self) -> None: ...

    @logged
    def sample(self, unit: int) -> UnitReport:
        raise ValueError(f"unit {unit} does not work")

    @logged
    def describe(self, unit: int) -> UnitReport:
        return UnitReport(unit, 4, accepted=3, rejected=1, seconds={"refine": 2.0})


def log_lines() -> list[dict[str, Any]]:
    """What all workers of this cluster have logged, as Ray keeps it."""
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    lines = [line for path in logs.glob("worker-*.err") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_an_actors_log_names_run_worker_and_unit_and_keeps_what_was_raised() -> None:
    pool = Pool("sampler", Failing, PoolSettings(cpus=0.1), (), 1, run="demo")
    handle = pool.grow(1)[0].handle
    ray.get([handle.ready.remote(), handle.describe.remote(6)])
    with pytest.raises(ValueError, match="unit 7 does not work"):
        ray.get(handle.sample.remote(7))
    pool.clear()
    found = [line for line in log_lines() if line["run"] == "s3://runs/demo"]
    assert [(line["worker"], line["unit"], line["level"], line["message"]) for line in found] == [
        ("sampler-0", None, "info", "ready: done"),
        ("sampler-0", 6, "info", "describe: 4 samples: 3 accepted, 1 rejected (refine 2.0 s)"),
        ("sampler-0", 7, "error", "ValueError: unit 7 does not work"),
    ]
    assert "Traceback" in found[-1]["error"] and "in sample" in found[-1]["error"]


class Counting:
    def threads(self) -> int:
        import torch

        return torch.get_num_threads()


@pytest.mark.parametrize("threads", [0, 2])
def test_torch_takes_as_many_threads_as_farm_threads_says(threads: int) -> None:
    pool = Pool("sampler", Counting, PoolSettings(cpus=0.2), (), 1, threads=threads)
    expected = threads or int(os.environ.get("OMP_NUM_THREADS", 1))  # which Ray leaves as it is
    assert ray.get(pool.grow(1)[0].handle.threads.remote()) == expected
    pool.clear()


def test_a_unit_that_always_fails_is_quarantined_and_blocks_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    found = driver(store, "error-5", max_attempts=2)
    found.run()
    assert found.quarantined == 1
    assert len(keys(store)) == 36
    errors = [entry.key for entry in store.list(layout.ERRORS)]
    assert len(errors) == 2 and b"unit 5 does not work" in store.get(errors[0])


def test_resume_samples_only_what_is_missing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    driver(store).run()
    for unit in (2, 7):
        store.delete(layout.part_key(unit))
    totals = driver(store).run()
    assert totals.units == 2 and totals.described == 0
    assert sorted(keys(store)) == [f"{i:08d}" for i in range(40)]


def test_pools_start_at_the_size_the_backlog_asks_for(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    sizes: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, Tick):
            sizes.append(event.snapshot.actors["sampler"].total)

    found = driver(store, samplers={"max": 3, "cpus": 0.5}, describers={"cpus": 0.5}, in_flight=2)
    found.observers.append(count)
    found.run()
    assert max(sizes) == 3 and sizes[0] == 3
