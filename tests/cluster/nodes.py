"""A Ray cluster of several nodes on this machine, whose processes can be told from all others and killed."""

from __future__ import annotations

import os
import uuid
from typing import Any

import psutil

ACTORS = ("ray::Describer", "ray::Sampler", "ray::Scorer")
TAG = "SYNOOD_TEST_CLUSTER"
"""Environment variable that tells the processes of one test from all others on the machine."""
_LEAN = {"OMP_NUM_THREADS": "1", "RAY_prestart_worker_first_driver": "0"}  # no worker processes in reserve


class Nodes:
    """A head that runs the drivers, and worker nodes that run the actors; a context manager.

    head_cpus: 0 keeps actors off the head. environment: for every process of the cluster.
    """

    def __init__(self, workers: int, *, head_cpus: int = 0, cpus: int = 2, environment: dict[str, str] | None = None):
        self.tag = uuid.uuid4().hex
        self.environment = {TAG: self.tag, **_LEAN, **(environment or {})}
        self._count, self._head_cpus, self._cpus = workers, head_cpus, cpus
        self._cluster: Any = None

    @property
    def address(self) -> str:
        """What RAY_ADDRESS must be to join."""
        return self._cluster.address

    @property
    def workers(self) -> list[Any]:
        """The living worker nodes."""
        return sorted(self._cluster.worker_nodes, key=lambda node: node.unique_id)

    def alive(self) -> list[Any]:
        """Worker nodes whose raylet still runs."""
        return [node for node in self.workers if not node.dead_processes()]

    def __enter__(self) -> Nodes:
        from ray.cluster_utils import Cluster

        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            head = {"num_cpus": self._head_cpus, "include_dashboard": False}
            self._cluster = Cluster(initialize_head=True, head_node_args=head)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        for _ in range(self._count):
            self.add()
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    def add(self, attempts: int = 10, **more: Any) -> None:
        """One more worker node. more: what it has beside CPUs, such as num_gpus and labels."""
        try:
            self._cluster.add_node(num_cpus=self._cpus, env_vars=self.environment, **more)
        except Exception as error:  # Ray's own kind
            if attempts == 1 or "timed out during startup" not in str(error):
                raise
            self.add(attempts - 1, **more)  # this machine was too busy for Ray's 30 s

    def kill(self, node: Any) -> None:
        """End a node and everything on it at once."""
        self._cluster.remove_node(node, allow_graceful=False)

    def actors(self, role: str | None = None) -> list[psutil.Process]:
        """Living actor processes of the cluster, of one role ("Sampler") or all."""
        return living(self.tag, (f"ray::{role}",) if role else ACTORS)


def living(tag: str, titles: tuple[str, ...] = ("",)) -> list[psutil.Process]:
    """Living processes whose environment has TAG = tag and whose command line begins with one of the titles."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if line and line[0].startswith(titles) and process.environ().get(TAG) == tag:
                found.append(process)
        except psutil.Error:
            continue
    return found
