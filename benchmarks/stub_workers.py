"""Workers and a store without content: what is left is the farm's own work. Light enough for 64 on one machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synood_ray.config.settings import Settings
from synood_ray.farm.reports import UnitReport
from synood_ray.records import SampleRow, SampleTask, SourceImage
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Entry, NotFound, Put, Store

READY, BUSY = "ready", "busy"
"""Folders under a stub run's output: one file a worker that is ready, and one a worker with what it did when."""

CLASSES = ["a", "b"]
POLL = 0.05


class StubSampler:
    """Takes `latency` seconds a unit, one unit at a time like a sampler's engine, and makes nothing.

    It stands ready when the whole pool does: `prepare` waits for the others, so that a measurement that begins with
    the first unit leaves out the start of the processes. With a latency, notes (begin, end) of every unit on the
    monotonic clock, which all processes of a machine share, in ``busy/``.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        output: str,
        class_names: list[str],
        scorers: Sequence[Any],
        latency: float = 0.0,
    ) -> None:
        self.latency = latency
        self.pool = Settings.model_validate(settings).farm.samplers.max
        self.output = Path(output)
        self.engine = threading.Lock()

    def ready(self) -> None:
        """Say so in a file."""
        (self.output / READY / str(os.getpid())).touch()

    def prepare(self) -> None:
        """Wait for the whole pool."""
        while sum(1 for _ in (self.output / READY).iterdir()) < self.pool:
            time.sleep(POLL)

    def idle(self) -> None:
        """A call without argument or answer."""

    def sample(
        self, unit: int, tasks: list[SampleTask], attempt: int, checker: Any | None, retry: int = 0
    ) -> UnitReport:
        """The set time, and a report as if every sample had been accepted."""
        if self.latency:
            with self.engine:
                begin = time.monotonic()
                time.sleep(self.latency)
                with (self.output / BUSY / str(os.getpid())).open("a") as notes:
                    notes.write(f"{begin} {time.monotonic()}\n")
        return UnitReport(unit, len(tasks), accepted=len(tasks))


def make_output(folder: Path) -> Path:
    """An output folder for stub workers."""
    for name in (READY, BUSY):
        (folder / name).mkdir(parents=True)
    return folder


def busy_times(folder: Path) -> list[tuple[float, float]]:
    """(begin, end) of every unit that the workers of an output have done, seconds of the monotonic clock."""
    lines = [line.split() for file in (folder / BUSY).iterdir() for line in file.read_text().splitlines()]
    return [(float(begin), float(end)) for begin, end in lines]


class ListedStore(Store):
    """The listing of a run, from numbers alone: all units have their prompts, the first `committed` their part.

    It holds `objects` besides, and takes no others.
    """

    def __init__(self, uri: str, units: int, committed: int = 0, objects: dict[str, bytes] | None = None) -> None:
        self.uri = uri
        self.units, self.committed = units, committed
        self.objects = objects or {}

    def list(self, prefix: str = "") -> Iterator[Entry]:
        if prefix == layout.PARTS:
            return (Entry(layout.part_key(unit), 1) for unit in range(self.committed))
        if prefix == layout.PROMPTS:
            return (Entry(layout.prompts_key(unit), 1) for unit in range(self.units))
        return (Entry(key, len(data)) for key, data in self.objects.items() if key.startswith(prefix))

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound(key)
        return self.objects[key]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def exists(self, key: str) -> bool:
        return key in self.objects

    def put_new(self, key: str, data: bytes) -> Put:
        raise AssertionError(f"a measurement without errors wrote {key}: {data[:500]!r}")

    def delete(self, key: str) -> None:
        raise AssertionError(f"a measurement deleted {key}")


def stub_row(task: SampleTask) -> SampleRow:
    """An accepted sample whose score is its seed's last digits: the same whoever makes it."""
    score = task.seed % 1000 / 1000
    return SampleRow(
        key=task.key,
        unit=task.unit,
        image=b"",
        source_key=task.source.key,
        source_label=task.source.label,
        source_name=task.source.name,
        mask="whole",
        prompt="A photo of nothing.",
        negative_label="stone",
        seed=task.seed,
        rerun=task.rerun,
        rounds=1,
        score_trace=[score],
        margin_trace=[score],
        margin=score,
        accepted=True,
        failed=False,
        reject_reason="",
    )


def stub_settings(workers: int, **farm: Any) -> Settings:
    """Settings of a farm of stub workers: nobody scores, describes or checks."""
    pool = {"min": workers, "max": workers, "cpus": 0.01}
    return Settings.model_validate({"farm": {"samplers": pool, **farm}, "sampling": {"mllm_check": False}})


def stub_sources(count: int = 100) -> list[SourceImage]:
    """Sources that nobody opens."""
    return [SourceImage(f"{i}.png", i % 2, CLASSES[i % 2], "nowhere", 1, 8, 8) for i in range(count)]
