"""The driver's loop: two queues of units, pools of actors, small records. Images never pass through here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from synood_ray.config import Settings
from synood_ray.errors import UserError
from synood_ray.farm.describing import DescriberActor
from synood_ray.farm.plan import Plan
from synood_ray.farm.pool import Pool, Worker
from synood_ray.farm.queue import Lease, UnitQueue
from synood_ray.farm.reports import UnitReport
from synood_ray.farm.retry import WHOLE, Retry
from synood_ray.farm.sampler import SamplerActor
from synood_ray.farm.scoring import ScorerActor
from synood_ray.storage import layout
from synood_ray.storage.progress import Scan, scan
from synood_ray.storage.run import put_json
from synood_ray.storage.store import Store

MAX_LOSSES = 10  # deaths of one worker in a row, without a unit done, that end the run
LOOK_AROUND = 30.0  # seconds between listings of what other drivers may have committed
POLL = 1.0  # seconds that one wait for workers may last: how often deadlines are looked at


@dataclass
class Totals:
    """What this driver has seen done; seconds: worker seconds by stage."""

    described: int = 0
    units: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, report: UnitReport) -> None:
        for stage, value in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value


@dataclass(frozen=True)
class _Call:
    """One call in flight. lease None: the worker is starting ("ready") or preparing."""

    stage: Stage
    worker: Worker
    lease: Lease | None
    method: str


@dataclass
class Stage:
    """A queue of units and the pool that works on it."""

    name: Literal["prompts", "parts"]  # the folder its units are committed to
    queue: UnitQueue
    pool: Pool
    began: float = 0.0  # when its first unit was handed out, and its last one came back (time.monotonic)
    ended: float = 0.0


class Driver:
    """Runs the describe and sample stages in one stream until every unit is committed or quarantined.

    on_progress(driver) is called after every change; `describing`, `sampling` and `totals` say how far it is.
    retry: do only these units again (`farm.retry`); all others count as committed, whatever they are.
    describer, sampler: the actor classes; others with the same methods measure or test the farm without models.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        plan: Plan,
        class_names: list[str],
        on_progress: Callable[[Driver], None] = lambda driver: None,
        say: Callable[[str], None] = print,
        describer: type = DescriberActor,
        sampler: type = SamplerActor,
        retry: Mapping[int, Retry] | None = None,
    ) -> None:
        self.settings, self.store, self.plan = settings, store, plan
        self.on_progress, self.say = on_progress, say
        self.totals = Totals()
        self.retry = retry or {}
        farm = settings.farm
        prompts, parts = scan(store, "prompts"), scan(store, "parts")
        sampled = set(range(len(plan))) - self.retry.keys() if retry else set(parts.committed.tolist())
        # A unit whose samples are committed needs no prompts any more.
        described = sorted({*prompts.committed.tolist(), *parts.committed.tolist(), *sampled})
        config = settings.model_dump(mode="json")
        arguments = (config, store.uri)
        remote_scorer = settings.scorer.placement == "actor"
        self.scorers = Pool("scorer", ScorerActor, farm.scorers, (*arguments, class_names), 1)
        scorers = [w.handle for w in self.scorers.grow(self.scorers.settings.max)] if remote_scorer else []
        queue_settings: dict[str, Any] = {"max_attempts": farm.max_attempts, "deadline": farm.unit_deadline}
        self.describing = Stage(
            "prompts",
            UnitQueue(len(plan), described, **self._history(prompts), **queue_settings),
            Pool("describer", describer, farm.describers, arguments, farm.in_flight),
        )
        self.sampling = Stage(
            "parts",
            UnitQueue(len(plan), sampled, blocked=True, **self._history(parts), **queue_settings),
            Pool("sampler", sampler, farm.samplers, (*arguments, class_names, scorers), farm.in_flight),
        )
        for unit in described:
            self.sampling.queue.add(unit)
        self.stages = (self.describing, self.sampling)
        self.calls: dict[Any, _Call] = {}
        self.looked = time.monotonic()
        self.prepared = False  # the run's negative labels and boundary are in the store
        self.needs_check = settings.sampling.mllm_check and settings.sampling.recipe != "official"

    def _history(self, found: Scan) -> dict[str, Any]:
        """Earlier attempts and quarantined units, which a run keeps over restarts."""
        return {"attempts": found.attempts, "quarantined": found.quarantined - self.retry.keys()}

    @property
    def quarantined(self) -> int:
        return self.sampling.queue.counts().quarantined

    def run(self) -> Totals:
        """Work until nothing is left. Ends every actor, also when it is interrupted."""
        try:
            while not self.sampling.queue.done:
                self._resize()
                self._hand_out()
                self._collect()
                self._expire()
                self._look_around()
        finally:
            for pool in (self.describing.pool, self.sampling.pool, self.scorers):
                pool.clear()
        return self.totals

    # -- one turn of the loop ----------------------------------------------------------------------------------------

    def _resize(self) -> None:
        """Pools follow their open units; the describers stay for the semantic check until all is sampled."""
        left = {stage.name: _open_units(stage.queue) for stage in self.stages}
        wanted_describers = self.describing.pool.wanted(left["prompts"])
        if self.needs_check and not wanted_describers:
            wanted_describers = 1
        for stage, wanted in (
            (self.describing, wanted_describers),
            (self.sampling, self.sampling.pool.wanted(left["parts"])),
        ):
            for worker in stage.pool.grow(wanted):
                self._call(stage, worker, None, "ready")
            stage.pool.shrink(wanted)

    def _hand_out(self) -> None:
        """Give waiting units to free workers; a worker holds at most farm.in_flight of them."""
        for stage in self.stages:
            given = True
            while given:
                given = False
                for worker in stage.pool.free():
                    if stage is self.sampling and not self._may_sample():
                        break
                    lease = stage.queue.lease(worker.name)
                    if lease is None:
                        break
                    self._send(stage, worker, lease)
                    given = True

    def _may_sample(self) -> bool:
        return self.prepared and (not self.needs_check or self._checker() is not None)

    def _checker(self) -> Any | None:
        ready = [w for w in self.describing.pool.workers.values() if w.ready]
        return min(ready, key=lambda w: len(w.units)).handle if ready else None

    def _send(self, stage: Stage, worker: Worker, lease: Lease) -> None:
        stage.began = stage.began or time.monotonic()
        again = self.retry.get(lease.unit, WHOLE)
        tasks = again.tasks(self.plan.unit(lease.unit))
        if stage is self.describing:
            self._call(stage, worker, lease, "describe", lease.unit, tasks)
        else:
            checker = self._checker() if self.needs_check else None
            self._call(stage, worker, lease, "sample", lease.unit, tasks, lease.attempt, checker, again.number)

    def _call(self, stage: Stage, worker: Worker, lease: Lease | None, method: str, *arguments: Any) -> None:
        if lease is not None:
            worker.units.add(lease.id)
        reference = getattr(worker.handle, method).remote(*arguments)
        self.calls[reference] = _Call(stage, worker, lease, method)

    def _collect(self) -> None:
        """Wait for the next answers and take them in."""
        import ray

        if not self.calls:
            time.sleep(POLL)
            return
        answered, _ = ray.wait(list(self.calls), num_returns=1, timeout=POLL)
        if answered:  # whatever else is there by now
            answered, _ = ray.wait(list(self.calls), num_returns=len(self.calls), timeout=0)
        for reference in answered:
            call = self.calls.pop(reference)
            if call.lease is not None:
                call.worker.units.discard(call.lease.id)
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                self._failed(call, error)
            except ray.exceptions.RayError as error:
                self._lost(call, error)
            else:
                self._answered(call, answer)
            self.on_progress(self)

    def _answered(self, call: _Call, answer: Any) -> None:
        if call.method == "ready":
            call.worker.ready = True
            preparing = self.prepared or any(other.method == "prepare" for other in self.calls.values())
            if call.stage is self.sampling and not preparing:
                # The first sampler makes what all of them need, while the others load.
                self._call(call.stage, call.worker, None, "prepare")
        elif call.method == "prepare":
            self.prepared = True
        elif call.lease is not None:
            call.worker.losses = 0
            call.stage.ended = time.monotonic()
            if call.stage.queue.ack(call.lease):
                self._count(call.stage, answer)

    def _count(self, stage: Stage, report: UnitReport) -> None:
        self.totals.add(report)
        if stage is self.describing:
            self.totals.described += 1
            self.sampling.queue.add(report.unit)
        else:
            self.totals.units += 1
            self.totals.accepted += report.accepted
            self.totals.rejected += report.rejected
            self.totals.failed += report.failed

    def _look_around(self) -> None:
        """Take in what another driver of the same run has committed: two drivers share the work."""
        if time.monotonic() - self.looked < LOOK_AROUND:
            return
        self.looked = time.monotonic()
        for unit in scan(self.store, "prompts").committed.tolist():
            self.describing.queue.commit(unit)
            self.sampling.queue.add(unit)
        for entry in self.store.list(layout.PARTS):
            name = layout.part_unit(entry.key)
            if name and name[1] == self.retry.get(name[0], WHOLE).number:
                self.sampling.queue.commit(name[0])

    # -- when something goes wrong -------------------------------------------------------------------------------------

    def _failed(self, call: _Call, error: Any) -> None:
        """A Python error in a worker: the user's to mend, or one more attempt for its unit."""
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, UserError):
            raise cause
        if call.lease is None:
            raise error  # a worker that cannot start or prepare: no unit is at fault, and no retry helps
        message = f"{type(cause).__name__}: {cause}".splitlines()[0]
        self.say(f"unit {call.lease.unit} ({call.stage.name}), attempt {call.lease.attempt}: {message}")
        call.stage.queue.nack(call.lease, message)
        self._record(call.stage, call.lease, str(error))

    def _record(self, stage: Stage, lease: Lease, error: str) -> None:
        """Keep a failed attempt in ``errors/``; with the last one the unit is quarantined, and so are its samples."""
        final = stage.queue.state(lease.unit).name == "QUARANTINED"
        key = layout.error_key(stage.name, lease.unit, lease.attempt, final=final)
        put_json(self.store, key, {"unit": lease.unit, "attempt": lease.attempt, "error": error})
        if final and stage is self.describing:
            self.sampling.queue.quarantine(lease.unit, "its prompts failed")
            key = layout.error_key("parts", lease.unit, 1, final=True)
            put_json(self.store, key, {"unit": lease.unit, "attempt": 1, "error": "its prompts failed"})

    def _lost(self, call: _Call, error: Exception) -> None:
        """An actor or its node died. Ray restarts it; its units go back to the queue."""
        worker = call.worker
        if worker.name not in call.stage.pool.workers:
            return  # ended by us
        if call.lease is not None:
            self.say(f"{worker.name} was lost; unit {call.lease.unit} goes back to the queue")
            for lease in call.stage.queue.release(worker.name):
                if call.stage.queue.state(lease.unit).name == "QUARANTINED":
                    self._record(call.stage, lease, f"{worker.name} was lost too often")
        if worker.ready or call.lease is None:
            worker.ready = False
            worker.losses += 1
            if worker.losses > MAX_LOSSES:
                raise RuntimeError(f"{worker.name} died {worker.losses} times in a row") from error
            self._call(call.stage, worker, None, "ready")

    def _expire(self) -> None:
        """Units past their deadline: their worker hangs, and is replaced."""
        for stage in self.stages:
            for lease in stage.queue.expire():
                self._record(
                    stage, lease, f"no answer within farm.unit_deadline = {self.settings.farm.unit_deadline} s"
                )
                worker = stage.pool.workers.get(lease.worker)
                if worker is not None:
                    self.say(f"{worker.name} hangs on unit {lease.unit} and is replaced")
                    stage.queue.release(worker.name, lost=False)  # its other units are not at fault
                    stage.pool.remove(worker)


def _open_units(queue: UnitQueue) -> int:
    counts = queue.counts()
    return counts.waiting + counts.leased + counts.blocked
