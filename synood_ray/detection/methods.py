"""What an evaluation compares: OOD scores of the frozen CLIP, named detectors, and the run's own detector."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from synood_ray.config import Settings
from synood_ray.detection.description import DESCRIPTION, FOLDER, DetectorDescription, is_stale
from synood_ray.detection.detector import Detector, ImageEncoder
from synood_ray.errors import UserError
from synood_ray.locations import without_credentials
from synood_ray.scores import POOL, SCORES, IdImages, Need, Score, ScoreInput, State, lacking
from synood_ray.scores.base import by_rows
from synood_ray.storage.record import RunRecord
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from torch import Tensor

OURS = "synood"
"""The run's own detector, in evaluation.json; its ablations and controls are called ``synood_…``."""

OwnImages = Callable[[], tuple["Tensor", "Tensor", "Tensor"]]
"""Un-normalised CLIP features [N, D] and labels [N] of the run's ID images, and features [H, D] of held-out ones."""


@dataclass(frozen=True)
class Method:
    """score: un-normalised CLIP features [N, D] -> [N], higher = more ID; id_logits: features -> [N, C], for the ID
    accuracy; what: one line about it; threshold: scores below it are OOD, None where none is set; again: the same
    trained with other seeds, its figures are the means of all."""

    score: Callable[[Tensor], Tensor]
    id_logits: Callable[[Tensor], Tensor]
    what: str = ""
    threshold: float | None = None
    again: tuple[Method, ...] = ()

    @property
    def trainings(self) -> tuple[Method, ...]:
        """Itself, and what it is again."""
        return (self, *self.again)


@dataclass(frozen=True)
class FoundDetector:
    """A detector that is to be evaluated: where it lies, and what its description says."""

    what: str
    store: Store
    prefix: str
    description: DetectorDescription
    sha256: str


def find_detectors(store: Store, settings: Settings, record: RunRecord) -> tuple[dict[str, FoundDetector], list[str]]:
    """The detectors of ``evaluation.detectors`` and the run's own (`OURS`, the last) by name; notes on what is missing.

    No model is loaded. Raises UserError for a name that is taken, and for a detector that is not there, knows other
    classes, or was trained on samples that a retry has changed since.
    """
    found: dict[str, FoundDetector] = {}
    for name, uri in settings.evaluation.detectors.items():
        try:
            if name in SCORES or name == OURS or name.startswith(f"{OURS}_"):
                raise UserError(
                    f"the name {name!r} is taken, as those of scores, {OURS} and {OURS}_… are; choose another"
                )
            found[name] = _other(uri, record)
        except UserError as error:
            raise UserError(f"evaluation.detectors.{name}: {error}") from error
    missing = [] if store.exists(FOLDER + DESCRIPTION) else [f"{OURS}: no fine-tuned detector in {FOLDER}"]
    if not missing:
        found[OURS] = _found(store, FOLDER, "this run")
    return found, missing + [f"{name}: {note}" for name, one in found.items() for note in one.description.notes]


def _other(uri: str, record: RunRecord) -> FoundDetector:
    store = open_store(uri, write=False)
    prefix = "" if store.exists(DESCRIPTION) else FOLDER
    if not store.exists(prefix + DESCRIPTION):
        raise UserError(f"{uri}: no {DESCRIPTION} here or in {FOLDER}; fine-tune that run first")
    found = _found(store, prefix, without_credentials(uri))
    _same_classes(found.description.class_names, record.classes, uri)
    return found


def _found(store: Store, prefix: str, whose: str) -> FoundDetector:
    if is_stale(store, prefix):
        raise UserError(
            f"{store.uri}/{prefix} was trained on samples that a retry has changed since; "
            "run synood finetune on that run again"
        )
    data = store.get(prefix + DESCRIPTION)
    description = DetectorDescription.from_json(data)
    what = f"detector of {whose}, {description.summary}"
    return FoundDetector(what, store, prefix, description, hashlib.sha256(data).hexdigest())


def _same_classes(its: list[str], ours: list[str], where: str) -> None:
    if its == ours:
        return
    odd = [name for name in its if name not in ours] or [name for name in ours if name not in its]
    example = f", such as {odd[0]!r}" if odd else " in another order"
    raise UserError(f"{where}: its detector has {len(its)} classes, the run {len(ours)}; they differ{example}")


def frozen_methods(
    settings: Settings,
    clip: ImageEncoder,
    classes: list[str],
    negative_text: Tensor,
    own_images: OwnImages,
    pool: Callable[[], Tensor],
) -> tuple[dict[str, Method], list[str]]:
    """The scores of ``evaluation.scores`` on the frozen CLIP's features, by name; notes on those that cannot be had.

    own_images: encodes the run's ID images; pool: CSP's negative text [P, D]. Both are called once, and only if some
    score needs them.
    """
    from torch.nn import functional as F

    used = [SCORES[name] for name in settings.evaluation.scores]
    texts = {
        text: clip.encode_classes(classes, list(text)).cpu() for text in {_prompts(settings, score) for score in used}
    }
    options: dict[str, Any] = {"temperature": settings.clip.temperature, "groups": settings.labels.groups}

    def look(score: Score, features: Tensor) -> ScoreInput:
        id_text = texts[_prompts(settings, score)]
        return ScoreInput.of_features(F.normalize(features, dim=-1), id_text, negative_text, **options)

    def method(score: Score, state: State) -> Method:
        return Method(
            lambda x: by_rows(lambda part: score(replace(look(score, part), state=state)), x),
            lambda x: ScoreInput.of_features(F.normalize(x, dim=-1), texts[_prompts(settings, score)]).id_logits,
            f"{score.summary} ({score.paper}; prompt {', '.join(map(repr, _prompts(settings, score)))})",
        )

    names: list[str] = list(settings.evaluation.scores)
    pools: State = {POOL: pool().cpu()} if any(Need.POOL in score.needs for score in used) else {}
    if not any(score.learn for score in used):
        return {name: method(SCORES[name], pools) for name in names}, []
    features, labels, held_out = own_images()
    unit = F.normalize(features, dim=-1)

    def learned(score: Score) -> State:
        return score.learned(IdImages(unit, labels, look(score, held_out)), pools.get(POOL))

    why = {name: lacking(name, labels, classes) for name in names}
    methods = {name: method(SCORES[name], learned(SCORES[name])) for name in names if not why[name]}
    return methods, [f"left out: {reason}" for reason in why.values() if reason]


def _prompts(settings: Settings, score: Score) -> tuple[str, ...]:
    """The prompts of an ID class that a baseline is measured with, by ``evaluation.prompts``."""
    if settings.evaluation.prompts == "paper" and score.prompts:
        return score.prompts
    return tuple(settings.clip.templates)


def detector_methods(found: dict[str, FoundDetector], clip: ImageEncoder) -> dict[str, Method]:
    """The detectors, loaded, by name. Raises UserError for one of another CLIP."""

    def method(name: str, one: FoundDetector) -> Method:
        try:
            detector = Detector.from_store(one.store, one.prefix, clip=clip)
        except UserError as error:
            raise UserError(f"detector {name!r}: {error}") from error
        return Method(detector.score_features, detector.id_logits, one.what, detector.description.threshold)

    return {name: method(name, one) for name, one in found.items()}
