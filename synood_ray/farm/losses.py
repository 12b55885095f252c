"""Workers that died: why, as far as Ray can tell, and how that is told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from synood_ray.farm.observers import LossCause, Observer, WorkerLost
from synood_ray.farm.pool import Place, Worker

_PREEMPTED = 3  # Ray's NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED
_OUT_OF_MEMORY = 4  # Ray's WorkerExitType.NODE_OUT_OF_MEMORY
PATIENCE = 10.0  # seconds for Ray to find out why; a node that vanished without a word takes it longer


@dataclass(frozen=True, slots=True)
class _Loss:
    """since: time.monotonic."""

    worker: str
    place: Place | None
    draining: bool
    units: tuple[int, ...]
    since: float


class Losses:
    """Deaths whose cause has yet to be found. What a worker's callers get to see tells only that it is away."""

    def __init__(self, tell: Observer) -> None:
        self._tell = tell
        self._open: list[_Loss] = []

    def add(self, worker: Worker, units: Iterable[int], error: Exception) -> None:
        """A worker died, with these units. To be called before it is given up or restarted."""
        import ray

        loss = _Loss(worker.name, worker.place, worker.draining, tuple(units), time.monotonic())
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            self._say(loss, "out of memory", "")
        else:
            self._open.append(loss)

    def settle(self, *, final: bool = False) -> None:
        """Tell what can be told by now; everything, where it is the last time."""
        now, waiting = time.monotonic(), []
        for loss in self._open:
            found = cause_of(loss.place) if loss.place else ("unknown", "before it was placed")
            patient = now - loss.since < PATIENCE
            if found is None and patient and not final:
                waiting.append(loss)
                continue
            cause, detail = found or ("unknown", "" if patient else "its node does not answer")
            self._say(loss, "preempted" if cause == "node" and loss.draining else cause, detail)
        self._open = waiting

    def _say(self, loss: _Loss, cause: LossCause, detail: str) -> None:
        self._tell(WorkerLost(loss.worker, loss.place.host if loss.place else "", cause, detail, loss.units))


def cause_of(place: Place) -> tuple[LossCause, str] | None:
    """Why the process that ran there died, with Ray's words in one line; None while Ray does not know.

    Ray's head keeps an exit type for every dead process, and a reason for every dead node. It has no public name for
    the first; the dashboard asks in the same way.
    """
    import ray

    node = next((node for node in ray.nodes() if node["NodeID"] == place.node), None)
    if node is None or not node["Alive"]:
        words = _one_line(node["DeathReasonMessage"]) if node else ""
        return ("preempted" if node and node["DeathReason"] == _PREEMPTED else "node"), words
    from ray.core.generated import gcs_pb2

    accessor = ray._private.state.state._connect_and_get_accessor()
    record = accessor.get_worker_info(ray.WorkerID(bytes.fromhex(place.process)))
    process = gcs_pb2.WorkerTableData.FromString(record) if record else None  # type: ignore[attr-defined]
    if process is None or process.is_alive:
        return None
    if process.exit_type == _OUT_OF_MEMORY:
        return "out of memory", _one_line(process.exit_detail)
    return "crash", _one_line(process.exit_detail)


def _one_line(text: str) -> str:
    """The first sentence of what Ray has to say; the rest are guesses."""
    return " ".join(text.split()).partition(". ")[0][:200]
