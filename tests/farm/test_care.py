"""How the driver looks after pools and units: on a clock of its own, with workers that take the time they are given."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.farm import driver
from synood_ray.farm.actors import Actors
from synood_ray.farm.observers import Event, Tick, UnitDone, UnitHandedOut, WorkerLost
from synood_ray.farm.plan import Plan
from synood_ray.records import SourceImage
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store, StoreUnavailable
from tests.farm.local_ray import (
    Handle,
    LocalRay,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    use_its_clock,
    use_local_ray,
)
from tests.farm.stubs import StubSampler, stub_actors

CLASSES = ["a", "b"]
SOURCES = [SourceImage(f"{i % 2}/{i}.png", i % 2, CLASSES[i % 2], "nowhere", 1, 8, 8) for i in range(80)]
UNITS = 20


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> LocalRay:
    found = use_local_ray(monkeypatch)
    use_its_clock(monkeypatch, found)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


def make(store: Store, *, check: bool = False, actors: Actors | None = None, **farm: object) -> driver.Driver:
    farm = {"unit_size": 4, "samplers": {"max": 2}, **farm}
    settings = Settings.model_validate({"farm": farm, "sampling": {"mllm_check": check}})
    plan = Plan(SOURCES, unit_size=4)
    return driver.Driver(settings, store, plan, CLASSES, actors=actors or stub_actors(), observers=[TOLD.append])


class Told(list[Event]):
    """All events so far."""

    @property
    def lines(self) -> list[str]:
        """What people read of them."""
        return [line for line in map(str, self) if line]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]


TOLD = Told()


@pytest.fixture(autouse=True)
def told() -> Told:
    TOLD.clear()
    return TOLD


def sampled(event: Event) -> bool:
    """Whether it is the end of a unit's sampling."""
    return isinstance(event, UnitDone) and event.stage == "sample"


def keys(store: Store) -> list[str]:
    return sorted(row.key for entry in store.list(layout.PARTS) for row in decode_samples(store.get(entry.key)))


def complete(store: Store) -> bool:
    return keys(store) == [f"{i:08d}" for i in range(80)]


def sampling(seconds: Callable[[Handle, int], float]) -> Callable[[Handle, str, tuple[Any, ...]], float]:
    """Times of the calls: of a unit that is sampled as given, of others none."""
    return lambda handle, method, arguments: seconds(handle, arguments[0]) if method == "sample" else 0.0


def first(handle: Handle) -> bool:
    """Whether it is the first sampler."""
    samplers = [other for other in handle.ray.handles if isinstance(other.actor, StubSampler)]
    return handle in samplers[:1]


def test_a_unit_that_hangs_gets_a_copy_and_nobody_waits_for_it(ray: LocalRay, store: Store, told: Told) -> None:
    asked: list[Handle] = []

    def seconds(handle: Handle, unit: int) -> float:
        if unit == 7:
            asked.append(handle)
        return inf if unit == 7 and handle is asked[0] else 10.0

    ray.seconds = sampling(seconds)
    begin = ray.now
    totals = make(store).run()
    assert complete(store) and totals.units == UNITS
    assert len(told.lines) == 1 and "takes long" in told.lines[0]
    assert asked[0] is not asked[1] and ray.now - begin < 200  # farm.unit_deadline is 1800


def test_no_copies_of_units_that_take_their_time(ray: LocalRay, store: Store, told: Told) -> None:
    """Also of those that wait behind others at their worker, and of the last, which are there alone."""
    ray.seconds = sampling(lambda handle, unit: 10.0 + unit % 3)
    make(store, in_flight=4, samplers={"max": 3}).run()
    assert complete(store) and not told.lines


def test_no_copy_while_others_wait_to_be_done(ray: LocalRay, store: Store, told: Told) -> None:
    ray.seconds = sampling(lambda handle, unit: inf if unit == 0 and first(handle) else 10.0)
    found = make(store, in_flight=1)
    found.run()
    first_copy = next(i for i, event in enumerate(told) if isinstance(event, UnitHandedOut) and event.copy)
    assert complete(store) and len(told.lines) == 1
    later = [event.snapshot.units["sample"].waiting for event in told[first_copy:] if isinstance(event, Tick)]
    assert later and not any(later)


