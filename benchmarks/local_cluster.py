"""A Ray of its own for a measurement, gone when it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from synood_ray.errors import UserError

LOGICAL_CPUS = 4  # actors ask for fractions of them; how many cores they really use is the measurement's affair


@contextmanager
def local_cluster(cpus: int = LOGICAL_CPUS, niceness: int | None = None) -> Iterator[None]:
    """Start Ray on this machine, without its dashboard. niceness: of its workers over this process's; None: Ray's own.

    UserError in a process that has joined a cluster already.
    """
    import ray

    if ray.is_initialized():
        raise UserError(
            "--only farm, dispatch and serving start a Ray of their own; run them where none is connected yet"
        )
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        _system_config=None if niceness is None else {"worker_niceness": niceness},
    )
    try:
        yield
    finally:
        ray.shutdown()
