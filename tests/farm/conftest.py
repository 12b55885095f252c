from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.farm.clockwork import TOLD, Told
from tests.farm.local_ray import LocalRay, make_images, use_its_clock, use_local_ray

SAMPLES, UNITS = 16, 4
"""Of `settings`."""


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


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A run of few units, without a cluster."""
    use_local_ray(monkeypatch)
    farm = {"unit_size": 4, "max_attempts": 2}
    data = {"uri": str(make_images(tmp_path / "images", SAMPLES + 4)), "per_class": 100}
    return Settings.model_validate({"data": data, "output": str(tmp_path / "run"), "limit": SAMPLES, "farm": farm})
