"""SynOOD as released (ICCV 2025, arXiv 2507.10225)."""

from __future__ import annotations

import torch

from synood_ray.config import TrainingSettings
from synood_ray.training.recipes.base import Curriculum, Examples, TrainingData


def curriculum(data: TrainingData, settings: TrainingSettings) -> Curriculum:
    """Cross-entropy over the ID and the used negative labels, those that some accepted image is nearest to.

    The target of an accepted image is its nearest negative label. Then those label features alone, on the accepted
    images, projector off. No companions, no far outliers; every image has weight 1.
    """
    used, targets = torch.unique(data.ood_negatives, return_inverse=True)
    features = torch.cat([data.id_features, data.ood_features])
    columns = torch.cat([data.id_labels, len(data.id_text) + targets])
    weights = torch.ones(len(features), device=features.device)
    ood = slice(len(data.id_features), None)
    return Curriculum(
        columns=used,
        projector_examples=Examples(features, columns, weights),
        label_examples=Examples(features[ood], columns[ood], weights[ood]),
        through_projector=False,
        keep_weight=0.0,
        released_projector=True,
    )
