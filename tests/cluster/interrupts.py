"""Ctrl-C and SIGTERM at many moments of a run: ``python -m tests.cluster.interrupts --moments 20``.

Each time the command must leave no process, end with 130 and say that it is interrupted; or with 0 if its work was
done. The same command then comes to the very bytes of a run that nobody interrupted. Workers are those of
`tests.cluster.job`; each run starts Ray.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from synood_ray.storage.stores import open_store
from tests.cluster.nodes import TAG, living
from tests.cluster.runs import Command, contents, inspect, samples, wait_for
from tests.farm.local_ray import make_images

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DONE = "computed now"
"""In the last line that a run prints."""
ORPHANS = 120.0
"""Seconds in which the processes that a command has started must be gone with it."""


def interrupt(command: Command, log: Path, number: signal.Signals, due: Callable[[], bool]) -> int | None:
    """Start the command, send it a signal once it is due, return its exit code when nothing of it is left; None if it
    had ended before. Fails if a process stays.
    """
    tag = uuid.uuid4().hex
    process = command.start(log, {TAG: tag})
    while process.poll() is None and not due():
        time.sleep(0.02)
    early = process.poll() is not None
    process.send_signal(number)
    code = process.wait(timeout=300)
    wait_for(lambda: not living(tag), "no process is left", limit=ORPHANS)
    return None if early else code


def _due(log: Path, until: float) -> bool:
    """Not while Python still imports what a test command needs, before signals are watched for and anything is said."""
    return time.monotonic() >= until and log.stat().st_size > 0


def main() -> int:
    """The command; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="from the start of a run to its end, equally spread")
    moments = parser.parse_args().moments
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored: so would ours
    wrong, late = list[str](), 0
    with tempfile.TemporaryDirectory(prefix="interrupts-") as name:
        folder = Path(name)
        calm = Command(make_images(folder / "images", 25), str(folder / "calm"), "work-100")
        begin = time.monotonic()
        process = calm.start(folder / "calm.log", {})
        wait_for(lambda: DONE in (folder / "calm.log").read_text(), "a calm run is done", limit=300)
        length = time.monotonic() - begin
        print(f"a run takes {length:.1f} s", flush=True)
        assert process.wait() == 0, (folder / "calm.log").read_text()
        expected = open_store(calm.output)
        for moment, number in zip(range(moments), itertools.cycle(SIGNALS), strict=False):
            at = length * (moment + 0.5) / moments
            command = Command(calm.images, str(folder / f"run-{moment}"), calm.words)
            log = folder / f"{moment}.log"
            code = interrupt(command, log, number, partial(_due, log, time.monotonic() + at))
            told = log.read_text(errors="replace")
            said = "interrupted; nothing that was committed is lost, the same command resumes" in told
            resumed = command.start(log, {}).wait()
            whole = resumed == 0 and not inspect(open_store(command.output), contents(expected), samples(expected))
            done = code in (None, 0) and DONE in told
            late += done
            right = (done or (code == 130 and said)) and "Traceback" not in told and whole
            ended = f"exit code {code}{', said' * said}{', its work was done' * done}{', whole' * whole}"
            print(f"{number.name} after {at:.1f} s: {ended}", flush=True)
            if not right:
                wrong.append(f"{number.name} after {at:.1f} s:\n{log.read_text(errors='replace')[-3000:]}")
    print(f"{moments} moments, {late} of them after all was done, {len(wrong)} wrong")
    print("\n".join(wrong), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
