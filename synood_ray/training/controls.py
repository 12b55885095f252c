"""What a run's detector is compared with beside the baselines: the same training on other images, or none at all.

All train on the features that the run keeps, with the settings of its detector, so that nothing differs but the images:
a gain of accepted images is what is left over these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from synood_ray.config.settings import Settings, TrainingSettings
from synood_ray.detection.description import DESCRIPTION, DetectorDescription
from synood_ray.detection.methods import OURS, Method
from synood_ray.detection.projector import Projector
from synood_ray.negatives.mining import NegativeLabels, pair
from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.training.features import run_features
from synood_ray.training.finetune import FineTuned, Workers, fine_tune
from synood_ray.training.job import detector_of
from synood_ray.training.recipes import RECIPES, Examples, TrainingData
from synood_ray.training.saved import stored

if TYPE_CHECKING:
    from synood_ray.models.clip import ClipModel


_TRIES = 100
"""How often a mixture's second image is drawn again while it is of the first one's class."""


@dataclass(frozen=True)
class Control:
    """what: one line about it; images: the run's training data -> what this one is trained on, by a seed."""

    what: str
    images: Callable[[TrainingData, NegativeLabels, int], TrainingData]


def mixtures(data: TrainingData, negatives: NegativeLabels, seed: int) -> TrainingData:
    """In place of every accepted image the mean of two ID images' features, of different classes: no generator.

    Which two depends on the seed; without a second class there are none.
    """
    generator = torch.Generator().manual_seed(seed)
    labels, count = data.id_labels, len(data.ood_features)
    first, second = torch.randint(len(labels), (2, count), generator=generator)
    for _ in range(_TRIES):
        alike = labels[first] == labels[second]
        second[alike] = torch.randint(len(labels), (int(alike.sum()),), generator=generator)
    apart = labels[first] != labels[second]
    first, second = first[apart], second[apart]
    mixed = (data.id_features[first] + data.id_features[second]) / 2
    return replace(data, ood_features=mixed, ood_negatives=pair(mixed, negatives))


FROZEN = f"{OURS}_frozen"

CONTROLS: dict[str, Control] = {
    f"{OURS}_id_only": Control("trained on ID images alone", lambda data, negatives, seed: data.id_only()),
    f"{OURS}_far_only": Control(
        "trained on ID images and far outliers, without accepted images", lambda data, negatives, seed: data.far_only()
    ),
    f"{OURS}_mixup": Control("trained on means of two ID images' features in place of accepted images", mixtures),
}
"""Names in evaluation.json; beside them `FROZEN`, the detector's score without any training."""


def control_methods(
    run: Run, settings: Settings, clip: ClipModel, negatives: NegativeLabels
) -> tuple[dict[str, Method], list[str]]:
    """`CONTROLS` and `FROZEN` for a run that has a detector, each control trained ``evaluation.seeds`` times; notes on
    those that are left out.

    With more than one seed also `OURS`: this run's detector, trained with the others. No image is encoded again. Left
    out is what the recipe would train on the same as another control: the official one takes no far outliers.
    """
    description = DetectorDescription.from_json(run.store.get(f"{layout.DETECTOR}{DESCRIPTION}"))
    settings = as_trained(settings, description)
    features = run_features(run, settings, clip, negatives, Workers())
    seeds = range(settings.seed, settings.seed + settings.evaluation.seeds)

    def method(tuned: FineTuned, data: TrainingData, what: str) -> Method:
        made = detector_of(tuned, replace(features, training=data), clip, negatives, settings, run.classes)
        about = f"{what}, score {made.description.score}"
        return Method(made.score_features, made.id_logits, about, made.description.threshold)

    def trained(data: TrainingData, training: TrainingSettings, seed: int, what: str) -> Method:
        return method(fine_tune(data.to(clip.device), training, seed), data, what)

    data, training = features.training, settings.training
    untrained = FineTuned(Projector(data.id_features.shape[1]), data.negative_text, [])
    found = {FROZEN: method(untrained, data, "the detector's score on the frozen CLIP, nothing trained")}
    without = training.model_copy(update={"offset": False})  # real features are not moved from a generator's domain
    notes: list[str] = []
    trained_on: dict[str, Examples] = {}
    for name, control in CONTROLS.items():
        first = control.images(data, negatives, seeds[0])
        examples = RECIPES[without.recipe](first, without).projector_examples
        twin = next((other for other, its in trained_on.items() if _alike(its, examples)), None)
        if twin:
            notes.append(f"{name}: left out, recipe {without.recipe} would train it on the same as {twin}")
            continue
        trained_on[name] = examples
        images = [first, *(control.images(data, negatives, seed) for seed in seeds[1:])]
        made = [trained(one, without, seed, control.what) for one, seed in zip(images, seeds, strict=True)]
        found[name] = replace(made[0], again=tuple(made[1:]))
    others = [trained(data, training, seed, "") for seed in seeds[1:]]
    if others:
        found[OURS] = replace(others[0], again=tuple(others[1:]))
    return found, notes


def _alike(one: Examples, other: Examples) -> bool:
    return torch.equal(one.targets, other.targets) and torch.equal(one.features, other.features)


def as_trained(settings: Settings, description: DetectorDescription) -> Settings:
    """The settings with those that the detector was trained with."""
    before = stored({"training": description.training})
    known = {name: before[f"training.{name}"] for name in TrainingSettings.model_fields if f"training.{name}" in before}
    training = settings.training.model_copy(update=known)
    detector = settings.detector.model_copy(update={"score": description.score})
    labels = settings.labels.model_copy(update={"groups": description.groups})
    update = {"training": training, "detector": detector, "labels": labels, "seed": before.get("seed", settings.seed)}
    return settings.model_copy(update=update)
