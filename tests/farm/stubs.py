"""Workers without models: they write true prompts and parts, and fail where a test asks them to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.stub_workers import stub_row
from synood_ray.farm.actors import Actors
from synood_ray.farm.actors.named import told
from synood_ray.farm.reports import UnitReport, reasons
from synood_ray.records import SampleTask
from synood_ray.storage import layout
from synood_ray.storage.parts import PromptRow, encode_prompts, encode_samples, read_prompts, read_replaced
from synood_ray.storage.stores import open_store


def stub_actors(
    faults: str = "",
    describing: Callable[[int], None] = lambda unit: None,
    sampling: Callable[[int, int], None] = lambda unit, attempt: None,
) -> Actors:
    """Actors with faults (see `Faults`). describing, sampling: called as a unit begins; what they raise fails it."""
    return Actors(
        describer=partial(StubDescriber, faults=faults, before=describing),
        sampler=partial(StubSampler, faults=faults, before=sampling),
    )


class Faults:
    """Fails where it is told to: "error-U" at unit U always, "once-U" the first time, "die-U" dies once.

    "hang-U": does not come to an end the first time. "undescribed-U": the prompts of unit U cannot be made.
    "bad-K": sample K fails, unless it is retried; "bad-K-always": also then.
    "mute-K-N": sample K gets no prompt before its retry N. "vain": no sample is accepted.
    """

    def __init__(self, output: str, faults: str) -> None:
        self.faults = faults.split()
        self.store = open_store(output, patient=True)

    def fail(self, unit: int) -> None:
        for fault in self.faults:
            kind, _, number = fault.partition("-")
            if kind not in ("error", "once", "die", "hang") or int(number) != unit:
                continue
            first = self.store.put_new(f"faults/{fault}", os.urandom(8)).name == "CREATED"
            if kind == "error" or (kind == "once" and first):
                raise ValueError(f"unit {unit} does not work")
            if kind == "die" and first:
                os._exit(1)
            if kind == "hang" and first:
                time.sleep(3600)


class StubDescriber(Faults):
    def __init__(
        self,
        settings: dict[str, Any],
        output: str,
        key: str = "",
        *,
        faults: str = "",
        before: Callable[[int], None] = lambda unit: None,
    ) -> None:
        super().__init__(output, faults)
        self.before = before

    def ready(self) -> None: ...

    def describe(self, unit: int, tasks: list[SampleTask], retry: int = 0) -> UnitReport:
        self.before(unit)
        if f"undescribed-{unit}" in self.faults:
            raise ValueError(f"unit {unit} cannot be described")
        key = layout.prompts_key(unit, retry)
        if self.store.exists(key):
            return UnitReport(unit, len(tasks), found=True)
        rows = [
            PromptRow(task.key, unit, task.source.key, "", "None.", "", "nothing is named")
            if any(f"mute-{int(task.key)}-{later}" in self.faults for later in range(retry + 1, 9))
            else PromptRow(task.key, unit, task.source.key, "nothing", "nothing", "A photo of nothing.")
            for task in tasks
        ]
        self.store.put_new(key, encode_prompts(rows))
        return told(UnitReport(unit, len(rows), seconds={"describe": 0.0}))

    def shows(self, images: list[bytes], subjects: list[str]) -> list[bool | None]:
        return [False] * len(images)


class StubSampler(Faults):
    def __init__(
        self,
        settings: dict[str, Any],
        output: str,
        class_names: list[str],
        scorers: list[Any],
        *,
        faults: str = "",
        before: Callable[[int, int], None] = lambda unit, attempt: None,
    ) -> None:
        super().__init__(output, faults)
        self.class_names, self.before = class_names, before

    def ready(self) -> None: ...

    def prepare(self) -> None: ...

    def sample(
        self, unit: int, tasks: list[SampleTask], attempt: int, checker: Any | None, retry: int = 0
    ) -> UnitReport:
        begin = time.perf_counter()
        self.before(unit, attempt)
        self.fail(unit)
        key = layout.part_key(unit, retry)
        if self.store.exists(key):
            return UnitReport(unit, len(tasks), found=True)
        prompts = read_prompts(self.store, unit, retry)
        rows = [stub_row(task) for task in tasks]
        for found in rows:
            if prompts[found.key].error:
                found.accepted, found.failed, found.reject_reason = False, True, f"error: {prompts[found.key].error}"
            bad = f"bad-{int(found.key)}"
            if (bad in self.faults and not retry) or f"{bad}-always" in self.faults:
                found.accepted, found.failed, found.reject_reason = False, True, "error: bad luck"
            if "vain" in self.faults and not found.failed:
                found.accepted, found.reject_reason = False, "clip" if int(found.key) % 3 else "rounds"
        replaced = read_replaced(self.store, unit, retry, [task.key for task in tasks]) if retry else None
        data = encode_samples(rows, self.class_names, replaced=replaced)
        self.store.put_new(key, data)
        shown = [found for found in rows if not found.failed]
        more: dict[str, Any] = {
            "reasons": reasons(rows),
            "rounds": tuple(found.rounds for found in shown),
            "margins": tuple(found.margin for found in shown),
            "denoiser_calls": len(rows),
            "stored": len(data),
        }
        accepted, failed = sum(found.accepted for found in rows), sum(found.failed for found in rows)
        rejected = len(rows) - accepted - failed
        seconds = {"refine": time.perf_counter() - begin}
        report = UnitReport(unit, len(rows), accepted, rejected, failed, seconds=seconds, **more)
        return told(replace(report, checked=accepted + rejected))
