"""A run as a command of its own, and what must be true of it once it is finished."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_manifest
from synood_ray.storage.stores.base import Store

ROOT = Path(__file__).parents[2]
OWN = (layout.RUN, layout.CARD, layout.ERRORS, layout.TIMINGS, "faults/")
"""What tells of one run's location and history; everything else depends on the settings and the images alone."""


@dataclass(frozen=True)
class Command:
    """One command line that starts, resumes or finds finished a run of `tests.cluster.job`."""

    images: Path
    output: str
    words: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def line(self) -> list[str]:
        line = [sys.executable, "-m", "tests.cluster.job", self.words, "--data", str(self.images)]
        line += [
            "--output",
            self.output,
            "--data.per_class",
            "1000",
            "--farm.unit_size",
            "4",
            "--sampling.per_image",
            "1",
        ]
        line += ["--scorer.placement", "actor", "--farm.status_every", "2"]
        line += ["--farm.describers.cpus", "0.5", "--farm.scorers.cpus", "0.1", "--farm.samplers.cpus", "0.5"]
        return [*line, *self.arguments]

    def start(self, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start it, its words appended to the log."""
        with log.open("ab") as file:
            found = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
            return subprocess.Popen(self.line, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=found)


def contents(store: Store) -> dict[str, str]:
    """Key -> SHA-256 of all that two runs with the same settings have in common."""
    keys = [entry.key for entry in store.list() if not entry.key.startswith(OWN)]
    return {key: hashlib.sha256(store.get(key)).hexdigest() for key in keys}


@dataclass(frozen=True)
class Findings:
    """What is wrong with a finished run; empty texts if nothing is."""

    lost: list[str]
    twice: list[str]
    different: list[str]
    other: list[str]

    def __bool__(self) -> bool:
        return bool(self.lost or self.twice or self.different or self.other)


def inspect(store: Store, calm: Mapping[str, str], samples: Mapping[str, int]) -> Findings:
    """Compare a finished run with a calm one of the same settings.

    samples: the calm run's planned, accepted, rejected, failed and quarantined.
    """
    manifest = read_manifest(store)
    if manifest is None:
        return Findings([], [], [], ["not published"])
    found = contents(store)
    keys = Counter(row.key for row in Run.open(store).samples())
    other = [
        f"{name}: {manifest[name]} instead of {samples[name]}" for name in samples if manifest[name] != samples[name]
    ]
    if manifest["planned"] != sum(manifest[name] for name in ("accepted", "rejected", "failed", "quarantined")):
        other.append("the samples do not add up to the plan")
    if len(keys) != manifest["planned"] - manifest["quarantined"]:
        other.append(f"{len(keys)} keys")
    return Findings(
        lost=sorted(calm.keys() - found.keys()),
        twice=[key for key, count in keys.items() if count > 1],
        different=[key for key in found if found[key] != calm.get(key)],
        other=other,
    )


def samples(store: Store) -> dict[str, int]:
    """Samples of a published run by outcome."""
    manifest = read_manifest(store) or {}
    return {name: manifest[name] for name in ("planned", "accepted", "rejected", "failed", "quarantined")}


def wait_for(condition: Callable[[], bool], what: str, limit: float = 60.0) -> None:
    """Return as soon as it is true; fail after the limit, seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit:.0f} s: {what}")
        time.sleep(0.1)
