"""The driver's loop: two queues of units, pools of actors, small records. Images never pass through here.

A turn costs what has changed in it. What asks about all units or workers is done once a `TEND`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from synood_ray.config.paths import absolute
from synood_ray.config.settings import Settings
from synood_ray.errors import Unavailable, UserError, first_line
from synood_ray.farm.actors import REAL, Actors
from synood_ray.farm.actors.describer import keys
from synood_ray.farm.calls import Call, Calls
from synood_ray.farm.care import CHECKS, Care
from synood_ray.farm.failures import Failures
from synood_ray.farm.gpus import GpuClock
from synood_ray.farm.losses import Losses
from synood_ray.farm.observers import (
    Event,
    NoChecks,
    Observer,
    Snapshot,
    StageBegan,
    StageEnded,
    Tick,
    UnitDone,
    UnitHandedOut,
    WorkerPlaced,
    WorkerReady,
    WorkerWarned,
)
from synood_ray.farm.others import Others
from synood_ray.farm.plan import Plan
from synood_ray.farm.pool import Pool, Worker, place_of
from synood_ray.farm.portions import Portions
from synood_ray.farm.queue import Lease, State
from synood_ray.farm.reports import Totals, UnitReport
from synood_ray.farm.retry import WHOLE, Retry
from synood_ray.farm.stage import Stage, open_stages
from synood_ray.farm.waiting import Waiting, waits_of
from synood_ray.locations import run_name
from synood_ray.models.describers import chosen
from synood_ray.sampling.checks import asks_describer
from synood_ray.sampling.recipes import RECIPES
from synood_ray.storage.progress import Scans, scan_stages
from synood_ray.storage.stores.base import Store

MAX_LOSSES = 10  # deaths of one worker in a row, without a unit done, that end the run if no other one is ready
MAX_AWAY = 3  # units in a row, without one done, that may find a service away before the run ends, to be resumed later
PREPARATION = 4  # times farm.unit_deadline that negative labels and boundary may take: all held-out images are seen
TEND = 1.0  # seconds between looks at deadlines, pools and nodes; one wait for workers may last as long


class Driver:
    """Runs the describe and sample stages in one stream until every unit is committed or quarantined.

    observers: called with every event (`farm.observers`), in turn; the list may grow while the driver works.
    retry: do only these units again (`farm.retry`); all others count as committed, whatever they are.
    rng: where to continue when another driver is at work on the same units. scans: what the store lists, if that is
    known already.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        plan: Plan,
        class_names: list[str],
        *,
        actors: Actors = REAL,
        observers: Iterable[Observer] = (),
        retry: Mapping[int, Retry] | None = None,
        rng: random.Random | None = None,
        scans: Scans | None = None,
    ) -> None:
        self.settings, self.store, self.plan = settings, store, plan
        self.observers = list(observers)
        self.totals = Totals()
        self.retry = retry or {}
        farm, arguments = settings.farm, (absolute(settings).model_dump(mode="json"), store.uri)
        named: dict[str, Any] = {"run": run_name(store.uri), "tell": self._tell, "threads": farm.threads}
        self.scorers = Pool(
            "scorer", actors.scorer, farm.scorers, (*arguments, class_names), 1, task_retries=-1, **named
        )
        remote_scorer = settings.scorer.placement == "actor"
        scorers = [w.handle for w in self.scorers.grow(farm.scorers.max)] if remote_scorer else []
        describers = Pool(
            "describer", actors.describer, farm.describers, (*arguments, *keys(settings)), farm.in_flight, **named
        )
        samplers = Pool(
            "sampler", actors.sampler, farm.samplers, (*arguments, class_names, scorers), farm.in_flight, **named
        )
        scans = scans or scan_stages(store, len(plan))
        self.describing, self.sampling = self.stages = open_stages(
            scans, len(plan), describers, samplers, farm, self.retry, rng
        )
        queues = {stage.name: stage.queue for stage in self.stages}
        self.portions = Portions(plan, queues, self.retry, scans.parts.committed)
        self.others = Others(store, self.describing.queue, self.sampling.queue, self.retry)
        self.away = 0  # units in a row that found a service away: a store, a model server
        self.needs_check = asks_describer(settings)
        if settings.sampling.mllm_check and RECIPES[settings.sampling.recipe].checks and not self.needs_check:
            self._tell(NoChecks(chosen(settings.describer)))
        self.calls, self.losses = Calls(), Losses(self._tell)
        for worker in self.scorers.workers.values():
            self.calls.inside(self.sampling, worker, place_of)
        self.failures = Failures(store, self.stages, self.retry, self._tell)
        self.care = Care(farm, self.stages, self.calls, self.failures, self._tell, checks=self.needs_check)
        pools = [(describers, self.describing), (samplers, self.sampling), (self.scorers, self.sampling)]
        self.waiting = Waiting(pools, self.calls, self._tell)
        self.tended = self.looked = -inf  # time.monotonic: the latest round of looking after things, and for answers
        self.gpus = GpuClock()
        self.warned: set[str] = set()
        self.prepared = False  # the run's negative labels and boundary are in the store

    @property
    def quarantined(self) -> int:
        """Units that have no part and will get none."""
        return self.failures.quarantined

    def rates(self) -> dict[str, float]:
        """Seconds that one worker took for a sample, by stage, of stages with anything measured."""
        paces = {stage.name: stage.pace.work for stage in self.stages}
        return {name: work / self.portions.unit_size(name) for name, work in paces.items() if work}

    def run(self) -> Totals:
        """Work until nothing is left. Ends every actor, also when it is interrupted."""
        try:
            while not self.sampling.queue.done:
                self.turn()
            self.losses.settle(final=True)
            self._tell_ends(final=True)
            self._tick()
        finally:
            for pool in (self.describing.pool, self.sampling.pool, self.scorers):
                pool.clear()
        return self.totals

    def turn(self) -> None:
        """One turn of the loop: look after things if it is time to, hand out units, take in the next answers."""
        now = time.monotonic()
        if now - self.tended >= TEND:
            self.tended = now
            self.others.look()
            self.care.replace_stuck(self.looked)  # not now: answers may have come while the store held this loop up
            self.care.leave_draining_nodes()
            self.care.resize()
            self.care.try_other_kinds(now)
            self._copy_stragglers()
            self._prepare()
            self.losses.settle()
            self.waiting.look()
            self._tell_ends()
            self._tick()
        if not self.sampling.queue.done:
            self._hand_out()
            self._collect()

    # -- telling -------------------------------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        for observer in self.observers:
            observer(event)

    def _tell_ends(self, *, final: bool = False) -> None:
        """Stages of which nothing is left; at the end also the one whose last units somebody else has done."""
        for stage in self.stages:
            if stage.began and not stage.over and (final or stage.queue.done):
                stage.over = True
                self._tell(StageEnded(stage.name, max(stage.ended - stage.began, 0.0)))

    def _tick(self) -> None:
        """Tell how far the run is now."""
        actors = {pool.role: pool.counts() for pool in (self.describing.pool, self.sampling.pool, self.scorers)}
        self.gpus.look(actors)
        snapshot = Snapshot(
            units={stage.name: stage.queue.counts() for stage in self.stages},
            samples=replace(self.totals, seconds=dict(self.totals.seconds)),
            made=self.portions.made(),
            run=self.portions.run(),
            actors=actors,
            waits=self.waiting.lines,
            ages={stage.name: stage.queue.age() for stage in self.stages},
            gpu_seconds=dict(self.gpus.seconds),
        )
        self._tell(Tick(snapshot))

    # -- calls and answers ---------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give waiting units to free workers; a worker holds at most farm.in_flight of them."""
        for stage in self.stages:
            if stage is self.sampling and not self._may_sample():
                continue
            while (worker := stage.pool.vacant()) is not None:
                lease = stage.queue.lease(worker.name)
                if lease is None:
                    break
                self._send(stage, worker, lease)

    def _copy_stragglers(self) -> None:
        """Workers with nothing to do take copies of units that take much longer than others; the first answer wins."""
        for stage in self.stages:
            if stage is self.sampling and not self._may_sample():
                continue
            for worker in stage.pool.unoccupied():
                lease = stage.straggler(worker)
                if lease is None:
                    break
                self._send(stage, worker, lease)

    def _may_sample(self) -> bool:
        return self.prepared and (not self.needs_check or any(self.describing.pool.ready))

    def _checker(self) -> Worker:
        """Who makes the next semantic check: the describers in turn, each for `CHECKS` units; the others may go."""
        ready = list(self.describing.pool.ready)
        return next((worker for worker in ready if worker.checks < CHECKS), None) or min(ready, key=lambda w: w.checks)

    def _send(self, stage: Stage, worker: Worker, lease: Lease) -> None:
        stage.hold(worker, lease)
        again = self.retry.get(lease.unit, WHOLE)
        unit = self.plan.unit(lease.unit)
        if stage is self.describing:
            tasks = again.to_describe(unit)
            self.calls.ask(stage, worker, "describe", lease.unit, tasks, again.number, lease=lease)
        else:
            checker = self._checker() if self.needs_check else None
            if checker:
                checker.checks += 1
            arguments = (lease.unit, again.tasks(unit), lease.attempt, checker and checker.handle, again.number)
            self.calls.ask(stage, worker, "sample", *arguments, lease=lease, checker=checker)
        if not stage.began:
            stage.began = time.monotonic()
            self._tell(StageBegan(stage.name))
        self._tell(UnitHandedOut(stage.name, lease.unit, worker.name, lease.attempt, lease.copy))

    def _prepare(self) -> None:
        """The first sampler that is ready makes what all of them need, while the others load."""
        if self.prepared or any(call.method == "prepare" for call in self.calls.flying.values()):
            return
        worker = next(self.sampling.pool.ready, None)
        if worker is not None:
            worker.prepare_by = time.monotonic() + PREPARATION * self.settings.farm.unit_deadline
            self.calls.ask(self.sampling, worker, "prepare")

    def _collect(self) -> None:
        """Wait for the next answers and take them in."""
        import ray

        self.looked = time.monotonic()
        if not self.calls.flying:
            time.sleep(TEND)
            return
        for reference in self.calls.wait(TEND):
            call = self.calls.flying.pop(reference)
            if call.checker is not None:
                call.checker.checks -= 1
                call.checker.idle_since = time.monotonic()
            if call.lease is not None and call.life == call.worker.lives:
                call.stage.put_down(call.worker, call.lease)
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                self._failed(call, error)
            except ray.exceptions.RayError as error:
                self._lost(call, error)
            else:
                self._answered(call, answer)

    def _answered(self, call: Call, answer: Any) -> None:
        worker, now = call.worker, time.monotonic()
        if call.lease is not None:
            self._done(call, call.lease, answer)
        elif call.life != worker.lives:
            return  # it has died since
        elif call.method == waits_of.__name__:
            self.waiting.answered(worker, answer)
        elif call.method == place_of.__name__:
            worker.place, worker.placed = answer, now
            self._tell(WorkerPlaced(worker.name, answer.node, answer.host))
        elif call.method == "ready":
            worker.ready, worker.freed, worker.idle_since = True, now, now
            call.stage.pool.file(worker)
            call.stage.pace.start(now - worker.asked)
            self._prepare()
            self._tell(WorkerReady(worker.name, now - worker.asked))
            self._warn(worker, answer)
        elif call.method == "prepare":
            self.prepared, worker.prepare_by = True, inf
            self._warn(worker, answer)

    def _warn(self, worker: Worker, lines: Sequence[str] | None) -> None:
        """What a worker heard while it loaded: each once, whoever heard it first."""
        for line in lines or ():
            if line not in self.warned:
                self.warned.add(line)
                self._tell(WorkerWarned(worker.name, line))

    def _done(self, call: Call, lease: Lease, report: UnitReport) -> None:
        """A unit is in the store: by this worker, or by whoever was faster."""
        stage = call.stage
        if report.found and len(stage.queue.leases(lease.unit)) > 1:
            stage.queue.nack(lease, away=True)  # a copy: whoever put it there is ours, and is about to say what it is
            return
        seconds = time.monotonic() - lease.started
        news = stage.queue.ack(lease)
        if not report.found:
            self.away = 0
            stage.done(call.worker, lease)
            if call.checker is not None:
                call.checker.losses = 0
        if news and report.found and not (lease.again or lease.copy):
            self.others.met(stage.queue, lease)
        elif news:
            self.totals.add(report, sampled=stage is self.sampling)
            self.totals.judge_checks()
        if stage is self.describing:
            self.sampling.queue.add(lease.unit)
        self._tell(UnitDone(stage.name, lease.unit, call.worker.name, lease.attempt, report, news, seconds))

    # -- when something goes wrong -------------------------------------------------------------------------------------

    def _failed(self, call: Call, error: Any) -> None:
        """A Python error in a worker: the user's to fix, or one more attempt for its unit."""
        import ray

        cause = error
        while isinstance(cause, ray.exceptions.RayTaskError) and isinstance(cause.cause, Exception):
            cause = cause.cause
        if isinstance(cause, UserError):
            raise cause
        cut_off = isinstance(cause, ray.exceptions.RayError) and cause is not error  # another actor died
        if call.lease is None:
            if not cut_off:  # no unit is at fault, and no retry helps
                raise cause if isinstance(cause, Unavailable) else error
            self._lost(call, cause)
            return
        away = isinstance(cause, Unavailable)
        self.away += away
        if away and self.away > MAX_AWAY:
            raise cause
        if cut_off and call.checker is not None and call.checker_life == call.checker.lives:
            self._restart(self.describing, call.checker, cause)
        message = f"{type(cause).__name__}: {cause}".splitlines()[0]
        call.stage.queue.nack(call.lease, lost=cut_off, away=away)
        self.failures.record(call.stage, call.lease, message, type(cause).__name__, details=str(error))

    def _lost(self, call: Call, error: Exception) -> None:
        """An actor or its node died, or was ended for want of memory. Ray restarts it; its units go back."""
        worker, pool = call.worker, call.stage.pool
        if pool.workers.get(worker.name) is worker and call.life == worker.lives:  # else ended by us, or known already
            self._restart(call.stage, worker, error)

    def _restart(self, stage: Stage, worker: Worker, error: Exception) -> None:
        """Give a dead actor's units back, and take it up again when Ray has restarted it."""
        import ray

        # While Ray looks for a place for it, calls fail after two seconds each: these are no further deaths.
        placed = worker.place is not None or worker.ready  # ready: where it is has yet to be told
        waiting = not placed and isinstance(error, ray.exceptions.ActorUnavailableError)
        leases = stage.queue.release(worker.name)
        if not waiting:
            self.losses.add(worker, (lease.unit for lease in leases), error)
        for lease in leases:
            if stage.queue.state(lease.unit) is State.QUARANTINED:
                self.failures.record(stage, lease, f"{worker.name} was lost too often", "lost")
        stage.pool.restarted(worker, waiting=waiting)
        if worker.losses > MAX_LOSSES and not any(stage.pool.ready):
            self.losses.settle(final=True)
            raise UserError(
                f"farm.{stage.pool.role}s: {worker.name} died {worker.losses} times in a row ({first_line(error)}); "
                "see its log, and give it more room (resources, sampling.batch_size) if memory was short"
            ) from error
        self.calls.start(stage, worker)
