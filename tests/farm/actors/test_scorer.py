"""The scorer as an actor: another place, the same samples."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from benchmarks.small_farm import write_contexts
from synood_ray.cli.arguments import parse
from synood_ray.cli.benchmark import COMMAND
from synood_ray.config.settings import Settings
from synood_ray.data.selection import select
from synood_ray.data.source import open_source
from synood_ray.farm.actors.scorer import RemoteScorer, ScorerActor
from synood_ray.logs import heard
from synood_ray.pipeline import synthesize
from synood_ray.storage.parts import VOLATILE
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store

pytestmark = pytest.mark.real
SAMPLES = 6


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    pools = [word for pool in ("describers", "samplers", "scorers") for word in (f"--farm.{pool}.cpus", "0.5")]
    arguments = ["--preset", "mini", "--limit", str(SAMPLES), "--farm.unit_size", "3", *pools]
    arguments += ["--sampling.batch_size", "4", "--sampling.mllm_check", "false", "--data.per_class", "1"]
    found = parse(COMMAND, arguments).settings
    selection = select(open_source(found.data.uri, found.data), found.data)
    found.describer.contexts = write_contexts(found.data.uri, selection, tmp_path_factory.mktemp("contexts"))
    return found


def rows(settings: Settings, placement: str, output: Path) -> list[dict[str, Any]]:
    changed = settings.model_copy(deep=True, update={"output": str(output)})
    changed.scorer = changed.scorer.model_copy(update={"placement": placement})
    found = synthesize(changed, say=lambda line: None)
    assert found.status.published and found.status.failed == 0
    made = [dataclasses.asdict(row) for row in Run.open(open_store(str(output))).samples()]
    return [{name: value for name, value in row.items() if name not in VOLATILE} for row in made]


def test_the_same_samples_from_a_scorer_elsewhere(settings: Settings, tmp_path: Path) -> None:
    local = rows(settings, "local", tmp_path / "local")
    assert len(local) == SAMPLES and any(row["accepted"] for row in local)
    assert all(math.isclose(math.hypot(*row["feature"]), 1, abs_tol=1e-3) for row in local)
    assert rows(settings, "actor", tmp_path / "actor") == local


@ray.remote
class Warned:
    """A scorer whose model has something to say."""

    def open(self) -> list[str]:
        return ["scorer.model has learned from squashed images"]


def test_what_a_pool_is_warned_about_reaches_the_samplers() -> None:
    with heard() as lines:
        RemoteScorer([Warned.remote()]).open()
    assert lines == ["scorer.model has learned from squashed images"]


def test_what_is_warned_about_while_a_scorer_loads_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def open_scorer(*_: object) -> object:
        warnings.warn("scorer.model has learned from squashed images", stacklevel=1)
        return object()

    monkeypatch.setattr("synood_ray.farm.actors.scorer.open_scorer", open_scorer)
    monkeypatch.setattr(ScorerActor, "open_run", lambda self, output: None)
    actor = ScorerActor(Settings().model_dump(), str(tmp_path), ["a"])
    for _ in range(2):
        assert actor.open() == ["scorer.model has learned from squashed images"]
