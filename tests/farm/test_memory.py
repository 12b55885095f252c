"""What the driver keeps does not grow with the samples that were made."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from synood_ray.config.settings import Settings
from synood_ray.farm.actors import Actors
from synood_ray.farm.driver import Driver
from synood_ray.farm.plan import Plan
from synood_ray.farm.reports import UnitReport
from synood_ray.records import SampleTask, SourceImage
from synood_ray.storage.stores import open_store
from tests.farm.local_ray import use_local_ray

SOURCES = [SourceImage(f"{i % 2}/{i}.png", i % 2, "ab"[i % 2], "nowhere", 1, 8, 8) for i in range(10)]


class Idle:
    """Describes and samples without a trace."""

    def __init__(self, *arguments: Any) -> None: ...

    def ready(self) -> None: ...

    def prepare(self) -> None: ...

    def describe(self, unit: int, tasks: list[SampleTask], retry: int = 0) -> UnitReport:
        return UnitReport(unit, len(tasks), seconds={"describe": 0.1})

    def sample(self, unit: int, tasks: list[SampleTask], *more: Any) -> UnitReport:
        return UnitReport(unit, len(tasks), accepted=len(tasks), seconds={"refine": 0.1})


def kept(folder: Path, units: int) -> int:
    """Bytes that are there after so many units and were not before."""
    plan = Plan(SOURCES, per_image=units, unit_size=10)
    settings = Settings.model_validate({"sampling": {"mllm_check": False}})
    driver = Driver(settings, open_store(str(folder)), plan, ["a", "b"], actors=Actors(describer=Idle, sampler=Idle))
    gc.collect()
    tracemalloc.start()
    try:
        assert driver.run().accepted == 10 * units
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_local_ray(monkeypatch)
    kept(tmp_path, 100)  # what is made once
    assert kept(tmp_path, 2000) - kept(tmp_path, 200) < 1800 * 8
