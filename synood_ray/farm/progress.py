"""What a person sees while the farm works: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synood_ray.farm.driver import Driver


class Progress:
    """Shows a driver's progress with the time left, at the pace of the units sampled in this call."""

    def __init__(self, driver: Driver, every: float, say: Callable[[str], None]) -> None:
        self.driver, self.every, self.say = driver, every, say
        self.begin = self.last = time.monotonic()
        self.first_unit: float | None = None  # when the first unit was done: start-up is not pace
        self.bar: Any = None
        counts = driver.sampling.queue.counts()
        self.total, self.before = len(driver.plan), counts.committed

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.bar.start()
            self.task = self.bar.add_task(self.line(), total=self.total, completed=self.before)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.update(self.task, description=self.line(), completed=self.driver.sampling.queue.counts().committed)
            self.bar.stop()
        elif error[0] is None:
            self.say(self.line())

    def update(self, driver: Driver) -> None:
        """Called by the driver after every change."""
        now = time.monotonic()
        if self.first_unit is None and driver.totals.units:
            self.first_unit = now
        if self.bar is not None:
            self.bar.update(self.task, description=self.line(), completed=driver.sampling.queue.counts().committed)
        elif now - self.last >= self.every:
            self.last = now
            self.say(self.line())

    def line(self) -> str:
        """One line: units, samples, actors, time left."""
        driver, totals = self.driver, self.driver.totals
        counts, described = driver.sampling.queue.counts(), driver.describing.queue.counts()
        ready = {stage.pool.role: sum(w.ready for w in stage.pool.workers.values()) for stage in driver.stages}
        if not totals.units and not any(ready.values()):
            return "starting: models are loading"
        text = f"{counts.committed}/{self.total} units sampled, {described.committed} described"
        text += f" · {totals.accepted} accepted, {totals.rejected} rejected, {totals.failed} failed"
        text += f" · {ready['sampler']} samplers, {ready['describer']} describers"
        if counts.quarantined:
            text += f" · {counts.quarantined} quarantined"
        return text + self._time_left(totals.units, counts.committed + counts.quarantined)

    def _time_left(self, done: int, settled: int) -> str:
        left = self.total - settled
        if not left or self.first_unit is None or done < 2:
            return ""
        seconds = left * (time.monotonic() - self.first_unit) / (done - 1)
        minutes, seconds = divmod(round(seconds), 60)
        return f" · about {minutes}:{seconds:02d} left"
