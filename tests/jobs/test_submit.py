"""`ray job submit` to a cluster of its own, token authentication on, as on a real one."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synood_ray import __version__
from tests.jobs.conftest import ROOT, environment, status

pytestmark = pytest.mark.real
RAY = str(Path(sys.executable).parent / "ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A head node started by hand; yields the environment that talks to it, dashboard address included."""
    home = tmp_path_factory.mktemp("ray")
    token = home / "token"
    token.write_text("0123456789abcdef" * 4)
    dashboard, port = free_port(), free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), PATH=path)
    options = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    options += ["--num-cpus=2", f"--temp-dir=/tmp/ray-{port}"]
    head = subprocess.Popen(
        [RAY, "start", "--head", "--block", *options],
        env=ours,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert head.stdout is not None
    said = ""
    for line in head.stdout:
        said += line
        if "Ray runtime started" in line:
            break
    else:
        pytest.fail(f"ray start said:\n{said}")
    yield {**ours, "DASHBOARD": f"http://127.0.0.1:{dashboard}", "HEAD": f"127.0.0.1:{port}"}
    os.killpg(head.pid, signal.SIGTERM)
    head.wait(timeout=60)


JOBS = """
import json
from ray.util.state import list_jobs
from synood_ray.config.settings import Settings
from synood_ray.farm.cluster import connect
from synood_ray.pipeline import about_run

connect(about_run(Settings(output="/runs/second", preset="mini")))
print(json.dumps({job.type: job.metadata for job in list_jobs(detail=True)}))
"""


def jobs(cluster: dict[str, str]) -> dict[str, dict[str, str]]:
    """Metadata of the cluster's jobs by their type: those submitted, and a driver that joins to ask."""
    asked = {**cluster, "RAY_ADDRESS": cluster["HEAD"]}
    found = subprocess.run(
        [sys.executable, "-c", JOBS], cwd=ROOT, env=asked, text=True, capture_output=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_submitted_job_succeeds_and_its_run_is_whole(
    cluster: dict[str, str], finished_run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    address = ("--address", cluster["DASHBOARD"])
    about = {"job_name": "first", "output": str(output)}
    metadata = ("--metadata-json", json.dumps(about))
    entrypoint = [sys.executable, "jobs/synthesize.py", "--preset", "mini", "--output", str(output), "--limit", "16"]
    entrypoint += ["--farm.unit_size", "8", "--describer.contexts", str(finished_run / "prompts")]
    work = tmp_path / "work"  # a small working directory: the repository without its environments and runs
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(work)], check=True)
    for _ in range(20):  # on a busy machine the agent that starts jobs comes up long after the head says that it runs
        submitted = subprocess.run(
            [RAY, "job", "submit", *address, "--working-dir", str(work), *metadata, "--", *entrypoint],
            env=cluster,
            text=True,
            capture_output=True,
            timeout=600,
        )
        if "No available agent" not in submitted.stderr:
            break
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert re.search(r"succeeded", submitted.stdout)
    assert status(output)["published"] is True
    own = {
        "synood_run": "second",
        "synood_preset": "mini",
        "synood_output": "/runs/second",
        "synood_version": __version__,
    }
    assert jobs(cluster) == {"SUBMISSION": about, "DRIVER": own}, "as docs/operating/watching.md says"

    refused = subprocess.run(
        [RAY, "job", "list", *address],
        env={**cluster, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none"), "RAY_AUTH_MODE": "disabled"},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert refused.returncode != 0, "the cluster should have asked for its token"