def test_the_answer_that_comes_second_changes_nothing(ray: LocalRay, store: Store) -> None:
    ray.seconds = sampling(lambda handle, unit: 10.0 if unit != 3 else 35.0 if first(handle) else 60.0)
    totals = make(store, in_flight=1).run()
    assert complete(store) and totals.units == UNITS and totals.accepted == 80


def test_idle_actors_stay_for_the_grace(ray: LocalRay, store: Store) -> None:
    """Prompts come slowly once the first are there: two of three samplers are too many after a minute."""
    sizes: dict[float, int] = {}
    ray.seconds = lambda handle, method, arguments: (
        5.0 if method == "sample" else (0.0 if arguments[0] < 8 else 40.0) if method == "describe" else 0.0
    )
    found = make(store, samplers={"max": 3}, in_flight=1, idle_grace=60.0)
    begin = ray.now

    def count(event: Event) -> None:
        if isinstance(event, Tick):
            sizes[ray.now - begin] = event.snapshot.actors["sampler"].total

    found.observers.append(count)
    found.run()
    assert complete(store)
    assert all(size == 3 for at, size in sizes.items() if at < 60.0)
    assert sizes[max(sizes)] == 1


def test_a_stage_that_is_done_lets_its_actors_go_at_once(ray: LocalRay, store: Store) -> None:
    ray.seconds = sampling(lambda handle, unit: 10.0)
    found = make(store, idle_grace=1e6)
    seen: list[int] = []
    found.observers.append(lambda event: seen.append(len(found.describing.pool.workers)) if sampled(event) else None)
    found.run()
    assert seen[-2] == 0
    assert all(handle.killed for handle in ray.handles)


def test_a_describer_stays_for_the_checks_of_all(ray: LocalRay, store: Store) -> None:
    ray.seconds = sampling(lambda handle, unit: 10.0)
    found = make(store, check=True, describers={"max": 3}, idle_grace=0.0)
    seen: list[int] = []
    found.observers.append(lambda event: seen.append(len(found.describing.pool.workers)) if sampled(event) else None)
    found.run()
    assert seen[-2] == 1


def test_few_actors_for_little_work(ray: LocalRay, store: Store) -> None:
    """What is left of a run is done before a new actor would be up: none takes the place of the one that is gone."""
    ray.seconds = lambda handle, method, arguments: {"sample": 1.0, "ready": 100.0}.get(method, 0.0)
    found = make(store)

    def remove(event: Event) -> None:
        if found.totals.units == 10 and sampled(event) and len(found.sampling.pool.workers) == 2:
            worker = next(iter(found.sampling.pool.workers.values()))
            found.sampling.queue.release(worker.name, lost=False)
            found.sampling.pool.remove(worker)

    found.observers.append(remove)
    found.run()
    assert complete(store)
    assert sum(isinstance(handle.actor, StubSampler) for handle in ray.handles) == 2


def test_a_sampler_that_comes_back_when_it_is_no_longer_needed_gets_nothing(ray: LocalRay, store: Store) -> None:
    """Its answer that it is ready waits while the pool lets it go; units given to it then would never be done."""
    ray.seconds = lambda handle, method, arguments: (
        100.0 if method == "ready" and ray.now < 1050.0 else 1.0 + arguments[0] % 3 if method == "sample" else 0.0
    )
    found = make(store)
    lost: list[driver.Worker] = []

    def hold_up(event: Event) -> None:
        if found.totals.units == 10 and not lost:
            lost.append(next(iter(found.sampling.pool.workers.values())))
            lost[0].handle.die()
        elif lost and lost[0].lives == 2 and lost[0].name in found.sampling.pool.workers:
            ray.now += 2 * driver.TEND  # the store is slow just now

    found.observers.append(hold_up)
    found.run()
    assert complete(store) and ray.now < 1200.0  # farm.unit_deadline is 1800
    assert lost[0].handle.killed and not list(store.list(layout.ERRORS))


