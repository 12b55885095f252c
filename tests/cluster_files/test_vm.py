"""cluster/vm: Ray's own check of `ray up` files, and that workers fit the pools of the settings beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from synood_ray.config.settings import Settings

VM = Path(__file__).parents[2] / "cluster" / "vm"


@pytest.fixture(params=["aws", "gcp"])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load((VM / f"{request.param}.yaml").read_text())


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_spot_comes_before_on_demand_and_nothing_runs_without_work(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert types["sampler-spot"]["priority"] > types["sampler-on-demand"]["priority"]
    assert types["head"]["resources"]["CPU"] == 0
    assert all(node.get("min_workers", 0) == 0 for node in types.values())
    spot = str(types["sampler-spot"]["node_config"])
    assert "spot" in spot.lower() and "spot" not in str(types["sampler-on-demand"]["node_config"]).lower()


def test_every_pool_finds_machines(cluster: dict[str, Any]) -> None:
    farm = Settings.model_validate(yaml.safe_load((VM / "settings.yaml").read_text())).farm
    types = cluster["available_node_types"].values()
    for pool in (farm.describers, farm.samplers):
        fitting = [node for node in types if pool.labels.items() <= node.get("labels", {}).items()]
        assert fitting and all(node["resources"]["GPU"] >= pool.gpus for node in fitting)
        assert sum(node["max_workers"] for node in fitting) >= pool.max
