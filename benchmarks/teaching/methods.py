"""What detectors are fine-tuned on: every set of images and every control, beside the ID images alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.teaching.images import RELEASED, ImageSet
from synood_ray.config.settings import Settings, TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.clip import ClipModel
    from synood_ray.negatives.mining import NegativeLabels
    from synood_ray.training.recipes import TrainingData

ID_ONLY, FAR_ONLY = "ID images only", "far outliers only"
MIXUP, MIXUP_NEAR = "mixup of real ID features", "mixup of nearest classes"
COMPANIONS = "companions as outliers"
ORACLE = "oracle: real near images of half A"
NO_OFFSET = "no offset"
CONTROLS = (FAR_ONLY, MIXUP, MIXUP_NEAR, COMPANIONS, ORACLE)


@dataclass(frozen=True)
class Trainee:
    """What one detector is fine-tuned on, how, and the set of images that it took (None: no generator's)."""

    data: TrainingData
    settings: TrainingSettings
    images: str | None = None


@dataclass(frozen=True)
class Seen:
    """What a head sees: un-normalised features of sources, held-out images and companions; of every set by name."""

    id_text: Tensor
    negatives: NegativeLabels
    norms: Tensor
    sources: Tensor
    labels: Tensor
    held_out: Tensor
    companions: Tensor
    companion_sources: Tensor
    regenerated: Tensor
    oracle: Tensor
    sets: dict[str, Tensor]


def trainees(seen: Seen, settings: Settings, seed: int) -> dict[str, Trainee]:
    """Every method by name, `ID_ONLY` first. Sets of images are used with the domain offset; refined ones without too.

    The released recipe is trained as released, with our epochs and rates, and its images by our training recipe.
    """
    from synood_ray.negatives.mining import pair

    base, ours = _without_ood(seen, settings.seed), settings.training
    unmoved = ours.model_copy(update={"offset": False})

    def on(features: Tensor, training: TrainingSettings, images: str | None = None) -> Trainee:
        data = replace(base, ood_features=features, ood_negatives=pair(features, seen.negatives))
        return Trainee(data, training, images)

    found = {ID_ONLY: Trainee(base.id_only(), ours), FAR_ONLY: Trainee(base, ours)}
    found[MIXUP] = on(mixup(seen, seed), unmoved)
    found[MIXUP_NEAR] = on(mixup(seen, seed, nearest=True), unmoved)
    found[COMPANIONS] = on(seen.companions, ours)
    found[ORACLE] = on(seen.oracle, unmoved)
    for name, features in seen.sets.items():
        if not len(features):
            continue
        if name != RELEASED:
            found[name] = on(features, ours, name)
            if "," not in name:
                found[f"{name}, {NO_OFFSET}"] = on(features, unmoved, name)
            continue
        released = TrainingSettings(recipe="official")
        found[f"{name}, its own training"] = on(features, released, name)
        as_ours = ours.model_copy(update={"recipe": "official"})
        found[f"{name}, its training with our epochs"] = on(features, as_ours, name)
        found[f"{name}, our training"] = on(features, unmoved, name)
    return found


def mixup(seen: Seen, seed: int, nearest: bool = False) -> Tensor:
    """For every ID image the mean of its feature and that of an image of another class [N, D]: no generator at all.

    nearest: of the class whose text is nearest to its own.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    labels, others = seen.labels, []
    likeness = seen.id_text @ seen.id_text.T
    closest = likeness.fill_diagonal_(-2).argmax(dim=-1)
    for label in labels.tolist():
        allowed = (labels == closest[label]) if nearest else (labels != label)
        candidates = allowed.nonzero().flatten()
        others.append(int(candidates[torch.randint(len(candidates), (), generator=generator)]))
    return (seen.sources + seen.sources[others]) / 2


def _without_ood(seen: Seen, seed: int) -> TrainingData:
    """What every method has: ID images, companions, far outliers."""
    from synood_ray.training.outliers import far_outliers
    from synood_ray.training.recipes import TrainingData

    negatives = seen.negatives.features
    return TrainingData(
        id_features=seen.sources,
        id_labels=seen.labels,
        id_text=seen.id_text,
        negative_text=negatives,
        negative_norms=seen.norms,
        ood_features=seen.sources[:0],
        ood_negatives=seen.labels[:0],
        companion_features=seen.companions,
        companion_sources=seen.companion_sources,
        far_features=far_outliers(seen.sources, seen.labels, seen.id_text, negatives, seed),
    )


def see(
    clip: ClipModel,
    settings: Settings,
    classes: list[str],
    real: Mapping[str, Tensor],
    labels: Tensor,
    made: Mapping[str, ImageSet],
) -> Seen:
    """What a head sees of real images (features of ``sources``, ``held_out``, ``oracle``) and of made ones."""
    from synood_ray.negatives.mining import load_candidates, mine, prompts_of

    id_text = clip.encode_classes(classes, settings.clip.templates).float().cpu()
    negatives = mine(load_candidates(settings.labels), classes, id_text, clip.encode_text, settings.labels)
    prompts = prompts_of(negatives.words, list(negatives.kinds), settings.labels)
    features = {name: encode(clip, one.images) for name, one in made.items()}
    companions = features.pop("companions")
    return Seen(
        id_text=id_text,
        negatives=negatives,
        norms=clip.text_norms(prompts).cpu(),
        labels=labels,
        companions=companions,
        companion_sources=made["companions"].sources,
        regenerated=features.pop("regenerated", companions[:0]),
        sets=features,
        **real,
    )


def encode(clip: ClipModel, images: Tensor) -> Tensor:
    """Un-normalised features [N, D] of uint8 images [N, 3, H, W], read as from files."""
    from PIL import Image

    from synood_ray.detection.features import encode_pictures

    return encode_pictures(clip, (Image.fromarray(one.permute(1, 2, 0).numpy()) for one in images))
