"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import functools
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synood_ray.errors import Unavailable, UserError, first_line
from synood_ray.farm.address import check_address
from synood_ray.farm.placement import Need, Node, check_any

# Set by Ray for the entrypoint of `ray job submit`.
JOB_VARIABLES = ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR")
_OF_NO_INTEREST = ("Token authentication is enabled", "SIGTERM handler is not set")
JOINING = 60.0
"""Seconds that the nodes of a cluster without an autoscaler may take to join, before what does not fit is refused."""
_LOGGER = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def connect(about: Mapping[str, str] | None = None) -> str:
    """Connect this process to Ray; returns a line that says to what. about: the job's metadata, for Ray's list of jobs.

    Joins the cluster of RAY_ADDRESS or of the submitted job, else starts a local one that ends with this process.
    Raises UserError if that cluster cannot be joined, Unavailable if Ray does not come up here.
    """
    import ray

    if ray.is_initialized():
        return "Ray: connected already"
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = "local" if is_local() else "auto"
    check_reachable()
    try:
        context = _init(address, about or {})
    except Exception as error:
        raise _told(address, error) from error
    joined = "joined the cluster" if address == "auto" else "started on this machine"
    dashboard = f", dashboard at http://{context.dashboard_url}" if context.dashboard_url else ""
    return f"Ray {ray.__version__} {joined}{dashboard}"


def check_reachable() -> None:
    """Raise UserError, in seconds and before Ray is imported where possible, if the cluster to join does not answer."""
    if not is_local():
        check_address(os.environ.get("RAY_ADDRESS") or "auto")


def is_local() -> bool:
    """Whether `connect` starts a cluster of its own, to which no other machine will ever come."""
    return not any(os.environ.get(name) for name in JOB_VARIABLES) or os.environ.get("RAY_ADDRESS") == "local"


def _init(address: str, about: Mapping[str, str]) -> Any:
    """`ray.init`, which may take long in C++, in a thread: signals still reach this one, whose handlers stay.

    The thread stays too, asleep: the system ends the processes that Ray has started together with it.
    """
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def start() -> None:
        try:
            import ray
            from ray.job_config import JobConfig

            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
            context = ray.init(address=address, job_config=JobConfig(metadata=dict(about)), **quiet)
            answers.put((context, None))
        except BaseException as error:
            answers.put((None, error))
        threading.Event().wait()

    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    for name in ("ray._private.worker", "ray._private.authentication.authentication_token_setup"):
        logging.getLogger(name).addFilter(_of_interest)
    threading.Thread(target=start, name="ray.init", daemon=True).start()
    found = None
    while found is None:
        try:
            found = answers.get(timeout=0.1)
        except queue.Empty:
            found = None
        _restore(handlers)  # Ray's C++ puts its own in their place, which print a stack
    context, error = found
    if error is not None:
        raise error
    return context


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)


def _of_interest(record: logging.LogRecord) -> bool:
    """A filter of Ray's log: without what is so by intention. Its dashboard says where the token is."""
    return not record.getMessage().startswith(_OF_NO_INTEREST)


def _told(address: str, error: Exception) -> Exception:
    """What ray.init failed with, as a line for the user."""
    words = " ".join(first_line(error).split())[:300]
    if "AF_UNIX path" in words:
        return UserError(
            "TMPDIR: its name is too long for the sockets that Ray puts there (107 bytes in all); set TMPDIR to a "
            "short one, such as /tmp"
        )
    if address == "local":
        return Unavailable(f"Ray does not start on this machine: {type(error).__name__}: {words}")
    return UserError(f"RAY_ADDRESS: this Ray cluster cannot be joined: {type(error).__name__}: {words}")


def nodes() -> list[Node]:
    """The living machines of the cluster."""
    import ray

    return [Node(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]]


