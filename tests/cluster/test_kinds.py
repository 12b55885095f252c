"""Logical GPUs and labels on a real Ray: the preferred kind is not there, and the next one does the work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.nodes import Nodes
from tests.cluster.runs import Command
from tests.farm.local_ray import make_images

pytestmark = pytest.mark.real


def test_on_demand_takes_over_where_there_is_no_spot(tmp_path: Path) -> None:
    with Nodes(0) as nodes:
        nodes.add(num_gpus=1, labels={"market": "on-demand"})
        kinds = ("--farm.samplers.kinds", "{spot: market=spot gpus=0.5, on-demand: market=on-demand gpus=0.5}")
        pool = (*kinds, "--farm.samplers.patience", "2", "--farm.samplers.max", "1", "--farm.idle_grace", "0")
        command = Command(make_images(tmp_path / "images", 8), str(tmp_path / "run"), arguments=pool)
        log = tmp_path / "log"
        ended = command.start(log, {"RAY_ADDRESS": nodes.address}).wait(timeout=200)
        assert ended == 0, log.read_text()[-4000:]
        assert re.search(r"sampler-0 found no machine of kind spot in \d+ s: on-demand is asked for", log.read_text())
