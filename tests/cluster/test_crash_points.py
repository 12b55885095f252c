"""Every row of docs/crash-points.md: something is killed at exactly that point, then the same command goes on."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import TEMPORARY, Store
from tests.cluster.crashing import CrashPoint, Moment, Victim
from tests.cluster.nodes import TAG, Nodes, living
from tests.cluster.runs import Command, contents, inspect, samples, wait_for
from tests.farm.local_ray import make_images

pytestmark = pytest.mark.real
KILLED, DONE = -9, 0
WORK = "bad-3 bad-17"  # two samples fail, in the calm run as well


@dataclass(frozen=True)
class Calm:
    """A finished run that nothing disturbed."""

    images: Path
    store: Store
    contents: Mapping[str, str]
    samples: Mapping[str, int]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(0, head_cpus=2) as found:
        yield found


@pytest.fixture(scope="module")
def calm(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    images = make_images(folder / "images", 15)
    finish(Command(images, str(folder / "run"), WORK), nodes, folder / "log")
    store = open_store(str(folder / "run"))
    return Calm(images, store, contents(store), samples(store))


def finish(command: Command, nodes: Nodes, log: Path, expected: int = DONE) -> None:
    """Run it to its end."""
    ended = command.start(log, {"RAY_ADDRESS": nodes.address}).wait(timeout=180)
    assert ended == expected, log.read_text()[-4000:]


def check(command: Command, nodes: Nodes, calm: Calm, log: Path) -> None:
    """The same command again, until there is nothing to do; then all that must hold of a finished run."""
    finish(command, nodes, log)
    if "finished already" not in log.read_text():
        finish(command, nodes, log)
    assert "finished already" in log.read_text()
    store = open_store(command.output)
    assert not inspect(store, calm.contents, calm.samples)
    assert not list((Path(command.output) / TEMPORARY).iterdir())
    wait_for(lambda: not nodes.actors(), "no actor is left")


PART, PROMPTS = layout.part_key(2), layout.prompts_key(2)
ERROR, RETRIED = layout.error_key("parts", 4, 1), layout.part_key(0, 1)
POINTS: dict[str, tuple[Victim, Moment, str]] = {
    "before the plan is written": ("self", "before", layout.RUN),
    "run.json is written, but has no name yet": ("self", "written", layout.RUN),
    "run.json is there, its writer does not know": ("self", "named", layout.RUN),
    "between run.json and the manifests": ("self", "before", layout.CALIBRATION_MANIFEST),
    "between the two manifests": ("self", "after", layout.CALIBRATION_MANIFEST),
    "the plan is written, no actor has started": ("self", "after", layout.ID_MANIFEST),
    "a sampler, as it calibrates": ("self", "before", layout.CALIBRATION),
    "a describer, before its PUT": ("self", "before", PROMPTS),
    "a describer, after its PUT": ("self", "named", PROMPTS),
    "the engine, as it describes": ("engine", "asked", "describe"),
    "the driver, between prompts and samples": ("driver", "after", PROMPTS),
    "the driver, as a unit is sampled": ("driver", "before", PART),
    "a sampler, before its PUT": ("self", "before", PART),
    "a sampler, in its PUT": ("self", "written", PART),
    "a sampler, after its PUT but before the answer": ("self", "named", PART),
    "a sampler, after its commit, before the driver knows": ("self", "after", PART),
    "the driver, after a commit that it does not know": ("driver", "after", PART),
    "the engine, as it checks samples": ("engine", "asked", "shows"),
    "the scorer, as it scores": ("self", "asked", "score"),
    "the driver, before it records a failed attempt": ("self", "before", ERROR),
    "before compaction is decided": ("self", "before", layout.PUBLICATION),
    "compaction is decided, nothing is written": ("self", "after", layout.PUBLICATION),
    "a shard is written, but has no name yet": ("self", "written", layout.shard_key(0, 3)),
    "between two shards": ("self", "before", layout.shard_key(1, 3)),
    "between the shards and the manifest": ("self", "before", layout.CARD),
    "before the manifest": ("self", "before", layout.MANIFEST),
    "the manifest is there, its writer does not know": ("self", "named", layout.MANIFEST),
}
"""Name in docs/crash-points.md -> who dies, and when (see `CrashPoint`)."""


@pytest.mark.parametrize("name", POINTS)
def test_killed(name: str, nodes: Nodes, calm: Calm, tmp_path: Path) -> None:
    victim, moment, key = POINTS[name]
    output, marker, log = tmp_path / "run", tmp_path / "killed", tmp_path / "log"
    if key in (layout.PUBLICATION, layout.CARD, layout.MANIFEST) or key.startswith(layout.DATA):
        _sampled(calm.store, output)
    words = f"{WORK} once-4" if key == ERROR else WORK
    command = Command(calm.images, str(output), f"{words} {CrashPoint(victim, moment, key, marker)}")
    in_driver = victim == "driver" or key not in (PART, PROMPTS, layout.CALIBRATION, "describe", "shows", "score")
    finish(command, nodes, log, expected=KILLED if in_driver else DONE)
    assert marker.exists(), "nothing was killed"
    check(command, nodes, calm, log)


RETRY_POINTS: dict[str, tuple[Victim, Moment, str]] = {
    "a retry has announced what it will make": ("self", "after", layout.retries_key(1)),
    "a retry has committed a part": ("driver", "after", RETRIED),
    "a retry has decided on a new publication": ("self", "after", layout.publication_key(1)),
    "a retry has taken the manifest back": ("self", "deleted", layout.MANIFEST),
    "a retry has replaced a shard": ("self", "named", layout.shard_key(0, 3)),
}


@pytest.mark.parametrize("name", RETRY_POINTS)
def test_killed_in_a_retry(name: str, nodes: Nodes, calm: Calm, tmp_path: Path) -> None:
    """Both commands go on from there: the plain one publishes what there is, the retry makes the rest."""
    victim, moment, key = RETRY_POINTS[name]
    output, marker, log = tmp_path / "run", tmp_path / "killed", tmp_path / "log"
    shutil.copytree(calm.store.uri, output)
    plain = Command(calm.images, str(output), f"{WORK} {CrashPoint(victim, moment, key, marker)}")
    retry = replace(plain, arguments=("--retry-failed",))
    finish(retry, nodes, log, expected=KILLED)
    assert marker.exists()
    finish(plain, nodes, log)
    finish(retry, nodes, log)
    store = open_store(str(output))
    found = list(Run.open(store).samples())
    assert [row.key for row in found] == [f"{i:08d}" for i in range(calm.samples["planned"])]
    assert samples(store)["failed"] == 0
    kept = {row.key: row for row in Run.open(calm.store).samples() if not row.failed}
    assert all(row == kept[row.key] for row in found if row.key in kept)
    wait_for(lambda: not nodes.actors(), "no actor is left")


RERUN = ("--rerun", "class = 'a' and unit < 4")
RERUN_POINTS: dict[str, tuple[Victim, Moment, str]] = {
    "a rerun is stored, nothing is announced": ("self", "after", layout.rerun_key(1)),
    "a rerun has announced what it will make": ("self", "after", layout.retries_key(1)),
    "a rerun has committed a part": ("driver", "after", layout.part_key(2, 1)),
    "a rerun has taken the manifest back": ("self", "deleted", layout.MANIFEST),
    "a rerun has replaced a shard": ("self", "named", layout.shard_key(0, 3)),
}


@pytest.fixture(scope="module")
def drawn_anew(nodes: Nodes, calm: Calm, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """A rerun that nothing disturbed."""
    folder = tmp_path_factory.mktemp("rerun")
    shutil.copytree(calm.store.uri, folder / "run")
    finish(Command(calm.images, str(folder / "run"), WORK, RERUN), nodes, folder / "log")
    store = open_store(str(folder / "run"))
    return Calm(calm.images, store, contents(store), samples(store))


@pytest.mark.parametrize("name", RERUN_POINTS)
def test_killed_in_a_rerun(name: str, nodes: Nodes, calm: Calm, drawn_anew: Calm, tmp_path: Path) -> None:
    """The same command makes of it what it would have become, and a third time finds nothing to do."""
    victim, moment, key = RERUN_POINTS[name]
    output, marker, log = tmp_path / "run", tmp_path / "killed", tmp_path / "log"
    shutil.copytree(calm.store.uri, output)
    rerun = Command(calm.images, str(output), f"{WORK} {CrashPoint(victim, moment, key, marker)}", RERUN)
    finish(rerun, nodes, log, expected=KILLED)
    assert marker.exists()
    check(rerun, nodes, drawn_anew, log)
    changed = {row.key for row in Run.open(open_store(str(output))).samples() if row.rerun}
    assert changed == {row.key for row in Run.open(calm.store).samples() if row.source_name == "a" and row.unit < 4}


def test_a_killed_driver_takes_its_own_cluster_along(calm: Calm, tmp_path: Path) -> None:
    """Without RAY_ADDRESS: nothing of the cluster that it started on this machine stays."""
    output, marker, log, tag = tmp_path / "run", tmp_path / "killed", tmp_path / "log", uuid.uuid4().hex
    command = Command(calm.images, str(output), f"{WORK} {CrashPoint('driver', 'before', PART, marker)}")
    for expected in (KILLED, DONE):
        assert command.start(log, {TAG: tag}).wait(timeout=180) == expected, log.read_text()[-4000:]
        wait_for(lambda: not living(tag), "no process is left")
    assert not inspect(open_store(str(output)), calm.contents, calm.samples)


def _sampled(store: Store, output: Path) -> None:
    """A run of which all is sampled and nothing published."""
    shutil.copytree(store.uri, output)
    for key in (layout.PUBLICATION, layout.CARD, layout.MANIFEST):
        (output / key).unlink()
    shutil.rmtree(output / layout.DATA)
