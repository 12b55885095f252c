"""The driver under random deaths, delays and hold-ups, on a clock of its own: nothing is lost, nobody is forgotten."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synood_ray.farm import driver
from synood_ray.farm.observers import Event, Tick, UnitHandedOut
from synood_ray.farm.queue import State
from synood_ray.storage import layout
from synood_ray.storage.stores import open_store
from tests.farm.clockwork import UNITS, complete, make
from tests.farm.local_ray import ActorUnavailableError, RayActorError, use_its_clock, use_local_ray

DEADLINE = 1800.0  # farm.unit_deadline; no unit below takes a tenth of it, with all that happens


def check_leases(found: driver.Driver) -> None:
    """Every unit in progress is in the hands of a worker that is still there and knows of it."""
    for stage in found.stages:
        for lease in stage.queue.leases():
            holder = stage.pool.workers.get(lease.worker)
            assert holder is not None and lease.id in holder.units, lease
        leased = {lease.unit for lease in stage.queue.leases()}
        assert leased == {unit for unit in range(UNITS) if stage.queue.state(unit) is State.LEASED}


@pytest.mark.slow
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), samplers=st.integers(1, 4), slots=st.integers(1, 3), check=st.booleans())
def test_whatever_happens_every_unit_is_done_in_good_time(seed: int, samplers: int, slots: int, check: bool) -> None:
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        ray = use_local_ray(patch)
        use_its_clock(patch, ray)
        ray.seconds = lambda handle, method, arguments: (
            chance.choice((0.0, 5.0, 90.0)) if method == "ready" else chance.uniform(0.0, 8.0)
        )
        node = lambda: f"node {len(ray.draining)}"  # noqa: E731 - Ray places nothing on a node that is being drained
        ray.place = lambda handle: node()
        farm = {"samplers": {"max": samplers}, "in_flight": slots, "idle_grace": 5.0}
        store = open_store(str(Path(folder) / "run"))
        found = make(store, check=check, **farm)
        kills = chance.randrange(10)  # ten in a row end a unit or a worker for good, and rightly so

        def disturb(event: Event) -> None:
            nonlocal kills
            check_leases(found)
            if isinstance(event, Tick | UnitHandedOut):
                return
            if chance.random() < 0.3:
                ray.now += chance.uniform(0.0, 3.0)  # the store holds the driver up
            if chance.random() < 0.02:
                ray.draining[node()] = 0
            alive = [handle for handle in ray.handles if not handle.killed]
            if kills and alive and chance.random() < 0.3:
                kills -= 1
                error = chance.choice((RayActorError("gone"), ActorUnavailableError("gone")))
                chance.choice(alive).die(error, chance.choice((0.0, 3.0, 40.0)))

        found.observers.append(disturb)
        found.run()
        assert complete(store) and found.quarantined == 0
        assert not list(store.list(layout.ERRORS)) and ray.now < 1000.0 + DEADLINE
        assert all(handle.killed for handle in ray.handles)
