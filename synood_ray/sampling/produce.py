"""From tasks to finished rows: image and mask, prompt, companion, refinement, checks. Neither farm nor store.

A worker of the farm, a benchmark and a notebook make samples with `produce`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synood_ray import __version__
from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage
from synood_ray.locations import without_credentials
from synood_ray.models.describers import chosen
from synood_ray.models.images import structure, to_png, to_tensor
from synood_ray.records import SampleRow, SampleTask
from synood_ray.sampling.batches import arithmetic
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.checks import Checks, Shows
from synood_ray.sampling.engine import RefineEngine
from synood_ray.sampling.loader import SourceLoader
from synood_ray.sampling.prompts import POLICIES
from synood_ray.sampling.prompts.base import Painting, own_painting
from synood_ray.sampling.refine import ImageScorer, Refiner
from synood_ray.sampling.relatives import Gate, Relatives, Texts
from synood_ray.sampling.sample import Refined, RefineTask

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.describers.base import Context
    from synood_ray.models.inpainters.base import Inpainter

NO_NUMBERS = (
    "the models gave NaN or infinity instead of an image or its score (half precision overflows on some machines: "
    "inpainter.dtype and scorer.dtype float32 do not)"
)
COMPANION = "+id"  # a companion task's key is its sample's key with this behind it


class Models:
    """What samples are made with: loaded once, then used by any number of threads.

    class_names: of the ID classes, by label; calibration: of this inpainter and scorer; negative_words: of the scorer's
    negative labels, in their order; relatives: of the ID classes, for the policies that need them; texts: the scorer's,
    which names that the describer proposes are compared with; None: they are taken as they are.
    """

    def __init__(
        self,
        settings: Settings,
        class_names: Sequence[str],
        inpainter: Inpainter,
        scorer: ImageScorer,
        calibration: Calibration,
        negative_words: Sequence[str] = (),
        relatives: Relatives | None = None,
        texts: Texts | None = None,
    ) -> None:
        self.settings, self.class_names = settings, class_names
        refiner = Refiner(inpainter, scorer, calibration, settings.sampling)
        self.side = inpainter.resolution
        self.loader = SourceLoader(settings)
        self.squash = refiner.recipe.squash
        self.policy = POLICIES[refiner.recipe.policy or settings.prompts.policy](settings, relatives or Relatives())
        self.gate = Gate(class_names, texts) if texts is not None else None
        self.companions = settings.sampling.id_companions and refiner.recipe.companions
        classes, sure = len(class_names), calibration.sure
        self.checks = Checks(settings.sampling, refiner.recipe, classes, negative_words, sure)
        self.engine = RefineEngine(refiner)
        self.names = model_names(settings)
        self.arithmetic = arithmetic(settings.inpainter, inpainter.device, refiner.batch_size)


def model_names(settings: Settings) -> dict[str, str]:
    """What makes a row, by role."""
    describer = settings.describer
    return {
        "describer": without_credentials(getattr(describer, chosen(describer))),
        "inpainter": settings.inpainter.model,
        "scorer": settings.scorer.name,
    }


def produce(
    tasks: Sequence[SampleTask],
    contexts: Mapping[str, Context],
    models: Models,
    shows: Shows | None = None,
    attempt: int = 1,
    worker: str = "",
) -> list[SampleRow]:
    """Make the samples of some tasks: a finished row each, in their order; one that cannot be made is a failed row.

    contexts: of every task, by its key. shows: the describer's part of the semantic check; None: it has none.
    attempt, worker: for the rows. Their milliseconds are a sample's share of load, refine and check.
    """
    begin = time.perf_counter()
    tasks = [_boxed(task, contexts[task.key]) for task in tasks]
    paintings = {task.key: _paint(task, contexts[task.key], models) for task in tasks if not contexts[task.key].error}
    errors = {task.key: contexts[task.key].error for task in tasks if task.key not in paintings}
    work = _load([task for task in tasks if task.key in paintings], paintings, models, errors)
    loaded = time.perf_counter()
    results = _refine(work, models, errors)
    refined = time.perf_counter()
    masks = {one.key: one.mask for one in work}
    made = _finish([task for task in tasks if task.key in results], paintings, masks, results, models, shows)
    checked = time.perf_counter()
    seconds = {"load": loaded - begin, "refine": refined - loaded, "check": checked - refined}
    milliseconds = {name: 1000 * value / len(tasks) for name, value in seconds.items()}
    return [
        SampleRow(
            **_identity(task, paintings.get(task.key), models),
            **(made.get(task.key) or _failure(errors[task.key])),
            models=models.names,
            attempt=attempt,
            worker=worker,
            milliseconds=milliseconds,
            code_version=__version__,
            arithmetic=models.arithmetic,
        )
        for task in tasks
    ]


def _boxed(task: SampleTask, context: Context) -> SampleTask:
    """The task with the box that the describer found, if its source has none."""
    if context.box is None or task.source.box is not None:
        return task
    return replace(task, source=replace(task.source, box=context.box))


def _paint(task: SampleTask, context: Context, models: Models) -> Painting:
    """What the policy paints; of the names that were proposed it is told those that are near enough to the class."""
    if models.gate is not None and context.neighbours:
        context = replace(context, neighbours=models.gate(task.source.label, context.neighbours))
    return models.policy.paint(task.source, context, models.class_names, task.seed)


def _load(
    tasks: Sequence[SampleTask], paintings: Mapping[str, Painting], models: Models, errors: dict[str, str]
) -> list[RefineTask]:
    """Work for the engine, a companion behind its sample; tasks whose image cannot be read are put into ``errors``."""
    work: list[RefineTask] = []
    for task in tasks:
        try:
            image, mask = _read(task, models)
        except (UnusableImage, OSError) as error:
            errors[task.key] = str(error)
            continue
        work.append(RefineTask(task.key, image, mask, paintings[task.key], task.seed))
        if models.companions:
            own = own_painting(models.settings.describer, task.source)
            work.append(RefineTask(task.key + COMPANION, image, mask, own, task.seed + 1, refine=False))
    return work


def _read(task: SampleTask, models: Models) -> tuple[Tensor, Tensor]:
    image = to_tensor([models.loader.image(task.source)], models.side, models.squash)[0]
    return image, models.loader.mask(task.source, models.side)


def _refine(work: list[RefineTask], models: Models, errors: dict[str, str]) -> dict[str, Refined]:
    """What became of the work, by key; what failed is put into ``errors``."""
    results: dict[str, Refined] = {}
    for one, result in zip(work, models.engine.submit(work), strict=True):
        if isinstance(result, Exception):
            errors[one.key.removesuffix(COMPANION)] = f"{type(result).__name__}: {result}".splitlines()[0]
        elif not result.is_finite():
            errors[one.key.removesuffix(COMPANION)] = NO_NUMBERS
        else:
            results[one.key] = result
    return {key: result for key, result in results.items() if key.removesuffix(COMPANION) not in errors}


# -- a row's columns ---------------------------------------------------------------------------------------------------


def _identity(task: SampleTask, painting: Painting | None, models: Models) -> dict[str, Any]:
    return {
        "key": task.key,
        "unit": task.unit,
        "source_key": task.source.key,
        "source_label": task.source.label,
        "source_name": task.source.name,
        "mask": models.settings.sampling.mask,
        "seed": task.seed,
        "rerun": task.rerun,
        **(_painted(painting, models) if painting else {"prompt": ""}),
    }


def _painted(painting: Painting, models: Models) -> dict[str, Any]:
    return {
        "prompt": painting.prompt,
        "policy": painting.policy,
        "names": list(painting.names),
        "weight": painting.weight,
        "partner": "" if painting.partner is None else models.class_names[painting.partner],
    }


def _finish(
    tasks: Sequence[SampleTask],
    paintings: Mapping[str, Painting],
    masks: Mapping[str, Tensor],
    results: Mapping[str, Refined],
    models: Models,
    shows: Shows | None,
) -> dict[str, dict[str, Any]]:
    """Columns of the tasks that have been refined, by key."""
    pngs = {key: to_png(result.image) for key, result in results.items()}
    refined = [results[task.key] for task in tasks]
    classes = [_painted_classes(task, paintings[task.key], models.class_names) for task in tasks]
    structures = [_structure(task.key, paintings[task.key], masks, results) for task in tasks]
    verdicts = models.checks.judge(classes, refined, [pngs[task.key] for task in tasks], structures, shows)
    return {
        task.key: {
            "image": pngs[task.key],
            "companion": pngs.get(task.key + COMPANION),
            "negative_label": verdict.negative_label,
            "feature": one.feature.half().tolist(),
            "rounds": one.rounds,
            "score_trace": one.score_trace,
            "margin_trace": one.margin_trace,
            "margin": one.margin,
            "accepted": not verdict.reason,
            "failed": False,
            "reject_reason": verdict.reason,
        }
        for task, one, verdict in zip(tasks, refined, verdicts, strict=True)
    }


def _structure(key: str, painting: Painting, masks: Mapping[str, Tensor], results: Mapping[str, Refined]) -> float:
    """How much a sample shows where it was repainted, share of what its companion does: both are as soft as the
    inpainter's decoder. Infinite where no thing was painted, or there is no companion to compare with."""
    companion = results.get(key + COMPANION)
    if not painting.names or companion is None:
        return math.inf
    return structure(results[key].image, masks[key]) / max(structure(companion.image, masks[key]), 1e-9)


def _painted_classes(task: SampleTask, painting: Painting, class_names: Sequence[str]) -> list[tuple[int, str]]:
    """Label and name of the ID classes that a sample must not show: its source's, and its partner."""
    own = [(task.source.label, task.source.name)]
    return own if painting.partner is None else [*own, (painting.partner, class_names[painting.partner])]


def _failure(error: str) -> dict[str, Any]:
    return {
        "image": None,
        "companion": None,
        "negative_label": "",
        "rounds": 0,
        "score_trace": [],
        "margin_trace": [],
        "margin": float("nan"),
        "accepted": False,
        "failed": True,
        "reject_reason": f"error: {error}",
    }
