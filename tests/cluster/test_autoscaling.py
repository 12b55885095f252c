"""Backlog -> nodes appear -> the work is spread -> the backlog is empty -> the nodes leave: Ray's own autoscaler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray
import yaml

from tests.cluster.autoscaled import CONFIG, NODES
from tests.cluster.runs import ROOT

pytestmark = pytest.mark.real

# Processes, network and mounts of its own: the head's port is fixed, and other clusters may be running.
APART = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _apart(*command: str, timeout: float) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    return subprocess.run(
        [*APART, *command], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=timeout
    )


def _provider(folder: Path) -> tuple[Path, Path]:
    """Ray's fake provider, and a copy of it with the file that Ray's wheel lacks: the defaults of its settings."""
    original = Path(ray.__file__).parent / "autoscaler/_private/fake_multi_node"
    copy = folder / "provider"
    shutil.copytree(original, copy)
    (copy / "example.yaml").write_text(yaml.safe_dump(CONFIG))
    return original, copy


def test_nodes_come_and_go_with_the_work(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or _apart("true", timeout=20).returncode != 0:
        pytest.skip("unshare cannot make namespaces here; Ray's fake autoscaler would meet other clusters")
    original, copy = _provider(tmp_path)
    temporary = Path(tempfile.gettempdir()) / "ray"  # with the address of the latest cluster, which is not to be ours
    script = f"""
    set -e
    mount --bind {copy} {original}
    mkdir -p {temporary}
    mount -t tmpfs tmpfs {temporary}
    {sys.executable} -c 'import fcntl, socket, struct; s = socket.socket(); r = struct.pack("16sh", b"lo", 65)
    fcntl.ioctl(s, 0x8914, r)'
    exec {sys.executable} -m tests.cluster.autoscaled {tmp_path}
    """
    ended = _apart("bash", "-c", "\n".join(line.strip() for line in script.splitlines()), timeout=600)
    log = tmp_path / "log"
    assert ended.returncode == 0, ended.stderr[-4000:] + (log.read_text()[-2000:] if log.exists() else "")
    seen = json.loads(ended.stdout.strip().splitlines()[-1])
    assert seen == {"before": 0, "most": NODES, "exit code": 0, "after": 0, "sampled on": 2}