def test_another_sampler_prepares_when_the_first_is_gone(ray: LocalRay, store: Store) -> None:
    """Ray has no place for the first one any more."""
    ray.seconds = lambda handle, method, arguments: 50.0 if method == "prepare" and first(handle) else 0.0
    found = make(store)

    def kill(event: Event) -> None:
        if len(list(found.sampling.pool.ready)) == 2 and not ray.handles[1].away:
            ray.handles[1].die(seconds=1e4)

    found.observers.append(kill)
    begin = ray.now
    found.run()
    assert complete(store) and ray.now - begin < 50.0


def test_checks_count_as_work_of_their_describer(ray: LocalRay, store: Store) -> None:
    """All is described, and the describers that make the checks die more often than a useless one may."""
    lost: list[int] = []

    def fail(unit: int, attempt: int) -> None:
        if attempt == 1 and unit % 3:
            lost.append(unit)
            raise RayActorError("the checker")

    ray.seconds = sampling(lambda handle, unit: 10.0)
    make(store, check=True, actors=stub_actors(sampling=fail), samplers={"max": 1}, in_flight=1).run()
    assert complete(store) and len(lost) > driver.MAX_LOSSES


def test_answers_that_wait_while_the_store_holds_the_driver_up_are_not_late(
    ray: LocalRay, store: Store, told: Told
) -> None:
    ray.seconds = sampling(lambda handle, unit: 10.0 + unit % 3)
    found = make(store, unit_deadline=100.0)

    def hold_up(event: Event) -> None:
        if sampled(event) and found.totals.units == 6:
            ray.now += 200.0

    found.observers.append(hold_up)
    found.run()
    assert complete(store) and not told.lines


def test_an_actor_that_does_not_get_ready_is_replaced(ray: LocalRay, store: Store, told: Told) -> None:
    ray.seconds = lambda handle, method, arguments: inf if method == "ready" and first(handle) else 0.0
    make(store, samplers={"max": 1}, setup_grace=600.0).run()
    assert complete(store)
    assert told.lines == ["sampler-0 is not ready after farm.setup_grace = 600 s: replaced"]
    assert 600.0 <= ray.now - 1000.0 < 620.0


def test_when_none_gets_ready_the_setting_is_named(ray: LocalRay, store: Store) -> None:
    ray.seconds = lambda handle, method, arguments: (
        inf if method == "ready" and isinstance(handle.actor, StubSampler) else 0.0
    )
    with pytest.raises(UserError, match=r"farm.setup_grace: 3 samplers in a row were not ready after 600 s"):
        make(store, setup_grace=600.0).run()
    assert all(handle.killed for handle in ray.handles)


def test_an_actor_that_waits_for_a_machine_is_no_hindrance(ray: LocalRay, store: Store, told: Told) -> None:
    ray.place = lambda handle: None if handle.number == 1 else "here"  # the first sampler
    ray.seconds = sampling(lambda handle, unit: 100.0)
    make(store, setup_grace=1.0).run()
    assert complete(store) and told.lines == ["sampler: waiting for 1 CPU; the nodes that have it are in use"]
    assert isinstance(ray.handles[1].actor, StubSampler)


def test_draining_nodes_get_nothing_new_and_others_take_over(ray: LocalRay, store: Store, told: Told) -> None:
    ray.place = lambda handle: "spot" if handle.number == 1 else "here"
    given: list[float] = []

    def seconds(handle: Handle, unit: int) -> float:
        if handle.node == "spot":
            given.append(ray.now)
        return 10.0

    ray.seconds = sampling(seconds)
    found = make(store)

    def notice(event: Event) -> None:
        if found.totals.units == 4:
            ray.draining["spot"] = 0

    found.observers.append(notice)
    found.run()
    assert complete(store)
    assert told.lines == ["sampler-0 is on a node that is being drained (spot): it gets no new units"]
    assert given and max(given) <= 1031.0
    assert sum(isinstance(handle.actor, StubSampler) for handle in ray.handles) == 3


