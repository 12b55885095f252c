"""SamplerActor: the diffusion worker. Refines units of samples, checks them, writes their parts to storage."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import Settings
from synood_ray.farm.actors.named import Named, logged, made_once, told
from synood_ray.farm.reports import NAMES, UnitReport, reasons
from synood_ray.logs import heard
from synood_ray.models.describers.base import Context
from synood_ray.records import SampleRow, SampleTask
from synood_ray.sampling.produce import Models, produce
from synood_ray.sampling.proposals import names_wanted
from synood_ray.sampling.relatives import Relatives
from synood_ray.storage import layout
from synood_ray.storage.damage import move_aside
from synood_ray.storage.intact import intact
from synood_ray.storage.parts import DamagedPart, PromptRow, encode_samples, read_prompts, read_replaced
from synood_ray.storage.record import require_record
from synood_ray.storage.stores.base import Put, Store

if TYPE_CHECKING:
    from synood_ray.models.inpainters.base import Inpainter


class SamplerActor(Named):
    """One diffusion pipeline, one boundary, one refinement engine that several units share.

    scorers: handles of ScorerActors, or empty when the scorer lives in this process.
    """

    def __init__(self, settings: dict[str, Any], output: str, class_names: list[str], scorers: list[Any]) -> None:
        self.settings = Settings.model_validate(settings)
        self.start_log(self.settings.log, output)
        self.output = output
        self.class_names = class_names
        self.scorers = scorers
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._told, self._telling = 0, threading.Lock()

    @logged
    def ready(self) -> list[str]:
        """Load the models; returns what libraries warn about. Not done in the constructor, whose exceptions Ray would
        wrap beyond recognition."""
        with heard() as lines:
            self.find_run(self.store)
            self.inpainter, self.scorer  # noqa: B018 - made on first use
        return lines

    @made_once
    def store(self) -> Store:
        return self.open_run(self.output)

    @made_once
    def inpainter(self) -> Inpainter:
        from synood_ray.models.inpainters import open_inpainter

        return open_inpainter(self.settings.inpainter)

    @logged
    def prepare(self) -> list[str]:
        """Have the run's negative labels and boundary made, or read them if they are stored; then the engine. Returns
        what libraries warn about."""
        with heard() as lines:
            self.models  # noqa: B018 - made on first use
        return lines

    @made_once
    def models(self) -> Models:
        from synood_ray.farm.preparing import boundary

        calibration = boundary(self.settings, self.store, self.class_names, self.inpainter, self.scorer)
        with intact(self.store, layout.RELATIVES):  # stored when the scorer was opened
            related = Relatives.from_json(self.store.get(layout.RELATIVES))
        parts = self.inpainter, self.scorer, calibration, self.negative_words, related
        has_text = not self.settings.scorer.is_classifier
        names = self.scorer.encode_names if has_text and names_wanted(self.settings) else None
        return Models(self.settings, self.class_names, *parts, texts=names)

    @made_once
    def scorer(self) -> Any:
        from synood_ray.farm.actors.scorer import RemoteScorer
        from synood_ray.farm.preparing import open_scorer

        if not self.scorers:
            return open_scorer(self.settings, self.store, self.class_names)
        remote = RemoteScorer(self.scorers)
        remote.open()
        return remote

    @made_once
    def negative_words(self) -> list[str]:
        """The run's negative words; none when its scorer is a classifier without text."""
        from synood_ray.negatives.mining import NegativeLabels

        if not self.store.exists(layout.NEGATIVES):
            return []
        with intact(self.store, layout.NEGATIVES):
            return NegativeLabels.from_bytes(self.store.get(layout.NEGATIVES)).words

    @made_once
    def run(self) -> str:
        """Fingerprint of the run that parts are made for."""
        return require_record(self.store).fingerprint

    @logged
    def sample(
        self, unit: int, tasks: list[SampleTask], attempt: int, checker: Any | None, retry: int = 0
    ) -> UnitReport:
        """Make one unit's samples and write ``parts/part-….parquet``. checker: a DescriberActor, or None.

        retry: with 1 or more, tasks are those of the unit whose samples failed before or are drawn anew; they become
        that retry's part.
        Nothing is made of a unit that is in the store already.
        """
        part = layout.part_key(unit, retry)
        if self.store.exists(part):  # one small question before minutes of work: two drivers may share a run
            return told(UnitReport(unit, len(tasks), found=True))
        described = self._prompts(unit, retry, tasks)
        contexts = {
            key: Context(
                found.context,
                found.raw,
                found.error,
                tuple(found.neighbours or ()),
                (found.box[0], found.box[1], found.box[2], found.box[3]) if found.box else None,
            )
            for key, found in described.items()
        }
        describer = Asked(checker) if checker is not None else None
        rows = produce(tasks, contexts, self.models, describer, attempt, self.name)
        replaced = read_replaced(self.store, unit, retry, [task.key for task in tasks]) if retry else None
        data = encode_samples(rows, self.class_names, self.run, replaced)
        put = self.store.put_new(part, data)
        accepted, failed = sum(row.accepted for row in rows), sum(row.failed for row in rows)
        answers = describer.answers if describer else []
        shown = [row for row in rows if not row.failed]
        report = UnitReport(
            unit,
            len(rows),
            accepted,
            len(rows) - accepted - failed,
            failed,
            seconds={name: value * len(rows) / 1000 for name, value in rows[0].milliseconds.items()},
            found=put is Put.DIFFERENT,
            checked=len(answers),
            untold=answers.count(None),
            reasons=reasons(rows),
            rounds=tuple(row.rounds for row in shown),
            margins=tuple(row.margin for row in shown),
            denoiser_calls=self._calls_since(),
            stored=len(data),
            proposals=self._named(rows, contexts),
        )
        return told(report)

    def _named(self, rows: list[SampleRow], contexts: dict[str, Context]) -> dict[str, tuple[int, int]]:
        """Of samples of a thing that the describer was to name, those that another name stands in, and all."""
        named = [row for row in rows if row.policy == "neighbour"] if names_wanted(self.settings) else []
        lacking = sum(row.names[0] not in contexts[row.key].neighbours for row in named)
        return {NAMES: (lacking, len(named))} if named else {}

    def _prompts(self, unit: int, retry: int, tasks: list[SampleTask]) -> dict[str, PromptRow]:
        """The prompts of these tasks. Damaged ones are put aside, and fail the unit: a retry has them made anew."""
        try:
            described = read_prompts(self.store, unit, retry)
        except DamagedPart as damaged:
            move_aside(self.store, damaged.key)
            raise RuntimeError(str(damaged)) from damaged
        if missing := next((task.key for task in tasks if task.key not in described), None):
            raise RuntimeError(f"sample {missing} has no prompt: its file is gone; --retry-failed makes it again")
        return described

    def _calls_since(self) -> int:
        """Denoiser calls since this was asked last; units that are in work at once are told together."""
        with self._telling:
            before, self._told = self._told, self.models.engine.refiner.inpainter.denoiser_calls
            return self._told - before


class Asked:
    """The semantic check of one unit, by a DescriberActor; remembers its answers."""

    def __init__(self, checker: Any) -> None:
        self.checker = checker
        self.answers: list[bool | None] = []

    def __call__(self, pngs: list[bytes], subjects: list[str]) -> list[bool | None]:
        import ray

        self.answers = ray.get(self.checker.shows.remote(pngs, subjects))
        return self.answers
