"""What a person sees while the farm works: what is worth a line, and how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from synood_ray.farm.observers import Event, Snapshot, Tick, UnitDone


class Progress:
    """An observer that says what happens, and shows how far the run is with the time left, at this call's pace.

    A live bar in a terminal, a line every so many seconds elsewhere; a context manager that ends the bar.
    """

    def __init__(self, every: float, say: Callable[[str], None]) -> None:
        self.every, self.say = every, say
        self.last = time.monotonic()
        self.first_unit: float | None = None  # when the first unit was done: start-up is not pace
        self.snapshot: Snapshot | None = None
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.bar.start()
            self.task = self.bar.add_task("starting", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()
        elif error[0] is None and self.snapshot is not None:
            self.say(self.line(self.snapshot))

    def __call__(self, event: Event) -> None:
        now, line = time.monotonic(), str(event)
        if line:
            self.say(line)
        if isinstance(event, UnitDone) and event.stage == "sample" and self.first_unit is None:
            self.first_unit = now
        if not isinstance(event, Tick):
            return
        self.snapshot = event.snapshot
        if self.bar is not None:
            units = event.snapshot.units["sample"]
            self.bar.update(
                self.task, description=self.line(event.snapshot), completed=units.committed, total=units.total
            )
        elif now - self.last >= self.every:
            self.last = now
            self.say(self.line(event.snapshot))

    def line(self, snapshot: Snapshot) -> str:
        """One line: units, samples, actors, time left."""
        sample, describe, samples = snapshot.units["sample"], snapshot.units["describe"], snapshot.samples
        samplers, describers = snapshot.actors["sampler"].ready, snapshot.actors["describer"].ready
        if not samples.units and not samplers and not describers:
            return "starting: models are loading"
        text = f"{sample.committed}/{sample.total} units sampled, {describe.committed} described"
        text += f" · {samples.accepted} accepted, {samples.rejected} rejected, {samples.failed} failed"
        text += f" · {samplers} samplers, {describers} describers"
        if sample.quarantined:
            text += f" · {sample.quarantined} quarantined"
        return text + self._time_left(samples.units, sample.total - sample.committed - sample.quarantined)

    def _time_left(self, done: int, left: int) -> str:
        if not left or self.first_unit is None or done < 2:
            return ""
        seconds = left * (time.monotonic() - self.first_unit) / (done - 1)
        minutes, seconds = divmod(round(seconds), 60)
        return f" · about {minutes}:{seconds:02d} left"
