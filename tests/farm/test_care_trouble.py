"""What the driver does about workers that hang, die, do not get ready, or sit on a node that will go."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from synood_ray.errors import UserError
from synood_ray.farm import driver
from synood_ray.farm.observers import Event, WorkerLost
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Store, StoreUnavailable
from tests.farm.clockwork import Told, complete, first, make, sampled, sampling
from tests.farm.local_ray import ActorUnavailableError, Handle, LocalRay, OutOfMemoryError, RayActorError, RayTaskError
from tests.farm.stubs import StubSampler, stub_actors


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


def test_when_no_preparation_ends_the_setting_is_named(ray: LocalRay, store: Store) -> None:
    ray.seconds = lambda handle, method, arguments: 1e6 if method == "prepare" else 0.0
    with pytest.raises(UserError, match=r"farm\.unit_deadline: 3 times the run's negative labels and boundary"):
        make(store, unit_deadline=100.0).run()


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


def test_the_death_of_a_worker_that_has_not_told_its_place_is_told(ray: LocalRay, store: Store, told: Told) -> None:
    """Answers of one actor may come in any order: it is ready, at work and dead before it has said where it is."""
    work = sampling(lambda handle, unit: 10.0)
    ray.seconds = lambda handle, method, arguments: (
        60.0 if method == "__ray_call__" else work(handle, method, arguments)
    )
    found = make(store, samplers={"max": 1})

    def kill(event: Event) -> None:
        if found.totals.units == 3 and not told.of(WorkerLost):
            next(iter(found.sampling.pool.workers.values())).handle.die(ActorUnavailableError("gone"))

    found.observers.append(kill)
    found.run()
    assert complete(store)
    assert [(event.worker, event.host, event.cause) for event in told.of(WorkerLost)] == [("sampler-0", "", "unknown")]


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
