"""Bringing the application up on a Ray cluster, and taking it down."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from synood_ray.config.serving import ServingSettings
from synood_ray.config.settings import LogSettings
from synood_ray.detection.description import DESCRIPTION, FOLDER, read_description
from synood_ray.detection.hub import check_on_hub
from synood_ray.errors import Unavailable, UserError, first_line, printable
from synood_ray.farm.cluster import await_room
from synood_ray.farm.placement import replica_need
from synood_ray.serving.app import NAME, Arguments, build
from synood_ray.serving.proxy import CONTROLLER
from synood_ray.serving.service import HUB
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store

EVERY = 10.0
"""Seconds between two lines about replicas that are waited for, and two looks at how the application does."""
POLL = 0.3
"""Seconds between two looks at replicas that start."""
_REASON = {kind: re.compile(rf"^\S*\b{kind.__name__}: (.*)$", re.MULTILINE) for kind in (UserError, Unavailable)}
"""How a replica's error of this kind stands in what Serve tells: its traceback as text."""


def find_detector(run: str) -> Mapping[str, Any]:
    """The settings that are stored in a run; none where it is a detector's folder, or one of the Hub.

    Raises UserError unless there is a detector that replicas can load, Unavailable if the Hub does not tell; nothing
    is loaded yet.
    """
    if run.startswith(HUB):
        name = run.removeprefix(HUB)
        if not Path(name).is_dir():  # which its loader takes as well
            check_on_hub(name)
        return {}
    store = open_store(run, write=False)
    if not any(read_description(store, prefix) for prefix in ("", FOLDER)):
        raise UserError(f"{run}: no {DESCRIPTION} here or in {FOLDER}; fine-tune first (synood finetune --run URI)")
    made = Run.find(store)
    return made.config if made else {}


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


def keep_priority() -> None:
    """Before Ray starts on this machine: its workers get this process's priority. By Ray's default they stand behind
    whatever else runs here (niceness 15), and requests would wait for that."""
    os.environ.setdefault("RAY_worker_niceness", "0")


def start(settings: ServingSettings, say: Callable[[str], None]) -> None:
    """Start Serve on the cluster that is connected, without the application.

    What is waited for is said. Raises UserError for replicas that have no place, and where Ray Serve is there already
    for something else.
    """
    from ray import serve

    await_room([[replica_need(settings.replicas)] * max(1, settings.replicas.min)], say)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    listens = {"host": settings.host, "port": settings.port, "request_timeout_s": settings.timeout}
    serve.start(http_options=listens, controller_options=CONTROLLER)
    _check_free(settings)


def deploy(run: str, settings: ServingSettings, log: LogSettings, say: Callable[[str], None]) -> None:
    """Start the application; returns when replicas answer. Raises UserError for what a replica finds wrong."""
    from ray import serve

    application = build(Arguments(run=run, serving=settings, log=log).model_dump(mode="json"))
    serve.run_many([serve.RunTarget(application, name=NAME, route_prefix="/")], wait_for_applications_running=False)
    _await_replicas(settings.replicas.min, say)
    _client().wait_for_proxies_serving()


def _check_free(settings: ServingSettings) -> None:
    """Raise UserError if this Serve has an application, which is somebody else's, or listens elsewhere."""
    from ray import serve

    found = serve.status().applications
    if taken := [name for name, application in found.items() if application.status != "DELETING"]:
        raise UserError(
            f"this cluster's Ray Serve has an application already ({', '.join(taken)}); end that (serve shutdown), or "
            "take another cluster"
        )
    there = _client().http_config
    host, port = there.host, there.port
    if (host, port) != (settings.host, settings.port):
        raise UserError(
            f"serving.port: this cluster's Ray Serve listens on {host}:{port} already; take that, or end it "
            "(serve shutdown)"
        )


def _await_replicas(count: int, say: Callable[[str], None]) -> None:
    """Wait until the replicas answer; say every few seconds how many do, and what Serve says about the others.

    Raises UserError at the first replica that says that the user's input is wrong: others would say the same.
    """
    said = time.monotonic()
    while True:
        found = _status()
        told = "\n".join([found.message, *(one.message for one in found.deployments.values())])
        _raise_if(UserError, told)
        if found.status == "RUNNING":
            return
        if found.status == "DEPLOY_FAILED":
            _raise_if(Unavailable, told)  # tried again and again before
            raise RuntimeError(f"Ray Serve cannot start the detector: {told}")
        if time.monotonic() >= said + EVERY:
            said = time.monotonic()
            ready = sum(one.replica_states.get("RUNNING", 0) for one in found.deployments.values())
            say(f"{ready} of {count} replicas answer{_more(told)}")
        time.sleep(POLL)


def _raise_if(kind: type[UserError] | type[Unavailable], told: str) -> None:
    if reasons := _REASON[kind].findall(told):
        raise kind(reasons[-1].strip())


def _status() -> Any:
    """Of the application. Raises Unavailable if somebody else has taken it down."""
    from ray import serve

    found = serve.status().applications.get(NAME)
    if found is None:
        raise Unavailable("Ray Serve does not have the detector any more: something else has removed it")
    return found


def _client() -> Any:
    from ray.serve.context import _get_global_client

    return _get_global_client()


def stay(say: Callable[[str], None]) -> NoReturn:
    """Until the process is interrupted; says when the application's state changes. Raises Unavailable as `_status`."""
    before = "RUNNING"
    while True:
        time.sleep(EVERY)
        found = _status()
        if found.status != before:
            before = found.status
            say(f"the service is {before.lower()}{_more(found.message)}")


def _more(message: str) -> str:
    """What Serve says about a state, as the rest of a line; often nothing. The last of its lines is a traceback's."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return printable("; " + " ".join(dict.fromkeys([lines[0], lines[-1]]))) if lines else ""


def take_down() -> None:
    """Remove the application, which would outlive this process on a cluster that does."""
    from ray import serve

    with contextlib.suppress(Exception):  # the cluster may be gone before
        serve.delete(NAME, _blocking=False)
