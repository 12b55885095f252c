"""A driver on a clock of its own: its workers take the time they are given, and everything it tells is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from synood_ray.config.settings import Settings
from synood_ray.farm import driver
from synood_ray.farm.actors import Actors
from synood_ray.farm.observers import Event, UnitDone
from synood_ray.farm.plan import Plan
from synood_ray.records import SourceImage
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples
from synood_ray.storage.stores.base import Store
from tests.farm.local_ray import Handle
from tests.farm.stubs import StubSampler, stub_actors

CLASSES = ["a", "b"]
SOURCES = [SourceImage(f"{i % 2}/{i}.png", i % 2, CLASSES[i % 2], "nowhere", 1, 8, 8) for i in range(80)]
UNITS = 20


def make(
    store: Store, *, check: bool = False, actors: Actors | None = None, remote: bool = False, **farm: object
) -> driver.Driver:
    """check: the describer is asked about finished samples. remote: scorers are actors of their own."""
    farm = {"unit_size": 4, "samplers": {"max": 2}, **farm}
    scorer = {"placement": "actor"} if remote else {}
    settings = Settings.model_validate({"farm": farm, "scorer": scorer, "sampling": {"mllm_check": check}})
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
