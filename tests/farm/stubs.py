"""Workers without models: they write true prompts and parts, and fail where a test asks them to."""

from __future__ import annotations

import os
from typing import Any

from synood_ray.config import Settings
from synood_ray.farm.reports import UnitReport
from synood_ray.records import SampleRow, SampleTask
from synood_ray.storage import layout
from synood_ray.storage.parts import PromptRow, encode_prompts, encode_samples
from synood_ray.storage.store import open_store


def row(task: SampleTask) -> SampleRow:
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
        rounds=1,
        score_trace=[score],
        margin_trace=[score],
        margin=score,
        accepted=True,
        failed=False,
        reject_reason="",
    )


class StubDescriber:
    def __init__(self, settings: dict[str, Any], output: str) -> None:
        self.store = open_store(output)

    def ready(self) -> None: ...

    def describe(self, unit: int, tasks: list[SampleTask]) -> UnitReport:
        rows = [
            PromptRow(task.key, unit, task.source.key, "nothing", "nothing", "A photo of nothing.") for task in tasks
        ]
        self.store.put_new(layout.prompts_key(unit), encode_prompts(rows))
        return UnitReport(unit, len(rows), seconds={"describe": 0.0})

    def shows(self, images: list[bytes], subjects: list[str]) -> list[bool | None]:
        return [False] * len(images)


class StubSampler:
    """Fails as the preset says: "error-U" raises at unit U always, "once-U" the first time, "die-U" dies once."""

    def __init__(self, settings: dict[str, Any], output: str, class_names: list[str], scorers: list[Any]) -> None:
        self.settings = Settings.model_validate(settings)
        self.store, self.class_names = open_store(output), class_names

    def ready(self) -> None: ...

    def prepare(self) -> None: ...

    def sample(self, unit: int, tasks: list[SampleTask], attempt: int, checker: Any | None) -> UnitReport:
        self._fail(unit)
        self.store.put_new(layout.part_key(unit), encode_samples([row(task) for task in tasks], self.class_names))
        return UnitReport(unit, len(tasks), accepted=len(tasks), seconds={"refine": 0.0})

    def _fail(self, unit: int) -> None:
        for fault in self.settings.preset.split():
            kind, _, number = fault.partition("-")
            if int(number) != unit:
                continue
            first = self.store.put_new(f"faults/{fault}", os.urandom(8)).name == "CREATED"
            if kind == "error" or (kind == "once" and first):
                raise ValueError(f"unit {unit} does not work")
            if kind == "die" and first:
                os._exit(1)
