"""Looks after pools and units once a second: sizes, deadlines, slow set-ups, nodes that will go."""

from __future__ import annotations

from synood_ray.config.pools import FarmSettings
from synood_ray.errors import UserError
from synood_ray.farm.calls import Calls
from synood_ray.farm.cluster import draining_nodes
from synood_ray.farm.failures import Failures
from synood_ray.farm.observers import Observer, WorkerDraining, WorkerReplaced
from synood_ray.farm.stage import Stage

MAX_SETUPS = 3  # set-ups in a row that may take longer than farm.setup_grace
CHECKS = 16  # units in progress for which one describer makes the semantic check


class Care:
    """checks: describers make semantic checks, so one stays until all is sampled."""

    def __init__(
        self,
        farm: FarmSettings,
        stages: tuple[Stage, Stage],
        calls: Calls,
        failures: Failures,
        tell: Observer,
        *,
        checks: bool,
    ) -> None:
        self.farm, self.stages, self.calls, self.failures, self.tell = farm, stages, calls, failures, tell
        self.checks = checks
        self.preparations = 0  # that hung; what they make is made once a run

    def resize(self) -> None:
        """Pools follow their open units and checks."""
        describing, _ = self.stages
        for stage in self.stages:
            size = stage.size()
            if stage is describing and self.checks:
                checks = sum(worker.checks for worker in stage.pool.workers.values())
                size = max(size, 1, -(-checks // CHECKS))
            for worker in stage.pool.grow(size):
                self.calls.start(stage, worker)
            stage.pool.shrink(size, self.farm.idle_grace)

    def replace_stuck(self, now: float) -> None:
        """End actors that hang on something past its deadline, or in set-up; those that wait for a machine do not."""
        for stage in self.stages:
            for lease in stage.queue.expire(now):
                late = f"no answer within farm.unit_deadline = {self.farm.unit_deadline} s"
                self.failures.record(stage, lease, late, "deadline")
            for worker in list(stage.pool.workers.values()):
                if worker.hangs(now):
                    units = sorted(lease.unit for lease in worker.units.values())
                    what = f"unit {units[0]}" if units else "its preparation"
                    self.tell(WorkerReplaced(worker.name, f"hangs on {what}"))
                    self.preparations += not units
                    if self.preparations >= MAX_SETUPS:
                        raise UserError(
                            f"farm.unit_deadline: {self.preparations} times the run's negative labels and boundary "
                            f"took too long; raise it from {self.farm.unit_deadline:g} s, or hold out fewer images "
                            "(data.holdout, data.calibration)"
                        )
                    stage.queue.release(worker.name, lost=False)  # its other units are not at fault
                    stage.pool.remove(worker)
                elif worker.place and not worker.ready and now - worker.placed > self.farm.setup_grace:
                    reason = f"is not ready after farm.setup_grace = {self.farm.setup_grace:g} s"
                    self.tell(WorkerReplaced(worker.name, reason))
                    if worker.setups >= MAX_SETUPS and not any(stage.pool.ready):
                        raise UserError(
                            f"farm.setup_grace: {worker.setups} {stage.pool.role}s in a row were not ready after "
                            f"{self.farm.setup_grace:g} s; raise it, or see their logs for what keeps them"
                        )
                    self.calls.start(stage, stage.pool.replace(worker))

    def try_other_kinds(self, now: float) -> None:
        """Workers that wait for a machine for too long ask for the next kind."""
        for stage in self.stages:
            pool = stage.pool
            for worker in list(pool.workers.values()):
                if not (worker.place or worker.ready) and now - worker.asked > pool.settings.patience:
                    other = pool.next_kind(worker)
                    if other is not None:
                        self.calls.start(stage, other)

    def leave_draining_nodes(self) -> None:
        """Workers on nodes that will go get nothing new; others take their place."""
        draining = draining_nodes()
        for stage in self.stages:
            for worker in stage.pool.workers.values():
                if worker.place and worker.place.node in draining and not worker.draining:
                    worker.draining = True
                    stage.pool.file(worker)
                    self.tell(WorkerDraining(worker.name, worker.place.host))
