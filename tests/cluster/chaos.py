"""Runs one after another while everything around them is killed: ``python -m tests.cluster.chaos --minutes N --seed S``

A seeded schedule kills samplers, the describer, the scorer, nodes, the driver (the same command is started again at
once) and the S3 server, behind a proxy that answers with errors, loses answers, resets connections and sends slowly.
Every run must end as if nothing had happened. Exit code 1 if one does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import psutil

from synood_ray.storage import layout
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import TEMPORARY, Store
from synood_ray.storage.stores.s3 import S3Store
from tests.cluster.nodes import Nodes
from tests.cluster.runs import Command, contents, inspect, samples, wait_for
from tests.farm.local_ray import make_images
from tests.faultproxy import Fault, FaultProxy
from tests.storage.seaweed import AWS_ENVIRONMENT, Seaweed

BUCKET = "chaos"
IMAGES = 200  # a class, of two classes; a fifth is held out
WORDS = "work-300 bad-3 bad-100 error-7"  # two samples fail, and one unit always, in the calm run as well
ARGUMENTS = ("--farm.samplers.max", "3", "--farm.max_quarantined", "1", "--farm.unit_deadline", "120")
KILLS = {"sampler": 6, "describer": 3, "scorer": 2, "node": 1, "driver": 1, "store": 1}
"""Kind of victim -> how often, in parts."""
PAUSE = (0.5, 4.5)  # seconds between two kills, and until another look if nothing can be killed yet
HEADWAY = 2  # objects that a run writes between two kills, unless it takes longer than PATIENCE
PATIENCE = 15.0  # seconds; a slow machine must not spend all its time on starting what was killed
FAULTY = 0.25  # share of requests to the store that meet a fault
ANY_REQUEST = (Fault.ERROR_500, Fault.SLOW_DOWN, Fault.RESET)
FAULTS = {
    "PUT": (*ANY_REQUEST, Fault.CONFLICT, Fault.DROP_ANSWER),
    "GET": (*ANY_REQUEST, Fault.CUT_BODY, Fault.SLOW_BODY),
}
HANGS = 400.0  # seconds without anything new in its store, after which a run counts as hung
GAVE_UP = 3  # exit code of a run with more quarantined units than it may have
LOCAL = 4  # every so many runs one goes to a local folder


class Chaos:
    """Everything that the runs need, everything that can be killed, and what came of it."""

    def __init__(self, folder: Path, seed: int, nodes: Nodes, seaweed: Seaweed) -> None:
        self.folder, self.nodes, self.seaweed = folder, nodes, seaweed
        self.random = random.Random(seed)
        self.began = time.monotonic()
        self.kills: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()  # why drivers ended that nobody had killed
        self.wrong: Counter[str] = Counter()
        self.runs = 0
        self.images = make_images(folder / "images", IMAGES)
        self.s3: Any = boto3.client("s3", endpoint_url=seaweed.endpoint)  # without faults
        self.driver: subprocess.Popen[bytes] | None = None
        self.last_kill = self.began, 0  # when, and how many objects the run had by then

    def stop(self) -> None:
        """Leave no driver behind, also when this is interrupted."""
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def calm_run(self) -> None:
        """What all other runs are compared with."""
        store = open_store(str(self.folder / "calm"))
        command, log = Command(self.images, store.uri, WORDS, ARGUMENTS), self.folder / "calm.log"
        if command.start(log, {"RAY_ADDRESS": self.nodes.address}).wait() != 0:
            raise RuntimeError(log.read_text())
        self.calm, self.samples = contents(store), samples(store)
        self.say(f"calm run: {self.samples}")

    def run(self, until: float, environment: Mapping[str, str]) -> None:
        """One run, with kills until that time (time.monotonic); then the same command once more, and the inspection."""
        local = self.runs % LOCAL == LOCAL - 1
        name = f"run-{self.runs:03d}"
        output = str(self.folder / name) if local else f"s3://{BUCKET}/{name}"
        command, log = Command(self.images, output, WORDS, ARGUMENTS), self.folder / f"{name}.log"
        store = open_store(output) if local else S3Store(BUCKET, name, client=self.s3)
        began, kills = time.monotonic(), sum(self.kills.values())
        self.last_kill = began, 0
        if self._finished(command, store, log, until, environment):
            wait_for(lambda: not self.nodes.actors(), f"no actor is left of {name}", limit=120)
            again = command.start(log, environment).wait()
            if again != 0 or "is finished already" not in _tail(log, 5):
                self._complain(name, "other", f"the same command again: exit code {again}, {_tail(log)}")
        self._inspect(name, store)
        self.runs += 1
        self.say(f"{name} {output}: {time.monotonic() - began:.0f} s, {sum(self.kills.values()) - kills} kills")

    def _finished(
        self, command: Command, store: Store, log: Path, until: float, environment: Mapping[str, str]
    ) -> bool:
        seen, deadline = -1, 0.0
        self.driver = command.start(log, environment)
        while True:
            written = sum(1 for _ in store.list())
            if written != seen:
                seen, deadline = written, time.monotonic() + HANGS
            if time.monotonic() > deadline:
                self._complain(log.stem, "lost", f"it hangs: {_tail(log)}")
                self.stop()
                return False
            try:
                code = self.driver.wait(timeout=self.random.uniform(*PAUSE))
            except subprocess.TimeoutExpired:
                if time.monotonic() < until:
                    self._kill_something(written)
                continue
            if code == 0:
                return True
            if code > 0:
                self.ends[f"exit code {code}: {_tail(log)}"] += 1
            if code == GAVE_UP:  # the same command again would find the same
                return False
            self.driver = command.start(log, environment)

    def _kill_something(self, written: int) -> None:
        """Kill something, if anything is alive and has got somewhere since the last time."""
        moved = written >= self.last_kill[1] + HEADWAY or time.monotonic() > self.last_kill[0] + PATIENCE
        if not moved or not self.nodes.actors():
            return
        kind = self.random.choices(list(KILLS), list(KILLS.values()))[0]
        if self._kill(kind):
            self.kills[kind] += 1
            self.last_kill = time.monotonic(), written
            self.say(f"killed: {kind}")

    def _kill(self, kind: str) -> bool:
        if kind == "driver":
            assert self.driver is not None
            self.driver.kill()
        elif kind == "store":
            self.seaweed.kill()
            self.seaweed.start()
        elif kind == "node":
            self.nodes.kill(self.random.choice(self.nodes.workers))
            self.nodes.add()
        else:
            victims = self.nodes.actors(kind.capitalize())
            if not victims:
                return False
            with contextlib.suppress(psutil.NoSuchProcess):
                self.random.choice(victims).kill()
        return True

    def _inspect(self, name: str, store: Store) -> None:
        found = inspect(store, self.calm, self.samples)
        for kind in ("lost", "twice", "different", "other"):
            for what in getattr(found, kind):
                self._complain(name, kind, what)
        spool = Path(store.uri) / TEMPORARY
        if spool.is_dir():
            for left in spool.iterdir():
                self._complain(name, "leaked", str(left))
        for upload in self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            self._complain(name, "leaked", f"multipart upload {upload['Key']}")

        if found:
            for entry in store.list(layout.ERRORS):  # why units were given up
                self.say(f"{name}: {entry.key}: {_last_line(store.get(entry.key))}")

    def _complain(self, name: str, kind: str, what: str) -> None:
        self.wrong[kind] += 1
        self.say(f"WRONG: {name}: {kind}: {what}")


def _tail(log: Path, lines: int = 1) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-lines:])


def _last_line(record: bytes) -> str:
    return str(json.loads(record)["error"]).strip().splitlines()[-1]


def chooser(seed: int) -> Any:
    """The proxy's choice of a fault for a request."""
    source = random.Random(seed)

    def choose(method: str, path: str) -> Fault | None:
        return source.choice(FAULTS.get(method, ANY_REQUEST)) if source.random() < FAULTY else None

    return choose


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long something is killed every few seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the schedule and of the store's faults")
    parser.add_argument("--keep", type=Path, help="an empty folder for the runs and their logs, kept afterwards")
    arguments = parser.parse_args()
    os.environ.update({**AWS_ENVIRONMENT, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull})
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        temporary = folder / "tmp"
        temporary.mkdir(parents=True)
        seaweed = Seaweed(folder / "weed")
        seaweed.start()
        stack.callback(seaweed.kill)
        proxy = stack.enter_context(FaultProxy(seaweed.endpoint, chooser(arguments.seed)))
        environment = {"AWS_ENDPOINT_URL": proxy.url, "TMPDIR": str(temporary)}
        nodes = stack.enter_context(Nodes(2, environment={**environment, "RAY_TMPDIR": tempfile.gettempdir()}))
        environment["RAY_ADDRESS"] = nodes.address
        chaos = Chaos(folder, arguments.seed, nodes, seaweed)
        stack.callback(chaos.stop)
        chaos.s3.create_bucket(Bucket=BUCKET)
        chaos.calm_run()
        until = time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < until:
            chaos.run(until, environment)
        for left in temporary.iterdir():
            chaos._complain("all runs", "leaked", str(left))
    faults = {fault.name: count for fault, count in sorted(proxy.done.items(), key=lambda item: item[0].name)}
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes: {chaos.runs} runs")
    print(f"kills: {sum(chaos.kills.values())} {dict(sorted(chaos.kills.items()))}")
    print(f"store faults: {sum(faults.values())} of {sum(proxy.seen.values())} requests {faults}")
    for reason, count in chaos.ends.items():
        print(f"driver ended by itself {count} times: {reason}")
    print(", ".join(f"{chaos.wrong[kind]} {kind}" for kind in ("lost", "twice", "different", "leaked", "other")))
    return 1 if chaos.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