def this_machine() -> Node:
    """This machine as a cluster of its own would count it, without starting one."""
    from ray._private import accelerators
    from ray._private.utils import get_num_cpus

    manager = accelerators.get_accelerator_manager_for_resource("GPU")
    gpus = manager.get_current_node_num_accelerators() if manager else 0
    return Node({"CPU": float(get_num_cpus()), "GPU": float(gpus)})


@dataclass(frozen=True)
class Autoscaling:
    """What an autoscaler is about to do. starting: machines on their way; impossible: needs that it has no kind for.

    known: whether Ray's head has told; without it, there may be none.
    """

    starting: int = 0
    impossible: Sequence[Mapping[str, float]] = ()
    known: bool = True


def autoscaling() -> Autoscaling | None:
    """Ray's autoscaler, of either version; None if there is none.

    A head that does not answer, or in other words than this version's, is no reason to end a run: nothing is known.
    """
    from ray.exceptions import RayError

    try:
        return _autoscaling()
    except (RayError, TimeoutError, ValueError, AttributeError, ImportError) as error:
        _warn_once(f"{type(error).__name__}: {first_line(error)}")
        return Autoscaling(known=False)


@functools.cache
def _warn_once(words: str) -> None:
    _LOGGER.warning("Ray's head does not say what its autoscaler does: %s", words)


def _autoscaling() -> Autoscaling | None:
    """Two questions to Ray's head, as `ray status` asks."""
    import json

    import ray
    from ray.core.generated import autoscaler_pb2
    from ray.experimental.internal_kv import _internal_kv_get

    head: Any = ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
    reply = autoscaler_pb2.GetClusterStatusReply.FromString(  # type: ignore[attr-defined]
        head.get_cluster_status(timeout_s=10)
    )
    if reply.HasField("autoscaling_state") and reply.autoscaling_state.autoscaler_state_version:
        state = reply.autoscaling_state
        starting = sum(request.count for request in state.pending_instance_requests) + len(state.pending_instances)
        return Autoscaling(starting, [dict(one.resources_bundle) for one in state.infeasible_resource_requests])
    report = json.loads(_internal_kv_get("__autoscaling_status") or b"{}").get("autoscaler_report") or {}
    kinds = report.get("active_nodes") or {}
    if all(kind.startswith("node_") for kind in kinds):  # version 1 without machines to start: a kind for each node
        return None
    return Autoscaling(len(report.get("pending_nodes") or ()) + sum((report.get("pending_launches") or {}).values()))


def outlook(need: Need) -> str:
    """What a worker that is not placed may expect, in words."""
    fits, scaler = any(node.fits(need) for node in nodes()), autoscaling()
    if scaler and scaler.starting:
        return "the autoscaler is starting one"
    if fits:
        return "the nodes that have it are in use"
    if scaler and not scaler.known:
        return "no node has it, and the cluster does not say whether one will come"
    if scaler and dict(need.resources) not in scaler.impossible:
        return "no node has it, and the autoscaler has none on its way yet"
    return "no node has or will have it"


def await_room(ways: Sequence[Sequence[Need]], say: Callable[[str], None], *, patience: float = JOINING) -> None:
    """Return if workers with these needs, in one of the ways, fit on the cluster at the same time, or an autoscaler
    may see to it.

    Else the cluster's nodes may still be joining: that is waited for. Raises UserError for what then does not fit.
    """
    if autoscaling() is not None:
        return
    deadline, said = time.monotonic() + (0 if is_local() else patience), False
    while True:
        try:
            check_any(ways, nodes())
            return
        except UserError as error:
            if time.monotonic() >= deadline:
                raise
            if not said:
                say(f"waiting for nodes to join, {patience:g} s at most: {error}")
                said = True
            time.sleep(1.0)


def draining_nodes() -> set[str]:
    """Nodes that will go soon, after a spot notice or an autoscaler's decision; one question to Ray's head.

    Ray has no public name for it; Ray Train asks in the same way.
    """
    import ray

    return set(ray._private.state.state.get_draining_nodes())
