"""A node is lost in the middle of units; the object store dies in the middle of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synood_ray.storage import layout
from synood_ray.storage.stores import open_store
from tests.cluster.crashing import CrashPoint
from tests.cluster.nodes import Nodes
from tests.cluster.runs import Command, contents, inspect, samples, wait_for
from tests.farm.local_ray import make_images
from tests.faultproxy import Fault, FaultProxy
from tests.storage.conftest import use_s3
from tests.storage.seaweed import AWS_ENVIRONMENT, Seaweed

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    found = Seaweed(tmp_path_factory.mktemp("weed"))
    found.start()
    yield found
    found.kill()


@pytest.fixture(scope="module")
def nodes(seaweed: Seaweed) -> Iterator[Nodes]:
    with Nodes(2, environment={**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": seaweed.endpoint}) as found:  # and the head
        yield found


@pytest.fixture(scope="module")
def calm(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("calm")
    command = Command(make_images(folder / "images", 25), str(folder / "run"))
    _finish(command, nodes, folder / "log")
    return command


def _finish(command: Command, nodes: Nodes, log: Path) -> None:
    ended = command.start(log, {"RAY_ADDRESS": nodes.address}).wait(timeout=300)
    assert ended == 0, log.read_text()[-4000:]


def _check(command: Command, nodes: Nodes, calm: Command) -> None:
    expected = open_store(calm.output)
    assert not inspect(open_store(command.output), contents(expected), samples(expected))
    wait_for(lambda: not nodes.actors(), "no actor is left")


def test_a_node_with_workers_in_the_middle_of_units(
    nodes: Nodes, calm: Command, seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sampler pulls the plug of its node, with everything on it, as it is about to commit. Two nodes that share a
    store, and no folder for the output; the bytes are those of the calm run, whose output is a folder."""
    marker, log = tmp_path / "killed", tmp_path / "log"
    output = use_s3(monkeypatch, seaweed.endpoint)
    crash = CrashPoint("node", "before", layout.part_key(3), marker)
    spread = ("--farm.samplers.max", "3", "--farm.samplers.cpus", "1")  # on both nodes
    command = Command(calm.images, output, str(crash), spread)
    _finish(command, nodes, log)
    assert marker.exists()
    told = log.read_text()
    assert "was lost" in told or "does it too" in told  # the loss is noticed, or a copy of its unit was faster
    assert len(nodes.alive()) == 1
    _check(command, nodes, calm)


def test_the_store_dies_with_a_write_under_way(
    nodes: Nodes, calm: Command, seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the part, but its answer never comes; it is back before the workers lose patience."""
    killed = list[str]()

    def choose(method: str, path: str) -> Fault | None:
        if method == "PUT" and layout.part_key(3) in path and not killed:
            killed.append(path)
            return Fault.DROP_ANSWER
        if killed == [path] and method == "PUT":  # the worker's next attempt
            killed.append("dead")
            seaweed.kill()
            seaweed.start()
        return None

    output = use_s3(monkeypatch, seaweed.endpoint)
    with FaultProxy(seaweed.endpoint, choose) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with Nodes(1) as others:
            command = Command(calm.images, output)
            _finish(command, others, tmp_path / "log")
            _check(command, others, calm)
    assert killed[1:] == ["dead"]
