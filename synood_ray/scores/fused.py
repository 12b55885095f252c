"""The fused score: what texts say and what ID images say, on one scale; one piece of evidence is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synood_ray.scores.base import IdImages, ScoreInput, State
from synood_ray.scores.joint import joint_score
from synood_ray.scores.mahalanobis import id_statistics, relative_mahalanobis
from synood_ray.scores.margin import class_margin, exemplars
from synood_ray.scores.neglabel import neglabel_score

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("joint", "mahalanobis", "neglabel", "margin")
"""The first two were all that the score had at first; detectors and runs of that time keep it so."""

SOFTNESS = 2.0
"""Of the maximum; towards infinity it is the mean. Chosen on the validation sets of the miniature world's three regimes
(docs/results.md): the sum loses 2 to 8 points near where the tests' drawings are of a new family, this less than 1."""

WEIGHTS = 0.25, 1.0
"""Of z(NegLabel), which keeps far images out, beside z(joint), and of z(margin) beside z(Mahalanobis). Chosen there."""


def learn(images: IdImages) -> State:
    """The statistics and exemplars of ID images, and centre and spread [4] of all parts over the held-out ones."""
    learned = id_statistics(images.features, images.labels) | exemplars(images.features, images.labels)
    held_out = _raw(images.held_out, learned)
    return learned | {"centres": held_out.mean(0), "spreads": held_out.std(0).clamp_min(1e-12)}


def fused_score(seen: ScoreInput) -> Tensor:
    """A soft maximum, s log(exp(t / s) + exp(i / s)) - s log 2, of two pieces of evidence [B]; unbounded.

    t = z(joint) + w z(NegLabel), of texts; i = z(Mahalanobis) + v z(margin), of ID images (`parts`). Images unlike the
    run's own, such as drawings of another style, have a very low i that says nothing about their class, and then t
    alone decides. A sum would let i drown it.
    """
    import math

    each = parts(seen)
    evidence, more = each[:, :2], each[:, 2:]
    if more.shape[1]:
        evidence = evidence + more * each.new_tensor(WEIGHTS)
    return SOFTNESS * ((evidence / SOFTNESS).logsumexp(dim=-1) - math.log(2))


def parts(seen: ScoreInput) -> Tensor:
    """z of `PARTS` [B, 4], or of the first two: in standard deviations from the mean of held-out ID images."""
    return (_raw(seen, seen.state) - seen.state["centres"]) / seen.state["spreads"]


def _raw(seen: ScoreInput, learned: Mapping[str, Tensor]) -> Tensor:
    """The scores of `PARTS` [B, 4], without the last two where no exemplars were learned."""
    import torch

    columns = [joint_score(seen.id_logits, seen.negatives), relative_mahalanobis(seen.features, learned)]
    if "exemplars" in learned:
        columns += [neglabel_score(seen.id_logits, seen.negatives, seen.groups), class_margin(seen.features, learned)]
    return torch.stack(columns, dim=-1)
