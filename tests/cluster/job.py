"""`synood synthesize` with the actors of `tests.cluster.actors`: ``python -m tests.cluster.job "WORDS" arguments…``

WORDS go to the actors as the preset: faults, "work-MS", a crash point. The last two concern this process too.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import replace

from synood_ray import pipeline
from synood_ray.cli import synthesize as command
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import main_guard
from synood_ray.farm import driver
from synood_ray.storage.publish import publish
from tests.cluster.actors import Describer, Sampler, Scorer
from tests.cluster.crashing import CrashPoint

ROWS_PER_SHARD = 8


def main(words: list[str], arguments: list[str]) -> int:
    crash = CrashPoint.find(words)
    if crash:
        crash = replace(crash, driver=os.getpid())
        crash.arm()
        words = [*(word for word in words if not word.startswith("crash|")), str(crash)]

    setattr(driver, "ScorerActor", Scorer)  # noqa: B010
    setattr(driver, "Driver", functools.partial(driver.Driver, describer=Describer, sampler=Sampler))  # noqa: B010
    setattr(pipeline, "publish", functools.partial(publish, rows_per_shard=ROWS_PER_SHARD))  # noqa: B010

    def run(argv: list[str]) -> int:
        parsed = parse(command.COMMAND, argv)
        parsed.settings.preset = " ".join(words)
        return command.run(parsed)

    return main_guard(run, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].split(), sys.argv[2:]))
