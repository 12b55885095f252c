"""The fused score: what texts say and what ID images say, on one scale; one piece of evidence is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synood_ray.scores.base import IdImages, ScoreInput, State
from synood_ray.scores.joint import joint_score, relative_joint, relative_texts
from synood_ray.scores.mahalanobis import background_distance, id_statistics, relative_mahalanobis
from synood_ray.scores.margin import class_margin, exemplars
from synood_ray.scores.neglabel import neglabel_score

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("joint", "mahalanobis", "neglabel", "margin", "relative_joint", "likeness")
"""The first two were all that the score had at first, then it had four; detectors and runs of that time keep it so."""

SOFTNESS = 2.0
"""Of the maximum; towards infinity it is the mean. Chosen on the validation sets of the miniature world's three regimes
(docs/results.md): the sum loses 2 to 8 points near where the tests' drawings are of a new family, this less than 1."""

TEXTS, IMAGES = (0.7, 0.0, 0.15, 0.0, 0.7, 0.1), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
"""Weights of the parts in what texts say and in what ID images say; NegLabel and likeness to ID images at large keep
far images out of the former. Chosen there."""
TEXTS_BEFORE = 1.0, 0.0, 0.25, 0.0
"""Of the first four parts."""


def learn(images: IdImages) -> State:
    """What the parts learn of ID images and texts, and centre and spread [6] of all parts over the held-out ones.

    Raises ValueError where there are no texts.
    """
    if images.held_out.texts is None:
        raise ValueError("texts of classes and negative labels are needed")
    learned = id_statistics(images.features, images.labels) | exemplars(images.features, images.labels)
    learned |= relative_texts(*images.held_out.texts)
    held_out = _raw(images.held_out, learned)
    return learned | {"centres": held_out.mean(0), "spreads": held_out.std(0).clamp_min(1e-12)}


def fused_score(seen: ScoreInput) -> Tensor:
    """A soft maximum, s log(exp(t / s) + exp(i / s)) - s log 2, of two pieces of evidence [B]; unbounded.

    t, of texts: `TEXTS` of z(joint), z(relative joint), z(NegLabel) and z(likeness); i, of ID images: z(Mahalanobis)
    and z(margin) (`parts`). Images unlike the run's own, such as drawings of another style, have a very low i that says
    nothing about their class, and then t alone decides. A sum would let i drown it.
    """
    import math

    each = parts(seen)
    count = each.shape[1]
    texts = TEXTS if count == len(TEXTS) else TEXTS_BEFORE[:count]
    evidence = each @ each.new_tensor([texts, IMAGES[:count]]).T
    return SOFTNESS * ((evidence / SOFTNESS).logsumexp(dim=-1) - math.log(2))


def parts(seen: ScoreInput) -> Tensor:
    """z of `PARTS` [B, 6], or of the first of them: in standard deviations from the mean of held-out ID images."""
    return (_raw(seen, seen.state) - seen.state["centres"]) / seen.state["spreads"]


def _raw(seen: ScoreInput, learned: Mapping[str, Tensor]) -> Tensor:
    """The scores of `PARTS` [B, 6], without those that nothing was learned for."""
    import torch

    features = seen.features
    columns = [joint_score(seen.id_logits, seen.negatives), relative_mahalanobis(features, learned)]
    if "exemplars" in learned:
        columns += [neglabel_score(seen.id_logits, seen.negatives, seen.groups), class_margin(features, learned)]
    if "relative_text" in learned:
        columns += [relative_joint(features, seen.id_logits.shape[-1], learned)]
        columns += [-background_distance(features, learned)]
    return torch.stack(columns, dim=-1)
