"""The fused score: the joint score of texts and the relative Mahalanobis score of ID images, on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synood_ray.scores.base import IdImages, ScoreInput, State
from synood_ray.scores.joint import joint_score
from synood_ray.scores.mahalanobis import id_statistics, relative_mahalanobis

if TYPE_CHECKING:
    from torch import Tensor

SOFTNESS = 2.0
"""Of the maximum; towards infinity it is the mean. Chosen on the validation sets of the miniature world's three regimes
(docs/results.md): the sum loses 2 to 8 points near where the tests' drawings are of a new family, this less than 1."""


def learn(images: IdImages) -> State:
    """The statistics of ID images, and centre and spread [2] of both scores over the held-out ones."""
    statistics = id_statistics(images.features, images.labels)
    held_out = _both(images.held_out, statistics)
    return statistics | {"centres": held_out.mean(0), "spreads": held_out.std(0).clamp_min(1e-12)}


def fused_score(seen: ScoreInput) -> Tensor:
    """A soft maximum, s log(exp(z(j) / s) + exp(z(R) / s)) - s log 2, of both scores' `parts` [B, 2]; unbounded.

    One piece of evidence is enough: images unlike the run's own, such as drawings of another style, have a very low
    z(R) that says nothing about their class, and then z(j) alone decides. A sum would let z(R) drown it.
    """
    import math

    return SOFTNESS * ((parts(seen) / SOFTNESS).logsumexp(dim=-1) - math.log(2))


def parts(seen: ScoreInput) -> Tensor:
    """z(j), z(R) [B, 2]: both scores in standard deviations from the mean of held-out ID images."""
    return (_both(seen, seen.state) - seen.state["centres"]) / seen.state["spreads"]


def _both(seen: ScoreInput, statistics: Mapping[str, Tensor]) -> Tensor:
    """The joint and the relative Mahalanobis score, [B, 2]."""
    import torch

    texts, images = joint_score(seen.id_logits, seen.negatives), relative_mahalanobis(seen.features, statistics)
    return torch.stack([texts, images], dim=-1)
