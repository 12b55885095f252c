"""GPU-hours are counted while workers hold them."""

from __future__ import annotations

import pytest

from synood_ray.config.settings import FarmSettings
from synood_ray.farm import budget
from synood_ray.farm.budget import Budget, BudgetSpentError
from synood_ray.farm.observers import Snapshot, Tick, WorkerLeft, WorkerPlaced
from synood_ray.farm.reports import Totals


def test_gpu_hours_of_workers_that_are_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(budget, "time", clock)
    tick = Tick(Snapshot({}, Totals(), {}))
    farm = FarmSettings.model_validate({"samplers": {"gpus": 0.5}, "describers": {"gpus": 1}, "budget_gpu_hours": 2})
    watch = Budget(farm)
    watch(WorkerPlaced("sampler-0", "node", "host"))
    watch(WorkerPlaced("describer-0", "node", "host"))
    clock.now = 3600.0
    watch(WorkerLeft("describer-0"))
    assert watch.hours == pytest.approx(1.5)
    clock.now = 5400.0
    watch(tick)
    assert watch.hours == pytest.approx(1.75)
    clock.now = 7200.0
    with pytest.raises(BudgetSpentError, match=r"farm\.budget_gpu_hours: 2 GPU-hours are used by now, of 2"):
        watch(tick)
