"""`synood synthesize` with the actors of `tests.cluster.actors`: ``python -m tests.cluster.job "WORDS" arguments…``

WORDS go to the actors: faults, "work-MS", a crash point. The last one concerns this process too.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from synood_ray.cli import synthesize as command
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import leave, main_guard
from tests.cluster.actors import stand_ins
from tests.cluster.crashing import CrashPoint

ROWS_PER_SHARD = 8


def main(words: list[str], arguments: list[str]) -> int:
    crash = CrashPoint.find(words)
    if crash:
        crash = replace(crash, driver=os.getpid())
        crash.arm()
        words = [*(word for word in words if not word.startswith("crash|")), str(crash)]

    def run(argv: list[str]) -> int:
        return command.run(parse(command.COMMAND, argv), actors=stand_ins(words), rows_per_shard=ROWS_PER_SHARD)

    return main_guard(run, arguments)


if __name__ == "__main__":
    leave(main(sys.argv[1].split(), sys.argv[2:]))
