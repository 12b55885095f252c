"""Bringing the application up on a Ray cluster, and taking it down."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from synood_ray.config.serving import ServingSettings
from synood_ray.config.settings import LogSettings
from synood_ray.detection.description import DESCRIPTION, FOLDER, read_description
from synood_ray.errors import Unavailable, UserError, first_line, printable
from synood_ray.farm.cluster import await_room
from synood_ray.farm.placement import replica_need
from synood_ray.serving.app import NAME, Arguments, build
from synood_ray.serving.service import HUB
from synood_ray.storage.stores import open_store

EVERY = 10.0
"""Seconds between two looks at how the application does."""
_REASON = re.compile(r"^\S*\b(?:UserError|Unavailable): (.*)$", re.MULTILINE)


def check_detector(run: str) -> None:
    """Raise UserError unless there is a detector that replicas can load; nothing is loaded yet."""
    if run.startswith(HUB):
        return
    store = open_store(run, write=False)
    if not any(read_description(store, prefix) for prefix in ("", FOLDER)):
        raise UserError(f"{run}: no {DESCRIPTION} here or in {FOLDER}; fine-tune first (synood finetune --run URI)")


def check_port(settings: ServingSettings) -> None:
    """Raise UserError if nothing can listen there, on this machine."""
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise UserError(f"serving.host: there is no address {host!r} ({error.strerror})") from error
    except PermissionError as error:
        raise UserError(f"serving.port: {port} is for the system's own services; choose one from 1024 on") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else first_line(error)
        raise UserError(f"serving.port: cannot listen on {host}:{port} ({why}); choose another") from error


def bring_up(run: str, settings: ServingSettings, log: LogSettings, say: Callable[[str], None]) -> None:
    """Start Serve and the application on the cluster that is connected; returns when replicas answer.

    What is waited for is said. Raises UserError for what a replica finds wrong, for replicas that have no place, and
    where Ray Serve is there already for something else.
    """
    from ray import serve

    await_room([[replica_need(settings.replicas)] * max(1, settings.replicas.min)], say)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(http_options={"host": settings.host, "port": settings.port})
    _check_ours(settings)
    application = build(Arguments(run=run, serving=settings, log=log).model_dump(mode="json"))
    try:
        with _said_while_waiting(settings.replicas.min, say):
            serve.run(application, name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise _told(error) from error


def _check_ours(settings: ServingSettings) -> None:
    """Raise UserError if this Serve was started for something else."""
    from ray import serve
    from ray.serve.context import _get_global_client

    if taken := [name for name in serve.status().applications if name != NAME]:
        raise UserError(f"this cluster's Ray Serve has another application already ({', '.join(taken)})")
    there: Any = _get_global_client()
    host, port = there.http_config.host, there.http_config.port
    if (host, port) != (settings.host, settings.port):
        raise UserError(
            f"serving.port: this cluster's Ray Serve listens on {host}:{port} already; take that, or end it "
            "(serve shutdown)"
        )


@contextlib.contextmanager
def _said_while_waiting(count: int, say: Callable[[str], None]) -> Iterator[None]:
    """Say every few seconds how many replicas answer, and what Serve says about the others."""
    from ray import serve

    over = threading.Event()

    def tell() -> None:
        while not over.wait(EVERY):
            found: Any = serve.status().applications.get(NAME)
            for one in found.deployments.values() if found else ():
                say(f"{one.replica_states.get('RUNNING', 0)} of {count} replicas answer; {_line(one.message)}")

    threading.Thread(target=tell, name="waiting", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def stay(say: Callable[[str], None]) -> NoReturn:
    """Until the process is interrupted; says when the application's state changes.

    Raises Unavailable if somebody else takes it down.
    """
    from ray import serve

    before = "RUNNING"
    while True:
        time.sleep(EVERY)
        found = serve.status().applications.get(NAME)
        if found is None:
            raise Unavailable("Ray Serve does not have the detector any more: something else has removed it")
        if found.status.value != before:
            before = found.status.value
            say(f"the service is {before.lower()}; {_line(found.message)}")


def _line(message: str) -> str:
    """What Serve says about a state, in a line; often nothing."""
    return printable(message.partition("\n")[0]) or "Ray Serve says no more"


def take_down() -> None:
    """Remove the application, which would outlive this process on a cluster that does."""
    from ray import serve

    with contextlib.suppress(Exception):  # the cluster may be gone before
        serve.delete(NAME, _blocking=False)


def _told(error: RuntimeError) -> Exception:
    """What a replica failed with, where it was nobody's defect: Serve has its traceback as text."""
    from ray import serve

    found: Any = serve.status().applications.get(NAME)
    told = "\n".join([str(error), *(one.message for one in found.deployments.values())] if found else [str(error)])
    reasons = _REASON.findall(told)
    take_down()
    return UserError(reasons[-1].strip()) if reasons else error
