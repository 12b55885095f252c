"""How many actors a stage asks for, and which of its units are stragglers: decided from what was measured. No Ray."""

from __future__ import annotations

from collections import deque
from statistics import fmean, median

from synood_ray.config.pools import PoolSettings

STRAGGLER = 3.0
"""A unit in progress for this many times the median is a straggler."""

WORTHWHILE = 60.0
"""Seconds of work that must be left for an actor to be started for it."""

_REMEMBERED = 64
"""Units whose times count: the latest, since machines come and go."""


class Pace:
    """What the latest units and actors of one stage took, in seconds."""

    def __init__(self) -> None:
        self._waits: deque[float] = deque(maxlen=_REMEMBERED)
        self._works: deque[float] = deque(maxlen=_REMEMBERED)
        self._starts: deque[float] = deque(maxlen=_REMEMBERED)

    def unit(self, wait: float, work: float) -> None:
        """A unit is done. wait: since it was handed out, the queue at its worker included; work: since the worker's
        answer before it or, if that was earlier than it was handed out, since then."""
        self._waits.append(wait)
        self._works.append(work)

    def start(self, seconds: float) -> None:
        """An actor is ready, so long after it was asked for."""
        self._starts.append(seconds)

    @property
    def work(self) -> float | None:
        """Mean seconds that one actor needs for one unit; None with nothing measured.

        The mean, since of units that an actor does together one seems to take all the time and the others none.
        """
        return fmean(self._works) if self._works else None

    @property
    def start_up(self) -> float:
        """Median seconds until an actor is ready; 0 with nothing measured."""
        return median(self._starts) if self._starts else 0.0

    @property
    def straggler(self) -> float | None:
        """Seconds after which a unit that was handed out and has not come back deserves a copy; None: cannot tell."""
        return STRAGGLER * median(self._waits) if self._waits else None


def wanted(units: int, due: int, slots: int, pool: PoolSettings, pace: Pace) -> int:
    """Actors that a stage asks for, between pool.min and pool.max; none when it has no unit left.

    units: not yet committed or given up; due: those among them that can be done now, in progress or waiting. slots:
    units that an actor holds at once.

    With nothing measured: enough to hold all units. Then: so many that the due work lasts as long as an actor takes
    to start, or `WORTHWHILE` if that is more. So nothing is started for work that is done before it would be up.
    """
    if units == 0:
        return 0
    if pace.work is None:
        size = -(-units // slots)
    else:
        size = min(due, int(-(-due * pace.work // max(pace.start_up, WORTHWHILE))))
    return max(1, pool.min, min(size, pool.max))