@pytest.mark.parametrize("error", [RayActorError("gone"), OutOfMemoryError("killed for want of memory")])
def test_a_worker_that_dies_is_no_fault_of_its_unit(ray: LocalRay, store: Store, told: Told, error: Exception) -> None:
    ray.seconds = sampling(lambda handle, unit: 10.0 + unit)
    found = make(store, max_attempts=1)

    def kill(event: Event) -> None:
        if sampled(event) and found.totals.units in (3, 8):
            next(iter(found.sampling.pool.workers.values())).handle.die(error)

    found.observers.append(kill)
    found.run()
    assert complete(store) and found.quarantined == 0
    cause = "out of memory" if isinstance(error, OutOfMemoryError) else "node"
    assert [(event.role, event.host, event.cause) for event in told.of(WorkerLost)] == [("sampler", "here", cause)] * 2
    assert all(f" was lost on here ({cause}); unit" in line for line in told.lines)
    assert not list(store.list(layout.ERRORS))


def test_the_only_worker_may_take_long_to_come_back(ray: LocalRay, store: Store, told: Told) -> None:
    """Its node is gone, and the next one takes minutes to come: all calls fail until then."""
    ray.seconds = sampling(lambda handle, unit: 10.0)
    found = make(store, samplers={"max": 1})
    lost: list[driver.Worker] = []

    def kill(event: Event) -> None:
        if found.totals.units == 3 and not lost:
            lost.extend(found.sampling.pool.workers.values())
            lost[0].handle.die(seconds=300.0)

    found.observers.append(kill)
    found.run()
    assert complete(store) and found.quarantined == 0
    assert lost[0].lives > 100 and lost[0].losses == 0
    assert len(told.of(WorkerLost)) == 1


@pytest.mark.parametrize(
    "cause",
    [RayActorError("the checker"), OutOfMemoryError(), RayTaskError(RayActorError("the scorer")), StoreUnavailable()],
)
def test_what_others_are_to_blame_for_costs_a_unit_no_attempt(ray: LocalRay, store: Store, cause: Exception) -> None:
    failed: list[int] = []

    def fail(unit: int, attempt: int) -> None:
        if unit == 5 and len(failed) < 4:
            failed.append(unit)
            raise cause

    found = make(store, check=True, actors=stub_actors(sampling=fail), max_attempts=1)
    found.run()
    assert complete(store) and found.quarantined == 0 and len(failed) == 4


def test_a_worker_that_hangs_is_replaced(ray: LocalRay, store: Store, told: Told) -> None:
    ray.seconds = sampling(lambda handle, unit: inf if unit == 3 and first(handle) else 10.0)
    make(store, samplers={"max": 1}, unit_deadline=300.0).run()
    assert complete(store)
    assert "sampler-0 hangs on unit 3: replaced" in told.lines
    assert [entry.key for entry in store.list(layout.ERRORS)] == ["errors/part-000003-a1.json"]


def test_a_worker_that_hangs_on_what_is_done_elsewhere_is_replaced_too(ray: LocalRay, store: Store) -> None:
    """Its unit has come home with a copy, so no lease runs out; prompts come slowly, so that the stage goes on."""
    ray.seconds = lambda handle, method, arguments: (
        (inf if arguments[0] == 0 and first(handle) else 10.0)
        if method == "sample"
        else 60.0
        if method == "describe"
        else 0.0
    )
    make(store, unit_deadline=300.0, in_flight=1).run()
    assert complete(store)
    assert not list(store.list(layout.ERRORS))
    samplers = [handle for handle in ray.handles if isinstance(handle.actor, StubSampler)]
    assert samplers[0].killed and ray.now > 2000.0


def test_units_that_wait_behind_others_do_not_expire(ray: LocalRay, store: Store, told: Told) -> None:
    """A describer makes them one by one: the fourth begins after the deadline that it got when it was handed out."""
    free: dict[int, float] = {}

    def seconds(handle: Handle, method: str, arguments: tuple[Any, ...]) -> float:
        if method != "describe":
            return 0.0
        free[handle.number] = max(free.get(handle.number, 0.0), ray.now) + 100.0
        return free[handle.number] - ray.now

    ray.seconds = seconds
    make(store, in_flight=4, unit_deadline=250.0).run()
    assert complete(store) and not told.lines
