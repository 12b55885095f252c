"""A budget: the run ends when it is used up, and goes on another time."""

from __future__ import annotations

from synood_ray.config.pools import FarmSettings
from synood_ray.farm.observers import Event, Tick, UnitDone


class BudgetSpentError(Exception):
    """The budget is used up. The message says which, in one line."""


class Budget:
    """An observer that ends the run, by BudgetSpentError, when `farm.budget_accepted` samples of the run are accepted
    or this call's workers have held GPUs for `farm.budget_gpu_hours`.

    accepted: samples of the run that were accepted before.
    """

    def __init__(self, farm: FarmSettings, accepted: int = 0) -> None:
        self.farm, self.accepted = farm, accepted
        self.hours = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Tick):
            self.hours = sum(event.snapshot.gpu_seconds.values()) / 3600
        elif isinstance(event, UnitDone) and event.stage == "sample" and event.first and not event.report.found:
            self.accepted += event.report.accepted
        if isinstance(event, UnitDone | Tick):
            self._check()

    def _check(self) -> None:
        most, hours = self.farm.budget_accepted, self.farm.budget_gpu_hours
        if most is not None and self.accepted >= most:
            raise BudgetSpentError(f"farm.budget_accepted: {self.accepted:,} samples are accepted, of {most:,}")
        if hours is not None and self.hours >= hours:
            raise BudgetSpentError(f"farm.budget_gpu_hours: {self.hours:.3g} GPU-hours are used by now, of {hours:g}")
