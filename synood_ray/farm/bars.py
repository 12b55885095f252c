"""The live bars of a terminal: one a stage with count, rate and time left, and a line of details below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from synood_ray.farm.progress import Pace


class Bars:
    """stages: their words, in order. console: where to draw; None: standard error."""

    def __init__(self, stages: Sequence[str], console: Console | None = None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[pace]}"))
        self._progress = Progress(*columns, console=console or Console(stderr=True), expand=True)
        self._tasks = {stage: self._progress.add_task(f"{stage:9}", total=None, pace="") for stage in stages}
        self._details: list[Text] = [Text("starting", overflow="ellipsis", no_wrap=True)]
        self._live = Live(self._drawn(), console=self._progress.console, refresh_per_second=4)
        self._live.start()

    def show(self, paces: Mapping[str, Pace], details: Sequence[str]) -> None:
        """Draw anew. details: parts of a line, which is broken between them where the terminal is narrow."""
        for stage, pace in paces.items():
            self._progress.update(self._tasks[stage], completed=pace.done, total=pace.total, pace=str(pace))
        if details:
            self._details = [Text(line, overflow="ellipsis", no_wrap=True) for line in self._lines(details)]
        self._live.update(self._drawn())

    def stop(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def _lines(self, details: Sequence[str]) -> list[str]:
        lines = [details[0]]
        for part in details[1:]:
            together = f"{lines[-1]} · {part}"
            if len(together) <= self._progress.console.width:
                lines[-1] = together
            else:
                lines.append(part)
        return lines

    def _drawn(self) -> Group:
        return Group(self._progress, *self._details)
