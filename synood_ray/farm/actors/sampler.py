"""SamplerActor: the diffusion worker. Refines units of samples, checks them, writes their parts to storage."""

from __future__ import annotations

import os
import socket
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from synood_ray import __version__
from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage
from synood_ray.farm.actors.named import Named, logged
from synood_ray.farm.reports import UnitReport
from synood_ray.locations import without_credentials
from synood_ray.models.images import to_png, to_tensor
from synood_ray.records import SampleRow, SampleTask
from synood_ray.sampling.loader import SourceLoader
from synood_ray.storage import layout
from synood_ray.storage.parts import PromptRow, encode_samples, read_prompts
from synood_ray.storage.run import read_run
from synood_ray.storage.stores.base import Put, open_store

if TYPE_CHECKING:
    from synood_ray.models.inpainters.base import Inpainter
    from synood_ray.sampling.engine import RefineEngine
    from synood_ray.sampling.sample import Refined, RefineTask

COMPANION = "+id"  # a companion task's key is its sample's key with this behind it


class SamplerActor(Named):
    """One diffusion pipeline, one boundary, one refinement engine that several units share.

    scorers: handles of ScorerActors, or empty when the scorer lives in this process.
    """

    def __init__(self, settings: dict[str, Any], output: str, class_names: list[str], scorers: list[Any]) -> None:
        self.settings = Settings.model_validate(settings)
        self.start_log(self.settings.log, output)
        self.store = open_store(output, patient=True)
        self.class_names = class_names
        self.scorers = scorers
        self.loader = SourceLoader(self.settings)
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    @logged
    def ready(self) -> None:
        """Load the models. Not done in the constructor, whose exceptions Ray would wrap beyond recognition."""
        self.inpainter, self.scorer  # noqa: B018 - made on first use

    @cached_property
    def inpainter(self) -> Inpainter:
        from synood_ray.models.inpainters import open_inpainter

        return open_inpainter(self.settings.inpainter)

    @logged
    def prepare(self) -> None:
        """Have the run's negative labels and boundary made, or read them if they are stored; then the engine."""
        self.engine  # noqa: B018 - made on first use

    @cached_property
    def engine(self) -> RefineEngine:
        from synood_ray.farm.preparing import boundary
        from synood_ray.sampling.engine import RefineEngine
        from synood_ray.sampling.refine import Refiner

        calibration = boundary(self.settings, self.store, self.class_names, self.inpainter, self.scorer)
        refiner = Refiner(self.inpainter, self.scorer, calibration, self.settings.sampling)
        self.recipe = refiner.recipe
        return RefineEngine(refiner)

    @cached_property
    def scorer(self) -> Any:
        from synood_ray.farm.actors.scorer import RemoteScorer
        from synood_ray.farm.preparing import open_scorer

        return RemoteScorer(self.scorers) if self.scorers else open_scorer(self.settings, self.store, self.class_names)

    @cached_property
    def negative_words(self) -> list[str]:
        """The run's negative words; none when its scorer is a classifier without text."""
        from synood_ray.negatives.mining import NegativeLabels

        if not self.store.exists(layout.NEGATIVES):
            return []
        return NegativeLabels.from_bytes(self.store.get(layout.NEGATIVES)).words

    @cached_property
    def run(self) -> str:
        """Fingerprint of the run that parts are made for."""
        record = read_run(self.store)
        return record.fingerprint if record else ""

    @cached_property
    def models(self) -> dict[str, str]:
        """What made a row, by role."""
        from synood_ray.models.describers import chosen

        describer, scorer = self.settings.describer, self.settings.scorer
        return {
            "describer": without_credentials(getattr(describer, chosen(describer))),
            "inpainter": self.settings.inpainter.model,
            "scorer": f"{scorer.model} {scorer.pretrained or ''}".strip(),
        }

    @logged
    def sample(
        self, unit: int, tasks: list[SampleTask], attempt: int, checker: Any | None, retry: int = 0
    ) -> UnitReport:
        """Make one unit's samples and write ``parts/part-….parquet``. checker: a DescriberActor, or None.

        retry: with 1 or more, tasks are those of the unit whose samples failed before; they become that retry's part.
        Nothing is made of a unit that is in the store already.
        """
        key = layout.part_key(unit, retry)
        if self.store.exists(key):  # one small question before minutes of work: two drivers may share a run
            return UnitReport(unit, len(tasks), found=True)
        self.prepare()
        begin = time.perf_counter()
        prompts = read_prompts(self.store, unit, retry)
        work, rows = self._load(tasks, prompts)
        loaded = time.perf_counter()
        results = dict(zip([task.key for task in work], self.engine.submit(work), strict=True))
        refined = time.perf_counter()
        for task in tasks:
            if task.key in results:
                rows[task.key] = self._row(task, prompts[task.key].prompt, results)
        asked, untold = self._check([rows[task.key] for task in tasks], results, checker)
        checked = time.perf_counter()
        seconds = {"load": loaded - begin, "refine": refined - loaded, "check": checked - refined}
        share = {name: 1000 * value / len(tasks) for name, value in seconds.items()}
        for row in rows.values():
            row.attempt, row.worker, row.milliseconds = attempt, self.name, share
        ordered = [rows[task.key] for task in tasks]
        put = self.store.put_new(key, encode_samples(ordered, self.class_names, self.run))
        accepted, failed = sum(row.accepted for row in ordered), sum(row.failed for row in ordered)
        rejected, found = len(ordered) - accepted - failed, put is Put.DIFFERENT
        return UnitReport(unit, len(ordered), accepted, rejected, failed, seconds, found, asked, untold)

    def _load(
        self, tasks: list[SampleTask], prompts: dict[str, PromptRow]
    ) -> tuple[list[RefineTask], dict[str, SampleRow]]:
        """Refinement work for the tasks that have a prompt and whose image can be read, failed rows for the others."""
        from synood_ray.models.describers.base import Context, fill_prompt
        from synood_ray.sampling.sample import RefineTask

        side = self.inpainter.resolution
        companions = self.settings.sampling.id_companions and self.recipe.companions
        work: list[RefineTask] = []
        rows: dict[str, SampleRow] = {}
        for task in tasks:
            prompt = prompts[task.key].prompt
            if prompts[task.key].error:
                rows[task.key] = self._blank(task, prompt, f"error: {prompts[task.key].error}")
                continue
            try:
                image = to_tensor([self.loader.image(task.source)], side)[0]
                mask = self.loader.mask(task.source, side)
            except (UnusableImage, OSError) as error:
                rows[task.key] = self._blank(task, prompt, f"error: {error}")
                continue
            work.append(RefineTask(task.key, image, mask, prompt, task.seed))
            if companions:
                own = fill_prompt(self.settings.describer, Context(task.source.name, ""))
                work.append(RefineTask(task.key + COMPANION, image, mask, own, task.seed + 1, refine=False))
        return work, rows

    def _blank(self, task: SampleTask, prompt: str, reason: str) -> SampleRow:
        return SampleRow(
            key=task.key,
            unit=task.unit,
            image=None,
            source_key=task.source.key,
            source_label=task.source.label,
            source_name=task.source.name,
            mask=self.settings.sampling.mask,
            prompt=prompt,
            negative_label="",
            seed=task.seed,
            rounds=0,
            score_trace=[],
            margin_trace=[],
            margin=float("nan"),
            accepted=False,
            failed=bool(reason),
            reject_reason=reason,
            models=self.models,
            code_version=__version__,
        )

    def _row(self, task: SampleTask, prompt: str, results: dict[str, Refined | Exception]) -> SampleRow:
        result = results[task.key]
        if isinstance(result, Exception):
            return self._blank(task, prompt, f"error: {type(result).__name__}: {result}".splitlines()[0])
        row = self._blank(task, prompt, "")
        row.image = to_png(result.image)
        row.rounds = result.rounds
        row.score_trace, row.margin_trace, row.margin = result.score_trace, result.margin_trace, result.margin
        row.accepted = self.recipe.accepts(result)
        row.reject_reason = "" if row.accepted else "rounds"
        companion = results.get(task.key + COMPANION)
        if companion is not None and not isinstance(companion, Exception):
            row.companion = to_png(companion.image)
        return row

    def _check(
        self, rows: list[SampleRow], results: dict[str, Refined | Exception], checker: Any | None
    ) -> tuple[int, int]:
        """Pair accepted samples with their negative label; reject those that still show their class.

        Returns about how many the describer was asked, and of how many it could not tell.
        """
        import ray
        import torch

        from synood_ray.models.scorer import verdicts_of

        kept = [row for row in rows if row.accepted]
        if not kept:
            return 0, 0
        logits = torch.stack([results[row.key].logits for row in kept])  # type: ignore[union-attr]
        labels = torch.tensor([row.source_label for row in kept])
        nearest, shows = verdicts_of(logits, labels, len(self.class_names))
        by_clip = self.recipe.checks and self.settings.sampling.clip_check
        for row, index, still_there in zip(kept, nearest.tolist(), shows.tolist(), strict=True):
            if self.negative_words:
                row.negative_label = self.negative_words[index]
            if by_clip and still_there:
                row.accepted, row.reject_reason = False, "clip"
        kept = [row for row in kept if row.accepted]
        if not kept or not self.recipe.checks or checker is None:
            return 0, 0
        pngs = [row.image for row in kept]
        answers = ray.get(checker.shows.remote(pngs, [row.source_name for row in kept]))
        for row, still_there in zip(kept, answers, strict=True):
            if still_there:
                row.accepted, row.reject_reason = False, "mllm"
        return len(answers), answers.count(None)
