"""The class margin: how much nearer an image is to ID images of one class than to those of any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SHARPNESS = 20.0
"""Of the kernel around an ID image, per cosine; 10 to 40 differ little (docs/results.md)."""

EXEMPLARS = 16
"""ID images of a class that are kept at most."""


def exemplars(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What `class_margin` needs of ID features [N, D] with labels [N].

    origin [D]: mean of all. exemplars [E, D]: the first `EXEMPLARS` images of every class, as unit vectors from the
    origin; exemplar_classes [E] int64: their classes, numbered from 0 without gaps.
    """
    import torch
    from torch.nn import functional as F

    _, index = labels.to(features.device).unique(return_inverse=True)
    order = index.argsort(stable=True)
    counts = index.bincount()
    place = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[index[order]]
    kept = order[place < EXEMPLARS]
    origin = features.mean(0)
    unit = F.normalize(features[kept] - origin, dim=-1)
    return {"origin": origin, "exemplars": unit, "exemplar_classes": index[kept]}


def class_margin(features: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """log d_1 - log d_2, over `SHARPNESS` s, of features [B, D]: in units of a cosine, at least 0.

    d_1 and d_2 are the two largest of the classes' densities, means over a class's exemplars e of exp(s cos(x, e)),
    both seen from the origin. Of a single class it is log d_1 alone. Images that lie between two classes are near-OOD
    more often than ID, which a Gaussian a class with one covariance for all does not see. Ours; cf. the ratio of
    distances of Lowe, IJCV 2004.
    """
    from torch.nn import functional as F

    kernel = (SHARPNESS * F.normalize(features - state["origin"], dim=-1) @ state["exemplars"].T).exp()
    classes = state["exemplar_classes"].long()
    counts = classes.bincount()
    densities = kernel.new_zeros(len(kernel), len(counts)).index_add(1, classes, kernel) / counts
    nearest = densities.topk(min(2, len(counts)), dim=-1).values.log() / SHARPNESS
    return nearest[:, 0] - nearest[:, 1] if len(counts) > 1 else nearest[:, 0]
