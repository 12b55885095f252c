"""The fused score: the joint score of texts and the relative Mahalanobis score of ID images, on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synood_ray.scores.base import IdImages, ScoreInput, State
from synood_ray.scores.joint import joint_score
from synood_ray.scores.mahalanobis import id_statistics, relative_mahalanobis

if TYPE_CHECKING:
    from torch import Tensor


def learn(images: IdImages) -> State:
    """The statistics of ID images, and centre and spread [2] of both scores over the held-out ones."""
    statistics = id_statistics(images.features, images.labels)
    held_out = _both(images.held_out, statistics)
    return statistics | {"centres": held_out.mean(0), "spreads": held_out.std(0).clamp_min(1e-12)}


def fused_score(seen: ScoreInput) -> Tensor:
    """z(j) + z(R): both in standard deviations from the mean of held-out ID images; unbounded."""
    return ((_both(seen, seen.state) - seen.state["centres"]) / seen.state["spreads"]).sum(dim=-1)


def _both(seen: ScoreInput, statistics: Mapping[str, Tensor]) -> Tensor:
    """The joint and the relative Mahalanobis score, [B, 2]."""
    import torch

    texts, images = joint_score(seen.id_logits, seen.negatives), relative_mahalanobis(seen.features, statistics)
    return torch.stack([texts, images], dim=-1)
