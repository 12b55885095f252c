"""Slices of a driver and of bare loops in turn, with a driver that is only counted."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import alternation
from benchmarks.alternation import Alternation
from synood_ray.farm.observers import Observer, UnitDone
from synood_ray.farm.reports import UnitReport

IN_FLIGHT = 3


class CountedDriver:
    """Answers one unit after the other, each a second and with two accepted samples; three are always in flight."""

    def __init__(self, units: int, clock: SimpleNamespace) -> None:
        self.units, self.clock = units, clock
        self.sampling = object()
        self.totals = SimpleNamespace(units=0, accepted=0)
        self.calls = SimpleNamespace(flying={})
        self.observers: list[Observer] = []

    def run(self) -> None:
        call = SimpleNamespace(stage=self.sampling, lease=object())
        starting = SimpleNamespace(stage=self.sampling, lease=None)
        for unit in range(self.units):
            flying = range(unit + 1, min(unit + 1 + IN_FLIGHT, self.units))
            self.calls.flying = dict.fromkeys(flying, call) | {-1: starting}
            if unit >= self.clock.drained:
                self.clock.now += 1.0
            self.totals.units, self.totals.accepted = unit + 1, 2 * (unit + 1)
            for observer in self.observers:
                observer(UnitDone("sample", unit, "sampler-0", 1, UnitReport(unit, 2), True, 1.0))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that moves as the driver says; waiting for units in flight takes a second for each."""
    found = SimpleNamespace(now=100.0, drained=0)

    def get(units: list[int]) -> list[UnitReport]:
        found.now += len(units)
        found.drained = units[-1] + 1  # their answers lie there: taking them in takes no time
        return [UnitReport(unit, 2, accepted=2) for unit in units]

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=get))
    monkeypatch.setattr(alternation, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def test_rates_of_both_sides(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def bare(driver: Any, first: int, units: int) -> float:
        asked.append((first, units))
        clock.now += 1000.0  # not the driver's time
        return 5.0

    driver = CountedDriver(200, clock)
    ours, theirs = Alternation(10, 4, [bare]).run(driver)  # type: ignore[arg-type]
    assert ours == [2.0] * 4, "two samples a second: units in flight at a slice's end count once, the bare time never"
    assert theirs == [5.0] * 4
    assert asked == [(0, 13), (13, 10), (23, 10), (33, 10), (43, 10)], "the first one is thrown away"
    assert driver.totals.units < 60, "the driver ends with the last slice"


def test_too_few_units(clock: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match="only 1 slices of 4"):
        Alternation(10, 4, [lambda *found: 1.0]).run(CountedDriver(25, clock))  # type: ignore[arg-type]
