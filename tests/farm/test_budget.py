"""GPU-hours are counted while workers hold them."""

from __future__ import annotations

import pytest

from synood_ray.config.pools import FarmSettings
from synood_ray.farm import budget
from synood_ray.farm.budget import Budget, BudgetSpentError
from synood_ray.farm.observers import ActorCounts, Snapshot, Tick
from synood_ray.farm.reports import Totals


def test_gpu_hours_of_workers_that_are_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(budget, "time", clock)

    def tick(seconds: float, **gpus: float) -> Tick:
        clock.now = seconds
        return Tick(Snapshot({}, Totals(), {role: ActorCounts(ready=1, gpus=held) for role, held in gpus.items()}))

    watch = Budget(FarmSettings.model_validate({"budget_gpu_hours": 2}))
    watch(tick(0.0, sampler=0.5, describer=1.0))
    watch(tick(3600.0, sampler=0.5))
    assert watch.hours == pytest.approx(1.5)
    watch(tick(5400.0, sampler=0.5))
    assert watch.hours == pytest.approx(1.75)
    with pytest.raises(BudgetSpentError, match=r"farm\.budget_gpu_hours: 2 GPU-hours are used by now, of 2"):
        watch(tick(7200.0))
