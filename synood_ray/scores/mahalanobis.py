"""The relative Mahalanobis score: an image's distance from the ID classes, less that from ID images at large."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SHRINKAGE = 0.1


def id_statistics(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Means and inverse covariances of ID features [N, D] with labels [N], in the features' dtype.

    means [K, D]: of the K classes that there are; precision [D, D]: inverse of the within-class covariance; mean [D],
    total_precision [D, D]: of all images together. Covariances are divided by N and shrunk towards their mean
    variance: (1 - s) S + s tr(S) / D I, s = `SHRINKAGE`. Needs at least two images of some class.
    """
    import torch

    x = features.double()
    _, index = labels.to(x.device).unique(return_inverse=True)
    ones = torch.nn.functional.one_hot(index).double()
    means = ones.T @ x / ones.sum(0).unsqueeze(1)

    def precision(centred: Tensor) -> Tensor:
        covariance = centred.T @ centred / len(centred)
        width = len(covariance)
        even = covariance.trace() / width * torch.eye(width, dtype=x.dtype, device=x.device)
        inverse = torch.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * even).to(features)
        return inverse.contiguous()  # as it comes back from a file: the same bits

    return {
        "means": means.to(features),
        "precision": precision(x - means[index]),
        "mean": x.mean(0).to(features),
        "total_precision": precision(x - x.mean(0)),
    }


def relative_mahalanobis(features: Tensor, statistics: Mapping[str, Tensor]) -> Tensor:
    """max_c [-(x - mu_c)' P (x - mu_c)] + (x - mu)' P0 (x - mu) of features [B, D], unbounded; see `id_statistics`.

    Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD detection", 2021; shrinkage is ours.
    """
    background = background_distance(features, statistics)
    x = features - statistics["mean"]  # first: the terms below stay small
    means, precision = statistics["means"] - statistics["mean"], statistics["precision"]
    towards = x @ precision
    nearest = (2 * towards @ means.T - ((means @ precision) * means).sum(dim=-1)).amax(dim=-1)
    return nearest - (towards * x).sum(dim=-1) + background


def background_distance(features: Tensor, statistics: Mapping[str, Tensor]) -> Tensor:
    """(x - mu)' P0 (x - mu) of features [B, D], at least 0: how unlike ID images at large; see `id_statistics`."""
    x = features - statistics["mean"]
    return ((x @ statistics["total_precision"]) * x).sum(dim=-1)
