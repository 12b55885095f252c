"""A run on a cluster that begins with no worker node: ``python -m tests.cluster.autoscaled FOLDER`` prints what it saw.

Ray's autoscaler v2 with Ray's own fake provider, whose nodes are processes here. The head must listen on port 6379.
To be run where it meets no other Ray, and where the fake provider has its example.yaml; see test_autoscaling.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from synood_ray.storage.stores import open_store
from tests.cluster.runs import Command, wait_for
from tests.farm.local_ray import make_images

ADDRESS = "127.0.0.1:6379"
NODES = 3
"""Most worker nodes: one for the describer and the scorer, one for each of two samplers."""

CONFIG: dict[str, Any] = {
    "cluster_name": "fake",
    "max_workers": NODES,
    "upscaling_speed": 100,
    "idle_timeout_minutes": 0.05,
    "provider": {"type": "fake_multinode", "launch_multiple": True, "head_node_id": FAKE_HEAD_NODE_ID},
    "auth": {"ssh_user": "root"},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": NODES},
    },
}
ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_prestart_worker_first_driver": "0",
    "OMP_NUM_THREADS": "1",
}


def start_head(folder: Path) -> None:
    """A head without CPUs, with the autoscaler beside it."""
    config = folder / "autoscaling.json"  # which is YAML, too
    config.write_text(json.dumps(CONFIG))
    ray_command = str(Path(sys.executable).parent / "ray")
    command = [ray_command, "start", "--head", "--port=6379", "--node-ip-address=127.0.0.1", "--num-cpus=0"]
    command += ["--include-dashboard=false", "--disable-usage-stats", f"--autoscaling-config={config}"]
    environment = {**os.environ, **ENVIRONMENT}
    if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:  # a busy machine: Ray waits for 30 s
        subprocess.run([ray_command, "stop", "--force"], check=True, stdout=sys.stderr)
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


def workers() -> int:
    """Living nodes besides the head."""
    return sum(node["Alive"] for node in ray.nodes()) - 1


def main(folder: Path) -> None:
    start_head(folder)
    ray.init(address=ADDRESS, log_to_driver=False)
    images, output = make_images(folder / "images", 40), folder / "run"
    pools = ("--farm.samplers.min", "2", "--farm.samplers.max", "2", "--farm.samplers.cpus", "1")
    command = Command(images, str(output), "work-1500 tell-nodes", pools)
    seen = {"before": workers(), "most": 0}
    driver = command.start(folder / "log", {"RAY_ADDRESS": ADDRESS})
    ended = threading.Event()
    while not ended.wait(0.5):
        seen["most"] = max(seen["most"], workers())
        if driver.poll() is not None:
            ended.set()
    seen["exit code"] = driver.returncode
    wait_for(lambda: workers() == 0, "all nodes have left", limit=120)
    seen["after"] = workers()
    seen["sampled on"] = sum(1 for _ in open_store(str(output)).list("faults/node-"))
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
