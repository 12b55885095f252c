"""A real Prometheus scrapes a real farm: every query of dashboard and alerts has an answer, and an alert fires.

Workers are stubs that fail where they are told to, so that there is something to count; Ray, driver, metrics,
Prometheus and the store, a SeaweedFS, are real. Needs Debian's package `prometheus`.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator

import boto3
import pytest
import ray

from synood_ray import used
from synood_ray.config.settings import Settings
from synood_ray.farm.driver import Driver
from synood_ray.farm.metrics import Metrics
from synood_ray.farm.observers import Event, UnitDone
from synood_ray.farm.plan import Plan
from synood_ray.storage.stores import open_store
from tests.cluster_files.prometheus import ask, prometheus_of, sides
from tests.cluster_files.test_monitoring import of_farm
from tests.farm.stubs import stub_actors
from tests.farm.test_driver import CLASSES, SOURCES
from tests.storage.seaweed import AWS_ENVIRONMENT, Seaweed

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed (Debian package)"),
]
FAULTS = "die-2 once-3 error-4 hang-7 bad-30"


def sampling(unit: int, attempt: int) -> None:
    """Half a second a unit, so that there is something to watch.

    What no run here comes to is noted by hand: a describer's tokens, an operation of the store that is given up.
    """
    used.add("synood_describer_tokens", "read", 100)
    used.add("synood_store_errors", "read")
    time.sleep(0.5)


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A store that can be stopped; this process and Ray's workers know where it is."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": server.endpoint}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="watched")
        yield server
    server.kill()


@pytest.fixture(scope="module")
def prometheus(weed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of one that scrapes a local Ray."""
    soon = {"metrics_report_interval_ms": 500}
    ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, _system_config=soon)
    node = ray.nodes()[0]
    place = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    with prometheus_of([place], tmp_path_factory.mktemp("prometheus")) as address:
        yield address
    ray.shutdown()


def driver(run: str, faults: str, unit_deadline: float = 8) -> Driver:
    """Of a new run on the SeaweedFS, by workers that hold a GPU."""
    farm = {"unit_size": 4, "describers": {"max": 1}, "samplers": {"max": 2, "gpus": 0.5}}
    settings = Settings.model_validate({"farm": {**farm, "unit_deadline": unit_deadline}})
    actors = stub_actors(faults, sampling=sampling)
    return Driver(settings, open_store(f"s3://watched/{run}"), Plan(SOURCES, unit_size=4), CLASSES, actors=actors)


def firing(address: str) -> set[str]:
    """Names of the alerts that fire."""
    found = ask(address, 'ALERTS{alertstate="firing"}')
    return {series["metric"]["alertname"] for series in found}


def test_stopping_the_store_during_a_run_fires_its_alert(prometheus: str, weed: Seaweed) -> None:
    """The rules are the shipped ones; the run is none the worse for it once the store is back."""
    stopped, fired = threading.Event(), threading.Event()

    def stop(event: Event) -> None:
        if isinstance(event, UnitDone) and event.stage == "sample" and not stopped.is_set():
            weed.kill()
            stopped.set()

    def watch() -> None:
        stopped.wait(60)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and "SynoodStoreAway" not in firing(prometheus):
            time.sleep(0.2)
        if "SynoodStoreAway" in firing(prometheus):
            fired.set()
        weed.start()

    watcher = threading.Thread(target=watch)
    watcher.start()
    found = driver("outage", "", unit_deadline=300)
    with Metrics("outage") as metrics:
        found.observers += [metrics, stop]
        assert "SynoodStoreAway" not in firing(prometheus)
        totals = found.run()
    watcher.join()
    assert fired.is_set()
    assert totals.failed == 0 and found.quarantined == 0


def test_every_query_has_an_answer(prometheus: str) -> None:
    silent = {f"{name}: {side}": side for name, query in of_farm().items() for side in sides(query)}
    assert len(silent) > 20
    over = threading.Event()

    def watch() -> None:  # as a dashboard does, while the run is live: Ray forgets the gauges of one that has ended
        while silent and not over.wait(0.2):
            for name in [name for name, query in silent.items() if ask(prometheus, query)]:
                del silent[name]

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(4):
        if not silent:
            break
        found = driver(str(number), FAULTS)
        with Metrics("watched") as metrics:
            found.observers.append(metrics)
            assert found.run().failed == 1
    deadline = time.monotonic() + 30
    while silent and time.monotonic() < deadline:  # counters stay: the latest scrapes have yet to come
        time.sleep(0.2)
    over.set()
    watcher.join()
    assert [*silent] == []
