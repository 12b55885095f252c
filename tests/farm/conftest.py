from pathlib import Path

import pytest

from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.farm.clockwork import TOLD, Told
from tests.farm.local_ray import LocalRay, use_its_clock, use_local_ray


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> LocalRay:
    """Ray in this process, on a clock of its own; nothing has been told yet."""
    found = use_local_ray(monkeypatch)
    use_its_clock(monkeypatch, found)
    TOLD.clear()
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


@pytest.fixture
def told(ray: LocalRay) -> Told:
    """All that the drivers of `tests.farm.clockwork` tell."""
    return TOLD
