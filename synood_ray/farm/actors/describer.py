"""DescriberActor: holds the multimodal LLM; writes context prompts, and answers the semantic check."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage
from synood_ray.farm.actors.named import Named, logged, made_once, told
from synood_ray.farm.reports import BOXES, UnitReport
from synood_ray.logs import heard
from synood_ray.models.describers import chosen, open_describer
from synood_ray.models.images import from_png
from synood_ray.records import SampleTask
from synood_ray.sampling.loader import SourceLoader
from synood_ray.sampling.prompts.base import fill_prompt
from synood_ray.sampling.proposals import Proposer, names_wanted
from synood_ray.storage import layout
from synood_ray.storage.parts import PromptRow, encode_prompts
from synood_ray.storage.record import require_record
from synood_ray.storage.stores.base import Put, Store

if TYPE_CHECKING:
    from PIL.Image import Image

    from synood_ray.models.describers.base import Describer


def keys(settings: Settings) -> tuple[str, ...]:
    """What describers on other machines lack: the key of the model server, if there is one. UserError if malformed."""
    if chosen(settings.describer) != "endpoint":
        return ()
    from synood_ray.models.describers.endpoint import api_key

    return (api_key(),)


class DescriberActor(Named):
    """Describe units of samples. One engine a process: when it dies, the process goes, and Ray starts another.

    key: see `keys`.
    """

    def __init__(self, settings: dict[str, Any], output: str, key: str = "") -> None:
        if key:
            from synood_ray.models.describers.endpoint import KEY

            os.environ[KEY] = key
        self.settings = Settings.model_validate(settings)
        self.start_log(self.settings.log, output)
        self.output = output
        self.loader = SourceLoader(self.settings)
        self.lock = threading.Lock()  # units and semantic checks come in threads; the engine takes one call at a time

    @logged
    def ready(self) -> list[str]:
        """Load the engine; returns what libraries warn about."""
        with heard() as lines:
            self.find_run(self.store)
            self.describer  # noqa: B018 - made on first use
        return lines

    @made_once
    def store(self) -> Store:
        return self.open_run(self.output)

    @made_once
    def describer(self) -> Describer:
        described_before = next(iter(self.store.list(layout.PROMPTS)), None) is not None
        return open_describer(self.settings.describer, patient=described_before)

    @made_once
    def proposer(self) -> Proposer:
        return Proposer(self.settings, require_record(self.store).classes if names_wanted(self.settings) else [])

    @logged
    def describe(self, unit: int, tasks: list[SampleTask], retry: int = 0) -> UnitReport:
        """Write ``prompts/part-….parquet`` for one unit; nothing is done for one that has it.

        retry: with 1 or more, tasks are those of the unit whose prompts failed before; they become that retry's file.
        """
        key = layout.prompts_key(unit, retry)
        if self.store.exists(key):
            return told(UnitReport(unit, len(tasks), found=True))
        begin = time.perf_counter()
        images, failed = self._load(tasks)
        described = self._ask([task for task in tasks if task.key in images], images)
        rows = [failed.get(task.key) or described[task.key] for task in tasks]
        data = encode_prompts(rows)
        put = self.store.put_new(key, data)
        seconds = {"describe": time.perf_counter() - begin}
        boxes = [row.box for row in rows if row.box is not None]
        proposals = {BOXES: (boxes.count([]), len(boxes))} if boxes else {}
        found = put is Put.DIFFERENT
        report = UnitReport(unit, len(rows), seconds=seconds, found=found, stored=len(data), proposals=proposals)
        return told(report)

    def _load(self, tasks: list[SampleTask]) -> tuple[dict[str, Image], dict[str, PromptRow]]:
        """The images by sample, and failed rows for those that cannot be read."""
        images: dict[str, Image] = {}
        failed: dict[str, PromptRow] = {}
        for task in tasks:
            try:
                images[task.key] = self.loader.image(task.source)
            except (UnusableImage, OSError) as error:
                failed[task.key] = PromptRow(task.key, task.unit, task.source.key, "", "", "", str(error))
        return images, failed

    def _ask(self, tasks: list[SampleTask], images: dict[str, Image]) -> dict[str, PromptRow]:
        """What the describer says of the images, a row each."""
        from synood_ray.models.describers.base import EngineDeadError

        names, keys = [task.source.name for task in tasks], [task.source.key for task in tasks]
        pictures, sources = [images[task.key] for task in tasks], [task.source for task in tasks]
        proposer = self.proposer
        try:
            with self.lock:
                contexts = self.describer.describe(pictures, names, keys)
                answers = proposer.ask(self.describer, pictures, sources)
        except EngineDeadError:
            os._exit(1)  # a dead engine stays dead: Ray restarts the process (exit_actor() would not be retried)
        besides = [proposer.read(answer, picture) for answer, picture in zip(answers, pictures, strict=True)]
        return {
            task.key: PromptRow(
                key=task.key,
                unit=task.unit,
                source_key=task.source.key,
                context=context.text,
                raw=context.raw,
                prompt="" if context.error else fill_prompt(self.settings.describer, context.text),
                error=context.error and f"describer: {context.error}",
                neighbours=beside.names,
                box=beside.box,
            )
            for task, context, beside in zip(tasks, contexts, besides, strict=True)
        }

    def shows(self, images: list[bytes], subjects: list[str]) -> list[bool | None]:
        """The semantic check on PNG images: does it still show its subject? None = the describer cannot tell."""
        from synood_ray.models.describers.base import EngineDeadError

        pictures = [from_png(data) for data in images]
        try:
            with self.lock:
                return self.describer.shows(pictures, subjects)
        except EngineDeadError:
            os._exit(1)
