"""Two nodes that do not share a folder: an output there is noticed before work starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.nodes import Nodes
from tests.cluster.runs import Command, wait_for
from tests.farm.local_ray import make_images

pytestmark = pytest.mark.real
APART = ["unshare", "--user", "--map-root-user", "--mount"]


def test_an_output_that_a_node_does_not_share_is_noticed_before_work_starts(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run([*APART, "true"], check=False).returncode != 0:
        pytest.skip("unshare cannot make namespaces here; two nodes would share every folder")
    own = tmp_path / "own"  # on the other node another, empty one
    own.mkdir()
    with Nodes(0) as nodes:
        ray_command = Path(sys.executable).parent / "ray"
        join = f"mount -t tmpfs tmpfs {own}; exec {ray_command} start --address={nodes.address} --num-cpus=2 --block"
        environment = {**os.environ, **nodes.environment}
        log = (tmp_path / "node").open("wb")
        node = subprocess.Popen(
            [*APART, "bash", "-c", join], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for(lambda: b"Ray runtime started" in (tmp_path / "node").read_bytes(), "the node joins", limit=100)
            command = Command(make_images(tmp_path / "images", 8), str(own / "run"))
            job = tmp_path / "log"
            ended = command.start(job, {"RAY_ADDRESS": nodes.address}).wait(timeout=200)
        finally:
            os.killpg(node.pid, signal.SIGTERM)
            node.wait(timeout=60)
    told = job.read_text()
    assert ended == 2, told[-4000:]
    assert f"error: output: {own}/run: a worker on " in told and "does not see what the driver wrote there" in told
    assert not list((own / "run" / "parts").glob("*")) and not list((own / "run" / "prompts").glob("*"))
