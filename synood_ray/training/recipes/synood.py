"""Our training recipe: any negative label will do for an OOD image, and the frozen CLIP's predictions are kept."""

from __future__ import annotations

from dataclasses import replace

import torch

from synood_ray.config import TrainingSettings
from synood_ray.training.recipes.base import (
    FINAL_LR,
    SOME_NEGATIVE,
    Curriculum,
    Examples,
    LabelStage,
    TrainingData,
    constant,
    cosine,
)


def curriculum(data: TrainingData, settings: TrainingSettings) -> Curriculum:
    """Cross-entropy over the ID and all negative labels for ID images and companions.

    With ``training.offset`` accepted images are moved by the domain offset first, from the generator's domain to the
    real images'; companions stay as they are, ID images with the generator's artefacts.
    Accepted images and far outliers need only *some* negative label, and together weigh ``training.ood_weight`` times
    what the ID images weigh (a half each). To it comes ``training.keep_weight`` times the divergence of the predictions
    from the frozen CLIP's, on the same images: without it few images are learnt by heart and the far ones are lost. The
    label stage uses the same loss through the fixed projector, on labels of unit length.
    """
    offset = data.domain_offset() if settings.offset and len(data.companion_features) else None
    if offset is not None:
        data = replace(data, ood_features=data.ood_features + offset)
    examples = _examples(data, settings.ood_weight)
    return Curriculum(
        columns=torch.arange(len(data.negative_text), device=data.negative_text.device),
        projector_examples=examples,
        label_examples=examples,
        projector_rate=lambda done, epochs: cosine(done, epochs, FINAL_LR),
        label_stage=LabelStage(
            norms=torch.ones_like(data.negative_norms), decay=0.0, rate=constant, id_texts=True, through_projector=True
        ),
        keep_weight=settings.keep_weight,
        released_projector=False,
        offset=offset,
    )


def _examples(data: TrainingData, ood_weight: float) -> Examples:
    """ID images and companions with their class; accepted images and far outliers with SOME_NEGATIVE."""
    known = torch.cat([data.id_features, data.companion_features])
    outliers = [part for part in (data.ood_features, data.far_features) if len(part)]
    weights = [torch.ones(len(known))]
    weights += [torch.full((len(part),), ood_weight * len(known) / len(outliers) / len(part)) for part in outliers]
    features, weight = torch.cat([known, *outliers]), torch.cat(weights)
    targets = torch.full((len(features),), SOME_NEGATIVE, device=features.device)
    targets[: len(known)] = torch.cat([data.id_labels, data.companion_labels])
    return Examples(features, targets, (weight / weight.mean()).to(features))
