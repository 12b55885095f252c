"""GPU-hours are counted while workers hold them."""

from __future__ import annotations

import pytest

from synood_ray.config.pools import FarmSettings
from synood_ray.farm import gpus
from synood_ray.farm.budget import Budget, BudgetSpentError
from synood_ray.farm.gpus import GpuClock
from synood_ray.farm.observers import ActorCounts, Snapshot, Tick
from synood_ray.farm.reports import Totals


def test_gpu_hours_of_workers_that_are_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(gpus, "time", clock)
    held = GpuClock()

    def tick(seconds: float, **gpus: float) -> Tick:
        clock.now = seconds
        held.look({role: ActorCounts(ready=1, gpus=count) for role, count in gpus.items()})
        return Tick(Snapshot({}, Totals(), {}, gpu_seconds=dict(held.seconds)))

    watch = Budget(FarmSettings.model_validate({"budget_gpu_hours": 2}))
    watch(tick(0.0, sampler=0.5, describer=1.0))
    watch(tick(3600.0, sampler=0.5))
    assert watch.hours == pytest.approx(1.5)
    watch(tick(5400.0, sampler=0.5))
    assert watch.hours == pytest.approx(1.75)
    with pytest.raises(BudgetSpentError, match=r"farm\.budget_gpu_hours: 2 GPU-hours are used by now, of 2"):
        watch(tick(7200.0))
    assert held.seconds == {"sampler": 3600.0, "describer": 3600.0}
