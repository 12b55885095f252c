"""What happens in the farm, told to observers: progress, metrics, tests. Nothing else looks into the driver.

An observer is any function of one `Event`. It is called in the driver's own thread, between two answers of workers, so
it should be quick; what it raises ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from synood_ray import used
from synood_ray.farm.queue import Counts
from synood_ray.farm.reports import Totals, UnitReport
from synood_ray.waits import Kind

StageName = Literal["describe", "sample"]
LossCause = Literal["out of memory", "node", "preempted", "crash", "unknown"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``str(event)`` is a line for people, empty if there is nothing to read."""

    def __str__(self) -> str:
        return ""


Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class StageBegan(Event):
    """The first unit of a stage is handed out."""

    stage: StageName


@dataclass(frozen=True, slots=True)
class StageEnded(Event):
    """No unit of a stage is left. seconds: from the first unit handed out to the last one back."""

    stage: StageName
    seconds: float


@dataclass(frozen=True, slots=True)
class NoChecks(Event):
    """The describer will not be asked about finished samples. setting: of section `describer`, which asks for it."""

    setting: str

    def __str__(self) -> str:
        return f"no semantic check by the describer: describer.{self.setting} cannot tell what a new image shows"


@dataclass(frozen=True, slots=True)
class UnitEvent(Event):
    """Something about one unit in one stage. worker: who has or had it. attempt: from 1, counted across runs."""

    stage: StageName
    unit: int
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class UnitHandedOut(UnitEvent):
    """A worker got a unit. copy: another one has it too, and takes long."""

    copy: bool

    def __str__(self) -> str:
        return f"unit {self.unit} ({self.stage}) takes long: {self.worker} does it too" if self.copy else ""


@dataclass(frozen=True, slots=True)
class UnitDone(UnitEvent):
    """A unit is in the store. first: nobody had said so before. report.found: somebody else had put it there.

    seconds: since it was handed out, the wait behind other units at its worker included.
    """

    report: UnitReport
    first: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class UnitFailed(UnitEvent):
    """An attempt failed. error: one line; cause: the error's kind, "deadline", or "lost" if its worker was."""

    error: str
    cause: str = "error"

    def __str__(self) -> str:
        return f"unit {self.unit} ({self.stage}), attempt {self.attempt}: {self.error}"


@dataclass(frozen=True, slots=True)
class UnitQuarantined(Event):
    """A unit is given up. error: what its last attempt failed with, one line."""

    stage: StageName
    unit: int
    error: str

    def __str__(self) -> str:
        return f"unit {self.unit} ({self.stage}) is quarantined"


def role_of(worker: str) -> str:
    """describer, sampler or scorer, of a worker's name."""
    return worker.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class WorkerEvent(Event):
    """Something about one worker, named by its role and a number: "sampler-3"."""

    worker: str

    @property
    def role(self) -> str:
        return role_of(self.worker)


@dataclass(frozen=True, slots=True)
class WorkerCreated(WorkerEvent):
    """An actor was asked for. Ray looks for a place for it."""


@dataclass(frozen=True, slots=True)
class WorkerPlaced(WorkerEvent):
    """The actor's process runs. node: Ray's node ID; host: the machine's name."""

    node: str
    host: str


@dataclass(frozen=True, slots=True)
class WorkerReady(WorkerEvent):
    """Its models are loaded. seconds: since it was asked for, or lost."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerWarned(WorkerEvent):
    """A library or model warned while it was loaded; the same words are told once a run. text: one line."""

    text: str

    def __str__(self) -> str:
        return f"warning ({self.worker}): {self.text}"


@dataclass(frozen=True, slots=True)
class WorkerDraining(WorkerEvent):
    """Its node will go: it gets no new units, and another worker takes its place."""

    host: str

    def __str__(self) -> str:
        return f"{self.worker} is on a node that is being drained ({self.host}): it gets no new units"


@dataclass(frozen=True, slots=True)
class WorkerLost(WorkerEvent):
    """Its process died, and Ray starts it again. units: what it held, back in the queue or quarantined.

    Told some seconds late where Ray takes time to find out the cause. detail: Ray's own words, one line, may be empty.
    """

    host: str
    cause: LossCause
    detail: str
    units: tuple[int, ...]

    def __str__(self) -> str:
        where = f" on {self.host}" if self.host else ""
        why = f"{self.cause}: {self.detail}" if self.detail else self.cause
        text = f"{self.worker} was lost{where} ({why})"
        if not self.units:
            return text
        one = len(self.units) == 1
        return f"{text}; unit{'' if one else 's'} {', '.join(map(str, self.units))} {'goes' if one else 'go'} back"


@dataclass(frozen=True, slots=True)
class WorkerReplaced(WorkerEvent):
    """It was ended because it hangs; a new worker takes its place if the work asks for one. reason: one line."""

    reason: str

    def __str__(self) -> str:
        return f"{self.worker} {self.reason}: replaced"


@dataclass(frozen=True, slots=True)
class KindChanged(WorkerEvent):
    """It found no machine of its kind in so many seconds, and leaves for a worker of another kind."""

    kind: str
    other: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.worker} found no machine of kind {self.kind} in {self.seconds:.0f} s: {self.other} is asked for"


@dataclass(frozen=True, slots=True)
class WorkerLeft(WorkerEvent):
    """It was ended before the run: there is nothing to do for it, or another one takes its place."""


@dataclass(frozen=True, slots=True)
class WaitBegan(Event):
    """Something does not go on. what: whoever waits, or what is waited for, always in the same words; line: in full."""

    what: str
    line: str
    kind: Kind

    def __str__(self) -> str:
        return self.line


@dataclass(frozen=True, slots=True)
class WaitEnded(Event):
    """What was waited for is there, or needed no more."""

    what: str
    seconds: float

    def __str__(self) -> str:
        return f"no longer waiting: {self.what}, after {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Used(Event):
    """What a worker's process has used beside what its units' reports tell (`synood_ray.used`)."""

    used: used.Used


@dataclass(frozen=True, slots=True)
class ActorCounts:
    """Workers of one role. waiting: for a place in the cluster; starting: loading models; draining: to leave; gpus:
    held by all together that have a place."""

    waiting: int = 0
    starting: int = 0
    ready: int = 0
    draining: int = 0
    gpus: float = 0.0

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.starting + self.ready + self.draining


@dataclass(frozen=True, slots=True)
class Portion:
    """Samples that are made, of those that are to be made, whoever makes them."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a run is. samples: what this driver's own workers have committed since it began.

    made: of what this driver is to make, by stage: all samples of the run, or those that are run again. run: then, what
    is sampled of the whole run. waits: lines about what does not go on. ages: seconds since the unit of a stage was
    begun that is out longest. gpu_seconds: by role, that workers have held GPUs since the driver began.
    """

    units: Mapping[StageName, Counts]
    samples: Totals
    actors: Mapping[str, ActorCounts]
    made: Mapping[StageName, Portion] = field(default_factory=dict)
    run: Portion | None = None
    waits: tuple[str, ...] = ()
    ages: Mapping[StageName, float] = field(default_factory=dict)
    gpu_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """About once a second, and once more when all is done."""

    snapshot: Snapshot
