"""Several kinds of machines for one role: the preferred first, the next after some patience."""

from __future__ import annotations

from typing import Any

import pytest

from synood_ray.config.pools import PoolSettings
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.farm.observers import Event, KindChanged, Tick
from synood_ray.farm.placement import Node, check_any, needs_of
from synood_ray.storage.stores.base import Store
from tests.farm.clockwork import TOLD, complete, make, sampling
from tests.farm.local_ray import Handle, LocalRay

SPOT = {"spot": "ray.io/market-type=spot", "on-demand": "gpus=0.5 disk=2 ray.io/market-type=on-demand"}


def market(handle: Handle) -> str:
    return (handle.options["label_selector"] or {}).get("ray.io/market-type", "")


def test_the_next_kind_is_asked_for_when_there_is_no_machine_of_the_first(ray: LocalRay, store: Store) -> None:
    ray.place = lambda handle: None if market(handle) == "spot" else "here"
    ray.seconds = sampling(lambda handle, unit: 100.0)
    make(store, samplers={"max": 2, "kinds": SPOT, "patience": 30}).run()
    assert complete(store)
    changed = TOLD.of(KindChanged)
    assert [(event.worker, event.kind, event.other) for event in changed[:2]] == [
        ("sampler-0", "spot", "on-demand"),
        ("sampler-1", "spot", "on-demand"),
    ]
    assert all(30 < event.seconds <= 32 for event in changed)
    asked = next(handle.options for handle in ray.handles if market(handle) == "on-demand")
    assert (asked["num_gpus"], asked["resources"], asked["num_cpus"]) == (0.5, {"disk": 2.0}, 1.0)


def test_the_preferred_kind_is_enough_where_it_is_there(ray: LocalRay, store: Store) -> None:
    make(store, samplers={"max": 2, "kinds": SPOT}).run()
    assert complete(store) and not TOLD.of(KindChanged)
    assert {market(handle) for handle in ray.handles} == {"", "spot"}  # the describer has no kinds


def test_the_last_kind_goes_on_waiting(ray: LocalRay, store: Store) -> None:
    ray.place = lambda handle: None if market(handle) else "here"
    driver = make(store, samplers={"max": 1, "kinds": SPOT, "patience": 30})

    def machines_come(event: Event) -> None:
        for handle in ray.handles:
            if ray.now > 1500 and market(handle) == "on-demand" and handle.node is None:
                handle.node = "here"
                for call in handle.calls:
                    call.due = ray.now

    driver.observers.append(machines_come)
    driver.run()
    assert complete(store) and len(TOLD.of(KindChanged)) == 1
    line = "sampler: waiting for 0.5 GPU, 1 CPU, 2 disk, label ray.io/market-type=on-demand (kind on-demand)"
    assert any(told.startswith(line) for told in TOLD.lines)
    held = [tick.snapshot.actors["sampler"].gpus for tick in TOLD.of(Tick)]
    assert set(held) == {0.0, 0.5} and held[0] == 0.0, "a worker without a place holds nothing"


def test_a_role_fits_if_one_of_its_kinds_does() -> None:
    kinds = {"a100": "accelerator=A100", "l4": "accelerator=L4"}
    settings = Settings.model_validate({"farm": {"samplers": {"gpus": 1, "kinds": kinds}}})
    check_any(needs_of(settings), [Node({"CPU": 4.0, "GPU": 1.0}, {"accelerator": "L4"})])
    with pytest.raises(UserError, match="label accelerator=A100, and no node has that"):
        check_any(needs_of(settings), [Node({"CPU": 4.0, "GPU": 1.0}, {"accelerator": "T4"})])


@pytest.mark.parametrize("text", ["spot", "gpus=", "=1", "gpus=many"])
def test_a_kind_that_cannot_be_read_is_refused(text: str) -> None:
    values: dict[str, Any] = {"kinds": {"odd": text}}
    with pytest.raises(ValueError, match=r"odd|gpus"):
        PoolSettings.model_validate(values)
