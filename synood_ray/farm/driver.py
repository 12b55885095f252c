"""The driver's loop: two queues of units, pools of actors, small records. Images never pass through here.

A turn costs what has changed in it. What asks about all units or workers is done once a `TEND`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from synood_ray.config.settings import Settings
from synood_ray.errors import Unavailable, UserError
from synood_ray.farm.actors.describer import DescriberActor, keys
from synood_ray.farm.actors.sampler import SamplerActor
from synood_ray.farm.actors.scorer import ScorerActor
from synood_ray.farm.cluster import draining_nodes
from synood_ray.farm.others import Others
from synood_ray.farm.plan import Plan
from synood_ray.farm.pool import Pool, Worker, node_of
from synood_ray.farm.queue import Lease, State
from synood_ray.farm.reports import Totals, UnitReport
from synood_ray.farm.retry import WHOLE, Retry
from synood_ray.farm.stage import Call, Stage, open_stages
from synood_ray.sampling.recipes import RECIPES
from synood_ray.storage import layout
from synood_ray.storage.run import put_json
from synood_ray.storage.stores.base import Store

MAX_LOSSES = 10  # deaths of one worker in a row, without a unit done, that end the run if no other one is ready
MAX_AWAY = 3  # units in a row, without one done, that may find a service away before the run ends, to go on later
MAX_SETUPS = 3  # set-ups in a row that may take longer than farm.setup_grace
CHECKS = 16  # units in progress for which one describer makes the semantic check
TEND = 1.0  # seconds between looks at deadlines, pools and nodes; one wait for workers may last as long


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
        farm, arguments = settings.farm, (settings.model_dump(mode="json"), store.uri)
        self.scorers = Pool("scorer", ScorerActor, farm.scorers, (*arguments, class_names), 1, task_retries=-1)
        remote_scorer = settings.scorer.placement == "actor"
        scorers = [w.handle for w in self.scorers.grow(farm.scorers.max)] if remote_scorer else []
        describers = Pool("describer", describer, farm.describers, (*arguments, *keys(settings)), farm.in_flight)
        samplers = Pool("sampler", sampler, farm.samplers, (*arguments, class_names, scorers), farm.in_flight)
        self.describing, self.sampling = self.stages = open_stages(
            store, len(plan), describers, samplers, farm, self.retry
        )
        self.others = Others(store, self.describing.queue, self.sampling.queue, self.retry)
        self.calls: dict[Any, Call] = {}
        self.tended = self.looked = -inf  # time.monotonic: the latest round of looking after things, and for answers
        self.away = 0  # units in a row that found a service away: a store, a model server
        self.vain_retries = 0  # units whose failed samples failed again as a whole; their parts stay as they were
        self.prepared = False  # the run's negative labels and boundary are in the store
        self.needs_check = settings.sampling.mllm_check and RECIPES[settings.sampling.recipe].checks
        if self.needs_check and settings.describer.contexts:
            say("no semantic check by the describer: its contexts are recorded, and nobody is there to ask")
            self.needs_check = False

    @property
    def quarantined(self) -> int:
        """Units that have no part and will get none."""
        return self.sampling.queue.counts().quarantined - self.vain_retries

    def run(self) -> Totals:
        """Work until nothing is left. Ends every actor, also when it is interrupted."""
        try:
            while not self.sampling.queue.done:
                self.turn()
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
            self._replace_stuck(self.looked)  # not now: answers may have come while the store held this loop up
            self._leave_draining_nodes()
            self._resize()
            self._copy_stragglers()
            self._prepare()
        if not self.sampling.queue.done:
            self._hand_out()
            self._collect()

    # -- looking after things ------------------------------------------------------------------------------------------

    def _resize(self) -> None:
        """Pools follow their open units; a describer stays for the semantic checks until all is sampled."""
        for stage in self.stages:
            size = stage.size()
            if stage is self.describing and self.needs_check:
                checks = sum(worker.checks for worker in stage.pool.workers.values())
                size = max(size, 1, -(-checks // CHECKS))
            for worker in stage.pool.grow(size):
                self._start(stage, worker)
            stage.pool.shrink(size, self.settings.farm.idle_grace)

    def _replace_stuck(self, now: float) -> None:
        """End actors that hang on something past its deadline, or in set-up; those that wait for a machine do not."""
        farm = self.settings.farm
        for stage in self.stages:
            for lease in stage.queue.expire(now):
                self._record(stage, lease, f"no answer within farm.unit_deadline = {farm.unit_deadline} s")
            for worker in list(stage.pool.workers.values()):
                if worker.hangs(now):
                    units = sorted(lease.unit for lease in worker.units.values())
                    self.say(f"{worker.name} hangs on {f'unit {units[0]}' if units else 'its preparation'}: replaced")
                    stage.queue.release(worker.name, lost=False)  # its other units are not at fault
                    stage.pool.remove(worker)
                elif worker.node and not worker.ready and now - worker.placed > farm.setup_grace:
                    self.say(f"{worker.name} is not ready after farm.setup_grace = {farm.setup_grace:g} s: replaced")
                    if worker.setups >= MAX_SETUPS and not any(stage.pool.ready):
                        raise UserError(
                            f"farm.setup_grace: {worker.setups} {stage.pool.role}s in a row were not ready after "
                            f"{farm.setup_grace:g} s; raise it, or see their logs for what keeps them"
                        )
                    self._start(stage, stage.pool.replace(worker))

    def _leave_draining_nodes(self) -> None:
        """Workers on nodes that will go get nothing new; others take their place."""
        draining = draining_nodes()
        for stage in self.stages:
            for worker in stage.pool.workers.values():
                if worker.node in draining and not worker.draining:
                    self.say(f"{worker.name} is on a node that is being drained: it gets no new units")
                    worker.draining = True
                    stage.pool.file(worker)

    def _copy_stragglers(self) -> None:
        """Workers with nothing to do take copies of units that take much longer than others; the first answer wins."""
        for stage in self.stages:
            if stage is self.sampling and not self._may_sample():
                continue
            for worker in stage.pool.unoccupied():
                lease = stage.straggler(worker)
                if lease is None:
                    break
                self.say(f"unit {lease.unit} ({stage.name}) takes long: {worker.name} does it too")
                self._send(stage, worker, lease)

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

    def _may_sample(self) -> bool:
        return self.prepared and (not self.needs_check or any(self.describing.pool.ready))

    def _checker(self) -> Worker:
        """Who makes the next semantic check: the describers in turn, each for `CHECKS` units; the others may go."""
        ready = list(self.describing.pool.ready)
        return next((worker for worker in ready if worker.checks < CHECKS), None) or min(ready, key=lambda w: w.checks)

    def _send(self, stage: Stage, worker: Worker, lease: Lease) -> None:
        stage.began = stage.began or time.monotonic()
        stage.hold(worker, lease)
        again = self.retry.get(lease.unit, WHOLE)
        unit = self.plan.unit(lease.unit)
        if stage is self.describing:
            self._call(stage, worker, "describe", lease.unit, again.to_describe(unit), again.number, lease=lease)
            return
        checker = self._checker() if self.needs_check else None
        if checker:
            checker.checks += 1
        arguments = (lease.unit, again.tasks(unit), lease.attempt, checker and checker.handle, again.number)
        self._call(stage, worker, "sample", *arguments, lease=lease, checker=checker)

    def _start(self, stage: Stage, worker: Worker) -> None:
        """Ask a new or restarted actor where it is, and to load its models."""
        self._call(stage, worker, "__ray_call__", node_of)
        self._call(stage, worker, "ready")

    def _prepare(self) -> None:
        """The first sampler that is ready makes what all of them need, while the others load."""
        if self.prepared or any(call.method == "prepare" for call in self.calls.values()):
            return
        worker = next(self.sampling.pool.ready, None)
        if worker is not None:
            worker.prepare_by = time.monotonic() + self.settings.farm.unit_deadline
            self._call(self.sampling, worker, "prepare")

    def _call(
        self,
        stage: Stage,
        worker: Worker,
        method: str,
        *arguments: Any,
        lease: Lease | None = None,
        checker: Worker | None = None,
    ) -> None:
        reference = getattr(worker.handle, method).remote(*arguments)
        checker_life = checker.lives if checker else 0
        self.calls[reference] = Call(stage, worker, lease, method, worker.lives, checker, checker_life)

    def _collect(self) -> None:
        """Wait for the next answers and take them in."""
        import ray

        self.looked = time.monotonic()
        if not self.calls:
            time.sleep(TEND)
            return
        answered, _ = ray.wait(list(self.calls), num_returns=1, timeout=TEND)
        if answered:  # whatever else is there by now
            answered, _ = ray.wait(list(self.calls), num_returns=len(self.calls), timeout=0)
        for reference in answered:
            call = self.calls.pop(reference)
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
            self.on_progress(self)

    def _answered(self, call: Call, answer: Any) -> None:
        worker, now = call.worker, time.monotonic()
        if call.lease is not None:
            self._done(call, call.lease, answer)
        elif call.life != worker.lives:
            return  # it has died since
        elif call.method == "__ray_call__":
            worker.node, worker.placed = answer, now
        elif call.method == "ready":
            worker.ready, worker.freed, worker.idle_since = True, now, now
            call.stage.pool.file(worker)
            call.stage.pace.start(now - worker.asked)
            self._prepare()
        elif call.method == "prepare":
            self.prepared, worker.prepare_by = True, inf

    def _done(self, call: Call, lease: Lease, report: UnitReport) -> None:
        """A unit is in the store: by this worker, or by whoever was faster."""
        stage = call.stage
        news = stage.queue.ack(lease)
        if not report.found:
            self.away = 0
            stage.done(call.worker, lease)
            if call.checker is not None:
                call.checker.losses = 0
        if news and report.found:
            self.others.met(stage.queue, lease)
        elif news:
            self.totals.add(report, sampled=stage is self.sampling)
            self.totals.judge_checks()
        if stage is self.describing:
            self.sampling.queue.add(lease.unit)

    # -- when something goes wrong -------------------------------------------------------------------------------------

    def _failed(self, call: Call, error: Any) -> None:
        """A Python error in a worker: the user's to mend, or one more attempt for its unit."""
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
        self.say(f"unit {call.lease.unit} ({call.stage.name}), attempt {call.lease.attempt}: {message}")
        call.stage.queue.nack(call.lease, message, lost=cut_off, away=away)
        self._record(call.stage, call.lease, str(error))

    def _lost(self, call: Call, error: Exception) -> None:
        """An actor or its node died, or was ended for want of memory. Ray restarts it; its units go back."""
        worker, pool = call.worker, call.stage.pool
        if pool.workers.get(worker.name) is worker and call.life == worker.lives:  # else ended by us, or known already
            self._restart(call.stage, worker, error)

    def _restart(self, stage: Stage, worker: Worker, error: Exception) -> None:
        """Give a dead actor's units back, and take it up again when Ray has restarted it."""
        import ray

        for lease in stage.queue.release(worker.name):
            self.say(f"{worker.name} was lost; unit {lease.unit} goes back to the queue")
            if stage.queue.state(lease.unit) is State.QUARANTINED:
                self._record(stage, lease, f"{worker.name} was lost too often")
        # While Ray looks for a place for it, calls fail after two seconds each: these are no further deaths.
        waiting = worker.node is None and isinstance(error, ray.exceptions.ActorUnavailableError)
        stage.pool.restarted(worker, waiting=waiting)
        if worker.losses > MAX_LOSSES and not any(stage.pool.ready):
            raise RuntimeError(f"{worker.name} died {worker.losses} times in a row") from error
        self._start(stage, worker)

    def _record(self, stage: Stage, lease: Lease, error: str) -> None:
        """Keep a failed attempt in ``errors/``; with the last one the unit is quarantined, and so are its samples."""
        given_up = stage.queue.state(lease.unit) is State.QUARANTINED
        again = bool(self.retry.get(lease.unit, WHOLE).number)  # has a part, and keeps it
        self.vain_retries += given_up and again  # also if it is the new prompts that cannot be had
        final = given_up and not again
        put_json(
            self.store,
            layout.error_key(stage.name, lease.unit, lease.attempt, final=final),
            {"unit": lease.unit, "attempt": lease.attempt, "error": error},
        )
        if given_up and stage is self.describing:
            self.sampling.queue.quarantine(lease.unit, "its prompts failed")
        if final and stage is self.describing:
            key = layout.error_key("parts", lease.unit, 1, final=True)
            put_json(self.store, key, {"unit": lease.unit, "attempt": 1, "error": "its prompts failed"})
