"""Two drivers on one run: every sample once, and neither repeats what it can see the other has done."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from synood_ray.config.settings import Settings
from synood_ray.farm import driver, others
from synood_ray.farm.observers import Event, WorkerPlaced
from synood_ray.farm.plan import Plan
from synood_ray.farm.retry import find_retries
from synood_ray.records import SourceImage
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples
from synood_ray.storage.record import check_or_create_run
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.farm.local_ray import Handle, use_its_clock, use_local_ray
from tests.farm.stubs import stub_actors

CLASSES = ["a", "b"]
SOURCES = [SourceImage(f"{i % 2}/{i}.png", i % 2, CLASSES[i % 2], "nowhere", 1, 8, 8) for i in range(80)]
UNITS, IN_FLIGHT = 20, 2


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    use_local_ray(monkeypatch)
    monkeypatch.setattr(driver, "TEND", 0.0)
    monkeypatch.setattr(others, "LOOK_AROUND", 0.0)
    monkeypatch.setattr(others, "LOOK_AGAIN", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


def make(store: Store, faults: str = "", units: int = UNITS, **more: object) -> driver.Driver:
    settings = Settings.model_validate({"farm": {"unit_size": 4, "in_flight": IN_FLIGHT}})
    plan = Plan(SOURCES, unit_size=4, per_image=units // UNITS)
    return driver.Driver(settings, store, plan, CLASSES, actors=stub_actors(faults), **more)  # type: ignore[arg-type]


def keys(store: Store) -> list[str]:
    return [row.key for entry in store.list(layout.PARTS) for row in decode_samples(store.get(entry.key))]


@pytest.mark.parametrize("faults", ["", "once-3 once-12"])
def test_at_once_every_sample_is_made_once(store: Store, faults: str) -> None:
    drivers = [make(store, faults) for _ in range(2)]
    threads = [threading.Thread(target=found.run) for found in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(keys(store)) == [f"{i:08d}" for i in range(80)]
    assert all(found.sampling.queue.done and not found.quarantined for found in drivers)


def test_a_driver_leaves_out_what_another_has_done_meanwhile(store: Store) -> None:
    """The second does all the rest while the first is in the middle of its units."""
    first, second = make(store), make(store)
    seen: list[int] = []

    def change(event: Event) -> None:
        if first.totals.units == 5 and not seen:
            seen.append(second.run().units)

    first.observers.append(change)
    total = first.run()
    assert total.units <= 5 + IN_FLIGHT  # it holds some while the other works
    assert seen[0] <= UNITS - 5
    assert total.units + seen[0] <= UNITS + IN_FLIGHT
    assert sorted(keys(store)) == [f"{i:08d}" for i in range(80)]


@pytest.mark.parametrize("joins", [0, 20])
def test_they_go_apart(monkeypatch: pytest.MonkeyPatch, store: Store, joins: int) -> None:
    """200 units, four in progress at each driver; the second comes after that many turns of the first."""
    ray = use_local_ray(monkeypatch)
    use_its_clock(monkeypatch, ray)
    monkeypatch.setattr(driver, "TEND", 1.0)
    monkeypatch.setattr(others, "LOOK_AROUND", 30.0)
    monkeypatch.setattr(others, "LOOK_AGAIN", 5.0)
    times = random.Random(0)
    made: list[int] = []

    def seconds(handle: Handle, method: str, arguments: tuple[Any, ...]) -> float:
        """A sampler asks the store before it begins with a unit."""
        if method != "sample" or store.exists(layout.part_key(arguments[0])):
            return 0.0
        made.append(arguments[0])
        return times.uniform(8, 12)

    ray.seconds = seconds
    drivers: list[driver.Driver] = []
    for turn in itertools.count():
        for starts, seed in ((0, 1), (joins, 2)):
            if turn == starts:
                drivers.append(make(store, units=200, rng=random.Random(seed)))
        working = [found for found in drivers if not found.sampling.queue.done]
        for found in working:
            found.turn()
        if not working:
            break
    assert sorted(keys(store)) == [f"{i:08d}" for i in range(800)]
    assert [len(drivers), sum(found.totals.units for found in drivers)] == [2, 200]
    assert min(found.totals.units for found in drivers) >= 70
    assert len(made) - 200 < 30  # 4 to 25 in 24 seeds; without going apart about 200


def test_two_that_retry(store: Store) -> None:
    first = make(store, "bad-0 bad-9 bad-50")
    plan = {"planned": first.plan.samples, "units": len(first.plan), "classes": CLASSES}
    check_or_create_run(store, first.settings, id_manifest_sha256="", **plan)
    first.run()
    retries = find_retries(store)
    first, second = make(store, retry=retries), make(store, retry=retries)

    def change(event: Event) -> None:
        if isinstance(event, WorkerPlaced):
            second.run()  # done at once after the first call

    first.observers.append(change)
    assert first.run().units <= IN_FLIGHT
    assert sorted(set(keys(store))) == [f"{i:08d}" for i in range(80)]
    assert len(keys(store)) == 83 and not find_retries(store)
