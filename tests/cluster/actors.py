"""The farm's three roles without models: real actors, real storage, the same calls among them; bytes never vary."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

from PIL import Image

from benchmarks.stub_workers import stub_row
from synood_ray.farm.actors import Actors
from synood_ray.farm.actors.describer import DescriberActor
from synood_ray.farm.reports import UnitReport
from synood_ray.models.describers.base import Context, EngineDeadError
from synood_ray.records import SampleTask
from synood_ray.storage import layout
from synood_ray.storage.parts import encode_samples, read_prompts, read_replaced
from tests.cluster.crashing import CrashPoint, EngineKilled
from tests.farm.stubs import Faults


def stand_ins(words: Sequence[str]) -> Actors:
    """Actors that do as the words ask: faults (`tests.farm.stubs.Faults`), "work-MS", "tell-nodes", a crash point."""
    told = {"words": tuple(words)}
    return Actors(partial(Describer, **told), partial(Sampler, **told), partial(Scorer, **told))


class Behaviour:
    """What the words ask of an actor: "work-MS" milliseconds a unit, and a crash point."""

    def __init__(self, words: Sequence[str]) -> None:
        self.seconds = sum(int(word.removeprefix("work-")) for word in words if word.startswith("work-")) / 1000
        self.crash = CrashPoint.find(words)
        if self.crash:
            self.crash.arm()

    def work(self, share: float = 1.0) -> None:
        time.sleep(share * self.seconds)  # stands for a model

    def asked(self, model: str) -> None:
        if self.crash:
            self.crash.reached("asked", model)


class Engine:
    """Stands for vLLM."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    def describe(
        self, images: Sequence[Image.Image], subjects: Sequence[str], keys: Sequence[str] | None = None
    ) -> list[Context]:
        self._asked("describe")
        self.behaviour.work(0.3)
        return [Context(f"reeds {image.getpixel((0, 0))}", "Reeds.") for image in images]

    def shows(self, images: Sequence[Image.Image], subjects: Sequence[str]) -> list[bool | None]:
        self._asked("shows")
        self.behaviour.work(0.1)
        return [sum(image.getpixel((0, 0))) % 5 == 0 for image in images]  # type: ignore[arg-type]

    def close(self) -> None: ...

    def _asked(self, question: str) -> None:
        try:
            self.behaviour.asked(question)
        except EngineKilled:
            raise EngineDeadError("the engine was killed") from None


class Describer(DescriberActor):
    """The real actor around an engine that needs no model."""

    def __init__(self, settings: dict[str, Any], output: str, words: Sequence[str]) -> None:
        super().__init__(settings, output)
        self.behaviour = Behaviour(words)

    @cached_property
    def describer(self) -> Engine:  # type: ignore[override]
        return Engine(self.behaviour)


class Scorer:
    """Scores seeds instead of images."""

    def __init__(self, settings: dict[str, Any], output: str, class_names: list[str], words: Sequence[str]) -> None:
        self.behaviour = Behaviour(words)

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        self.behaviour.asked(method)
        self.behaviour.work(0.1)
        return [seed % 1000 / 1000 for seed in arguments[0]]


class Sampler(Faults):
    """Asks the scorer and the checker as the real one does, and writes its parts itself.

    "tell-nodes" among the words: leaves a note of the node that it samples on.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        output: str,
        class_names: list[str],
        scorers: list[Any],
        words: Sequence[str],
    ) -> None:
        super().__init__(output, " ".join(words))
        self.behaviour, self.class_names, self.scorers = Behaviour(words), class_names, scorers

    def ready(self) -> None: ...

    def prepare(self) -> None:
        self.store.put_new(layout.CALIBRATION, b"{}\n")

    def sample(
        self, unit: int, tasks: list[SampleTask], attempt: int, checker: Any | None, retry: int = 0
    ) -> UnitReport:
        import ray

        self.fail(unit)
        if "tell-nodes" in self.faults:
            self.store.put_new(f"faults/node-{ray.get_runtime_context().get_node_id()}", b"")
        prompts = {key: found.prompt for key, found in read_prompts(self.store, unit, retry).items()}
        scores = ray.get(self.scorers[0].call.remote("score", ([task.seed for task in tasks],)))
        self.behaviour.work()
        rows = [stub_row(task) for task in tasks]
        for found, score in zip(rows, scores, strict=True):
            found.prompt, found.image, found.score_trace = prompts[found.key], _png(found.seed), [score]
        assert checker is not None
        answers = ray.get(checker.shows.remote([found.image for found in rows], [found.source_name for found in rows]))
        for found, shows in zip(rows, answers, strict=True):
            if shows:
                found.accepted, found.reject_reason = False, "mllm"
            if f"bad-{int(found.key)}" in self.faults and not retry:
                found.accepted, found.failed, found.reject_reason = False, True, "error: bad luck"
        replaced = read_replaced(self.store, unit, retry, [task.key for task in tasks]) if retry else None
        self.store.put_new(layout.part_key(unit, retry), encode_samples(rows, self.class_names, replaced=replaced))
        failed, accepted = sum(found.failed for found in rows), sum(found.accepted for found in rows)
        return UnitReport(unit, len(rows), accepted, len(rows) - accepted - failed, failed, {"refine": 0.0})


def _png(seed: int) -> bytes:
    """An image that only this seed has: 32x32 noise, about 3 kB."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (32, 32), random.Random(seed).randbytes(3 * 32 * 32)).save(buffer, "PNG")
    return buffer.getvalue()
