"""SynOOD as released (ICCV 2025, arXiv 2507.10225): its two training scripts, step by step, in single precision."""

from __future__ import annotations

import math

import torch

from synood_ray.config import TrainingSettings
from synood_ray.training.recipes.base import FINAL_LR, Curriculum, Examples, LabelStage, TrainingData, cosine

LABEL_DECAY = 1e-5


def curriculum(data: TrainingData, settings: TrainingSettings) -> Curriculum:
    """Cross-entropy over the ID and the used negative labels, those that some accepted image is nearest to.

    The target of an accepted image is its nearest negative label. Then those label features alone, on the accepted
    images: projector off, softmax over the used labels only, features as long as the text tower gives them, weight
    decay. Rates fall by a cosine, once an epoch. No companions, no far outliers; every image has weight 1.
    """
    used, targets = torch.unique(data.ood_negatives, return_inverse=True)
    features = torch.cat([data.id_features, data.ood_features])
    columns = torch.cat([data.id_labels, len(data.id_text) + targets])
    weights = torch.ones(len(features), device=features.device)
    return Curriculum(
        columns=used,
        projector_examples=Examples(features, columns, weights),
        label_examples=Examples(data.ood_features, targets, weights[: len(targets)]),
        projector_rate=lambda done, epochs: cosine(math.floor(done), epochs, FINAL_LR),
        label_stage=LabelStage(
            norms=data.negative_norms[used],
            decay=LABEL_DECAY,
            rate=lambda done, epochs: cosine(math.floor(done), epochs),
            id_texts=False,
            through_projector=False,
        ),
        keep_weight=0.0,
        released_projector=True,
    )
