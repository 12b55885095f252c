"""The two stages of a run as the store says they have come, and what others have made since."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synood_ray.config.pools import FarmSettings
from synood_ray.farm.others import Others
from synood_ray.farm.queue import State
from synood_ray.farm.retry import WHOLE, Retry
from synood_ray.farm.stage import Stage, open_stages
from synood_ray.storage import layout
from synood_ray.storage.progress import scan_stages
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


def opened(store: Store, units: int, retry: dict[int, Retry] | None = None) -> tuple[Stage, Stage]:
    pool: Any = SimpleNamespace()
    return open_stages(scan_stages(store, units), units, pool, pool, FarmSettings(), retry or {})


def test_a_crash_between_the_two_records_of_a_unit_without_prompts(store: Store) -> None:
    """Its samples are given up with it: nothing else would ever release them, and the run would not end."""
    store.put_new(layout.part_key(0), b"")
    put_json(store, layout.error_key("prompts", 1, 3, final=True), {"error": "no prompts"})
    describing, sampling = opened(store, 2)
    assert sampling.queue.state(1) is describing.queue.state(1) is State.QUARANTINED
    assert describing.queue.done and sampling.queue.done
    describing, sampling = opened(store, 2, {1: WHOLE})
    assert describing.queue.state(1) is State.WAITING and sampling.queue.state(1) is State.BLOCKED


def test_files_of_units_that_the_run_does_not_have(store: Store) -> None:
    store.put_new(layout.part_key(99), b"")
    store.put_new(layout.prompts_key(98), b"")
    store.put_new(layout.prompts_key(1), b"")
    store.put_new(layout.part_key(0), b"")
    describing, sampling = opened(store, 3)
    others = Others(store, describing.queue, sampling.queue, {})
    store.put_new(layout.part_key(2), b"")
    others.due = 0.0
    others.look()
    assert [sampling.queue.state(unit) for unit in range(3)] == [State.COMMITTED, State.WAITING, State.COMMITTED]
