"""How the driver looks after pools and units: copies, sizes, who stays and who goes."""

from __future__ import annotations

from math import inf

import pytest

from synood_ray.farm import driver
from synood_ray.farm.observers import Event, Tick, UnitDone, UnitHandedOut
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Store
from tests.farm.clockwork import UNITS, Told, complete, first, make, sampled, sampling
from tests.farm.local_ray import Handle, LocalRay, RayActorError
from tests.farm.stubs import StubSampler, stub_actors


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


def test_what_a_worker_committed_before_it_died_is_no_other_drivers(
    ray: LocalRay, store: Store, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is there, and whoever made it did not live to say so: nobody is at work here whom to make room for."""
    ray.seconds = sampling(lambda handle, unit: 10.0)
    found = make(store, in_flight=1)
    met: list[int] = []
    monkeypatch.setattr(found.others, "met", lambda queue, lease: met.append(lease.unit))
    found.others.due = inf  # a listing would find it too

    def die(event: Event) -> None:
        if isinstance(event, UnitHandedOut) and (event.stage, event.unit, event.attempt) == ("sample", 5, 1):
            handle = found.sampling.pool.workers[event.worker].handle
            handle.actor.sample(5, found.plan.unit(5), 1, None)
            handle.die()

    found.observers.append(die)
    totals = found.run()
    (again,) = [event for event in told.of(UnitDone) if event.report.found]
    assert (again.unit, again.attempt, met, totals.units) == (5, 2, [], UNITS) and complete(store)


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
