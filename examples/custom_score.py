"""A score of your own on CLIP's features, measured like the others: AUROC and FPR95 with intervals over classes.

    python examples/custom_score.py

Uses the bundled miniature world. To have a score in every command, put it into the table: docs/extending.md.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from synood_ray.config import DataSettings, ScorerSettings
from synood_ray.data.source import open_source
from synood_ray.detection.features import encode_sources
from synood_ray.detection.metrics import bootstrap, intervals, ood_metrics
from synood_ray.models.clip import ClipModel
from synood_ray.scores import SCORES, ScoreInput

settings = ScorerSettings(model="mini://models/clip", pretrained=None, templates=["a photo of a {}."])
clip = ClipModel(settings)


def encode(name: str) -> tuple[Tensor, np.ndarray, list[str]]:
    """Unit features [N, D], class labels [N] and class names of a bundled set."""
    data = DataSettings(uri=f"mini://data/{name}.parquet")
    source = open_source(data.uri, data)
    features, kept, _ = encode_sources(clip, data, source.scan().images)
    return F.normalize(features, dim=-1), np.array([image.label for image in kept]), [c.name for c in source.classes]


def lead(seen: ScoreInput) -> Tensor:
    """How far the nearest class is ahead of the second: [B]. Higher = more ID, as for every score."""
    first, second = seen.id_logits.topk(2, dim=-1).values.unbind(-1)
    return first - second


known, known_classes, names = encode("id_val")
text = clip.encode_classes(names, settings.templates)
for name in ("near_val", "far_val"):
    unknown, unknown_classes, _ = encode(name)
    for title, score in {"lead": lead, "mcm": SCORES["mcm"], "maxlogit": SCORES["maxlogit"]}.items():
        scores = [score(ScoreInput.of_features(unit, text)).numpy() for unit in (known, unknown)]
        found = ood_metrics(*scores)
        low, high = intervals(bootstrap(scores[0], known_classes, scores[1], unknown_classes, draws=200))["auroc"]
        print(
            f"{name:9} {title:9} AUROC {100 * found['auroc']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            f"  FPR95 (ID positive) {100 * found['fpr95_id_positive']:.1f}"
        )
