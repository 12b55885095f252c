"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os

from synood_ray.errors import UserError

# Set by Ray for the entrypoint of `ray job submit`.
JOB_VARIABLES = ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR")


def connect() -> str:
    """Connect this process to Ray; returns a line that says to what.

    Joins the cluster of RAY_ADDRESS or of the submitted job, else starts a local one that ends with this process.
    """
    import ray

    if ray.is_initialized():
        return "Ray: connected already"
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = "auto" if any(os.environ.get(name) for name in JOB_VARIABLES) else "local"
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise UserError(f"RAY_ADDRESS: no Ray cluster answers there ({str(error).splitlines()[0]})") from error
    joined = "joined the cluster" if address == "auto" else "started on this machine"
    dashboard = f", dashboard at http://{context.dashboard_url}" if context.dashboard_url else ""
    return f"Ray {ray.__version__} {joined}{dashboard}"


def draining_nodes() -> set[str]:
    """Nodes that will go soon, after a spot notice or an autoscaler's decision; one question to Ray's head.

    Ray has no public name for it; Ray Train asks in the same way.
    """
    import ray

    return set(ray._private.state.state.get_draining_nodes())
