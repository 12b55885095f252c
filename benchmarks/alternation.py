"""A driver and a bare loop in turn, a slice of seconds each, so that whatever else the machine does weighs on both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from synood_ray.farm.observers import Event, UnitDone

if TYPE_CHECKING:
    from synood_ray.farm.driver import Driver


class Enough(Exception):  # noqa: N818
    """All slices are measured; the driver need not go on."""


class Alternation:
    """Measures while a driver runs; an observer of it.

    A slice of the driver begins with nothing in flight and ends, at least `units` units later, when all units in
    flight have ended: their answers lie there, to be taken in when the driver goes on. Then each of `others` has its
    turn with as many units, given as (driver, first unit, number of units), and returns accepted samples a second.
    The first slice of all, with its cold caches, is thrown away.
    """

    def __init__(self, units: int, slices: int, others: Sequence[Callable[[Driver, int, int], float]]) -> None:
        self.units, self.slices, self.others = units, slices, others
        self.rates: list[list[float]] = [[] for _ in range(1 + len(others))]  # the driver's, then the others'
        self._begin = 0.0
        self._before = self._answered = (0, 0)  # units, accepted samples: at the last slice's end

    def run(self, driver: Driver) -> list[list[float]]:
        """Run the driver until all slices are measured; returns `rates`. RuntimeError if its units do not suffice."""
        self.driver = driver
        driver.observers.append(self)
        with suppress(Enough):
            driver.run()
            raise RuntimeError(f"only {len(self.rates[0])} slices of {self.slices} were measured: too few units")
        return self.rates

    def __call__(self, event: Event) -> None:
        if isinstance(event, UnitDone) and event.stage == "sample":
            self._measure(self.driver)

    def _measure(self, driver: Driver) -> None:
        if driver.totals.units - self._answered[0] < self.units:
            return
        units, accepted = self._drain(driver)
        end = time.monotonic()
        done, good = units - self._before[0], accepted - self._before[1]
        rates = [good / (end - self._begin)] if self._begin else []
        rates += [other(driver, self._before[0], done) for other in self.others]
        if self._begin:
            for found, rate in zip(self.rates, rates, strict=True):
                found.append(rate)
        if len(self.rates[0]) == self.slices:
            raise Enough
        self._before, self._answered = (units, accepted), (driver.totals.units, driver.totals.accepted)
        self._begin = time.monotonic()

    @staticmethod
    def _drain(driver: Driver) -> tuple[int, int]:
        """Wait for the units in flight; returns the units and accepted samples done up to then."""
        import ray

        flying = [ref for ref, call in driver.calls.flying.items() if call.stage is driver.sampling and call.lease]
        reports = ray.get(flying)
        return driver.totals.units + len(reports), driver.totals.accepted + sum(r.accepted for r in reports)
