"""A real Prometheus scrapes a real farm: every query of the dashboard and of the alerts has an answer.

Workers are stubs that fail where they are told to, so that there is something to count; Ray, driver, metrics and
Prometheus are real. Needs Debian's package `prometheus`.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from synood_ray.config.settings import Settings
from synood_ray.farm.driver import Driver
from synood_ray.farm.metrics import Metrics
from synood_ray.farm.plan import Plan
from synood_ray.storage.stores import open_store
from tests.cluster_files.test_monitoring import CLUSTER, queries
from tests.farm.stubs import stub_actors
from tests.farm.test_driver import CLASSES, SOURCES

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed (Debian package)"),
]
FAULTS = "die-2 once-3 error-4 bad-30"


def sampling(unit: int, attempt: int) -> None:
    """Half a second a unit, so that there is something to watch; one hangs the first time, and is replaced."""
    time.sleep(0.5 if (unit, attempt) != (7, 1) else 600)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prometheus with the repository's configuration, which scrapes a local Ray every half second."""
    folder = tmp_path_factory.mktemp("prometheus")
    soon = {"metrics_report_interval_ms": 500}
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, _system_config=soon)
    node = ray.nodes()[0]
    (folder / "targets.json").write_text(
        json.dumps([{"targets": [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"]}])
    )
    config = yaml.safe_load((CLUSTER / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    config["rule_files"] = [str(CLUSTER / "prometheus" / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(folder / "targets.json")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={address}"], stdout=log, stderr=subprocess.STDOUT
        )
    yield f"http://{address}"
    server.terminate()
    server.wait()
    ray.shutdown()


def ask(address: str, query: str) -> list[Any]:
    """What Prometheus answers to a query, one entry a series."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]  # type: ignore[no-any-return]
    except OSError:  # it is starting
        return []


def sides(query: str) -> list[str]:
    """What an alert compares, without the thresholds that a healthy run does not reach; a panel's query as it is."""
    parts = re.split(r"\s+unless\s+|\s+> (?:[\d.]+(?: \* )?)?", query)
    return [part.strip().replace('cause="out of memory"', 'cause=~".+"') for part in parts if part.strip()]


def test_every_query_has_an_answer(prometheus: str, tmp_path: Path) -> None:
    silent = {f"{name}: {side}": side for name, query in queries().items() for side in sides(query)}
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
        store = open_store(str(tmp_path / str(number)))
        farm = {"unit_size": 4, "describers": {"max": 1}, "samplers": {"max": 2}, "unit_deadline": 8}
        actors = stub_actors(FAULTS, sampling=sampling)
        found = Driver(
            Settings.model_validate({"farm": farm}), store, Plan(SOURCES, unit_size=4), CLASSES, actors=actors
        )
        found.observers.append(Metrics("watched"))
        assert found.run().failed == 1
    over.set()
    watcher.join()
    assert [*silent] == []
