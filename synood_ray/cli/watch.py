"""``synood status --watch``: a run drawn again and again, from its store alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from synood_ray.errors import Unavailable, counted, first_line
from synood_ray.farm.progress import duration

if TYPE_CHECKING:
    from synood_ray.storage.watch import Picture, Watch

EVERY = 5.0
"""Seconds between two looks; a look that takes long is made less often, at most a tenth of the time."""
_CAUSES = 5
_WIDTH = 24


def watch(watched: Watch, *, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show the run until it is published: drawn anew in a terminal, elsewhere a line when something has changed."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    live = Live(console=console, auto_refresh=False) if sys.stdout.isatty() else None
    before = ""
    if live:
        live.start()
    try:
        while True:
            begin = now()
            try:
                picture = watched.look(begin)
                lines, over = page(picture, watched.store.uri), picture.state == "published"
            except Unavailable as error:
                lines, over = [f"the store does not answer: {first_line(error)}"], False
            if live:
                live.update(Text("\n".join(lines), overflow="ellipsis", no_wrap=True), refresh=True)
            elif (line := " · ".join(lines)) != before:
                before = line
                print(line, flush=True)
            if over:
                return
            sleep(max(EVERY, 10 * (now() - begin)))
    finally:
        if live:
            live.stop()


def page(picture: Picture, uri: str) -> list[str]:
    """The picture in lines of less than 80 characters, where names and errors are short."""
    lines = [f"{uri}: {picture.state}"]
    bars = [("described", picture.described, picture.planned), ("sampled", picture.sampled, picture.planned)]
    if picture.again:
        bars.append(("run again", picture.again.made, picture.again.planned))
    for what, done, planned in bars:
        full = round(_WIDTH * done / max(planned, 1))
        lines.append(f"{what:9} {'━' * full}{'╌' * (_WIDTH - full)} {done:,}/{planned:,}")
    pace = f", {picture.rate:.3g}/s in the last minutes" if picture.rate else ""
    left = f", about {duration(picture.left)} left" if picture.left else ""
    lines[-1] += pace + left
    read, parts = picture.read
    known = "" if read == parts else f" (of {read:,} parts of {parts:,}, so far)"
    lines.append(f"{picture.accepted:,} accepted, {picture.rejected:,} rejected, {picture.failed:,} failed{known}")
    if picture.latest is not None and picture.state != "published":
        lines.append(f"latest object: {duration(max(picture.latest, 0.0))} ago")
    if picture.quarantined:
        units = counted(picture.quarantined, "unit")
        lines.append(f"{units} given up; synood synthesize --retry-failed runs them again")
    return lines + [f"failed attempts: {cause}" for cause in picture.causes[:_CAUSES]]
