"""What a person sees while the farm works: what is worth a line, and how far the run is, by the clock."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from synood_ray import waits
from synood_ray.errors import Unavailable, UserError, counted
from synood_ray.farm.observers import Event, Snapshot, StageName, Tick

WINDOW = 180.0
"""Seconds over which a rate is measured: the latest, since machines come and go."""
BEAT = 1.0
_STAGES: dict[StageName, str] = {"sample": "sampled", "describe": "described"}


@dataclass(frozen=True, slots=True)
class Pace:
    """One stage: samples done of all, by anybody; samples a second and seconds left, None where that is not known."""

    done: int
    total: int
    rate: float | None = None
    left: float | None = None

    def __str__(self) -> str:
        text = f"{self.done:,}/{self.total:,}"
        if self.rate:
            text += f", {self.rate:.3g}/s"
        return text + (f", about {duration(self.left)} left" if self.left else "")


class Rate:
    """How fast a count grows, over the latest `WINDOW` seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def pace(self, now: float, done: int, total: int) -> Pace:
        """The count is now so far. Time before the first step does not count: start-up is not pace."""
        if not self._seen or done > self._seen[-1][1]:
            self._seen.append((now, done))
        while len(self._seen) > 3 and now - self._seen[1][0] > WINDOW:
            self._seen.popleft()
        steps = list(self._seen)[1:] if len(self._seen) > 2 else []
        if not steps or now <= steps[0][0]:
            return Pace(done, total)
        rate = (done - steps[0][1]) / (now - steps[0][0])
        return Pace(done, total, rate, (total - done) / rate if rate and total > done else None)


def duration(seconds: float) -> str:
    """ "4:10", "2:04:10", "3 days 2:04"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """An observer that says what happens, and shows how far the run is: samples, their rate and the time left.

    Two live bars in a terminal, a line every so many seconds elsewhere, also while the driver's thread is held up;
    a context manager that ends both. earlier: counts what was accepted, rejected and failed before this call; it may
    take long, and is called in a thread.
    """

    def __init__(
        self,
        every: float,
        say: Callable[[str], None],
        *,
        earlier: Callable[[], dict[str, int]] | None = None,
    ) -> None:
        self.every, self.say = every, say
        self.last = time.monotonic()
        self.snapshot: Snapshot | None = None
        self.bars: Any = None
        self._rates = {stage: Rate() for stage in _STAGES}
        self._paces: dict[StageName, Pace] = {}
        self._earlier, self._count = None if earlier else dict[str, int](), earlier
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._away: set[str] = set()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from synood_ray.farm.bars import Bars

            self.bars = Bars(list(_STAGES.values()))
        threading.Thread(target=self._beat, daemon=True, name="progress").start()
        if self._count:
            threading.Thread(target=self._count_earlier, daemon=True, name="earlier").start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        with self._lock:
            if self.bars is not None:
                self.bars.stop()
            if error[0] is None and self.snapshot is not None:
                self.say(self.line())

    def __call__(self, event: Event) -> None:
        with self._lock:
            if line := str(event):
                self.say(line)
            if isinstance(event, Tick):
                self.snapshot = event.snapshot
                for stage, made in event.snapshot.made.items():
                    self._paces[stage] = self._rates[stage].pace(time.monotonic(), made.done, made.total)
                self.look()

    def look(self) -> None:
        """Show what there is to show by now."""
        with self._lock:
            if self._ended.is_set():
                return
            now = time.monotonic()
            if self.bars is not None:
                self.bars.show({_STAGES[stage]: pace for stage, pace in self._paces.items()}, self.details())
            elif now - self.last >= self.every and self.snapshot is not None:
                self.last = now
                self.say(self.line())

    def line(self) -> str:
        """One line: samples by stage with rate and time left, what became of them, workers, what is waited for.

        Where samples are run again, those; how far the whole run is then stands behind.
        """
        sampled, described = self._paces["sample"], self._paces["describe"]
        again = self.snapshot is not None and self.snapshot.run is not None
        text = f"samples {'run again ' * again}{sampled}"
        if described.done < described.total and described.done != sampled.done:
            text += f" · described {described}"
        return " · ".join([text, *self.details()])

    def details(self) -> list[str]:
        """What became of the samples, workers, what is waited for."""
        if self.snapshot is None:
            return []
        samples, units, actors = self.snapshot.samples, self.snapshot.units["sample"], self.snapshot.actors
        before = self._earlier
        names = ("accepted", "rejected", "failed")
        counts = [f"{getattr(samples, name) + (before or {}).get(name, 0):,} {name}" for name in names]
        found = [", ".join(counts) + ("" if before is not None else " since the start of this call")]
        samplers, describers = actors["sampler"].ready, actors["describer"].ready
        loading = actors["sampler"].starting + actors["describer"].starting
        ready = f"{counted(samplers, 'sampler')}, {counted(describers, 'describer')}"
        found.append(ready + (f", {loading} loading models" * bool(loading)))
        if run := self.snapshot.run:
            found.append(f"{run.done:,}/{run.total:,} of the run sampled")
        if units.quarantined:
            found.append(f"{counted(units.quarantined, 'unit')} quarantined")
        return found + [f"waiting: {line}" for line in self._waits()]

    def _waits(self) -> list[str]:
        told = list(self.snapshot.waits) if self.snapshot else []
        return told + [line for what, line in waits.current() if not any(one.startswith(what) for one in told)]

    def _count_earlier(self) -> None:
        assert self._count is not None
        with suppress(UserError, Unavailable):  # then the line counts from the start of this call, and says so
            self._earlier = self._count()

    def _beat(self) -> None:
        """By the clock: the driver's own thread may wait for the store, and it is this one that says so."""
        while not self._ended.wait(BEAT):
            self._tell_own_waits()
            self.look()

    def _tell_own_waits(self) -> None:
        current = dict(waits.current())
        with self._lock:
            for what in current.keys() - self._away:
                if self.snapshot is None or not any(line.startswith(what) for line in self.snapshot.waits):
                    self.say(current[what])
            self._away = set(current)
