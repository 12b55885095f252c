"""Every OOD score, in one table: the scorer, the evaluation, the detector, the report and the help read it.

Importing it loads no torch. How to add a score: docs/extending.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from synood_ray.scores.base import LOGIT_SCALE, POOL, IdImages, Need, Score, ScoreInput, State
from synood_ray.scores.csp import NOUN_PROMPTS, csp
from synood_ray.scores.fused import PARTS, fused_score, parts
from synood_ray.scores.fused import learn as learn_fused
from synood_ray.scores.joint import joint_score
from synood_ray.scores.logits import energy, maxlogit, mcm, msp
from synood_ray.scores.mahalanobis import id_statistics, relative_mahalanobis
from synood_ray.scores.margin import class_margin, exemplars
from synood_ray.scores.neglabel import neglabel_score

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FALLBACK", "LOGIT_SCALE", "POOL", "SCORES", "IdImages", "Need", "Score", "ScoreInput", "State", "lacking"]

SCORES: dict[str, Score] = {
    "mcm": Score(
        lambda seen: mcm(seen.id_logits),
        summary="maximum concept matching: largest softmax of the cosines",
        paper="Ming et al., NeurIPS 2022",
        prompts=("a photo of a {}.",),
        needs=frozenset({Need.COSINES}),
    ),
    "msp": Score(
        lambda seen: msp(seen.id_logits, seen.temperature),
        summary="maximum softmax probability of the logits",
        paper="Hendrycks & Gimpel, ICLR 2017",
    ),
    "energy": Score(
        lambda seen: energy(seen.id_logits, seen.temperature),
        summary="negative free energy: log-sum-exp of the logits",
        paper="Liu et al., NeurIPS 2020",
        share=None,
    ),
    "maxlogit": Score(
        lambda seen: maxlogit(seen.id_logits),
        summary="largest logit",
        paper="Hendrycks et al., ICML 2022",
        share=None,
    ),
    "neglabel": Score(
        lambda seen: neglabel_score(seen.id_logits, seen.negatives, seen.groups),
        summary="share of the softmax that the ID classes take from groups of negative labels",
        paper="Jiang et al., ICLR 2024",
        prompts=("the nice {}",),
        needs=frozenset({Need.NEGATIVES}),
    ),
    "csp": Score(
        csp,
        summary="NegLabel's score with nouns, and adjectives before superclasses, as negative labels",
        paper="Chen et al., NeurIPS 2024",
        prompts=NOUN_PROMPTS,
        needs=frozenset({Need.POOL}),
    ),
    "joint": Score(
        lambda seen: joint_score(seen.id_logits, seen.negatives),
        summary="probability of the nearest ID class among all classes and negative labels",
        paper="synood_ray, 2026",
        needs=frozenset({Need.NEGATIVES}),
        share=lambda score: score.exp(),
    ),
    "mahalanobis": Score(
        lambda seen: relative_mahalanobis(seen.features, seen.state),
        summary="relative Mahalanobis distance from the run's ID images, covariances shrunk",
        paper="Ren et al., 2021",
        needs=frozenset({Need.ID_IMAGES}),
        learn=lambda images: id_statistics(images.features, images.labels),
        share=None,
    ),
    "margin": Score(
        lambda seen: class_margin(seen.features, seen.state),
        summary="how much nearer the run's ID images of one class are than those of any other",
        paper="synood_ray, 2026",
        needs=frozenset({Need.ID_IMAGES}),
        learn=lambda images: exemplars(images.features, images.labels),
        share=None,
    ),
    "fused": Score(
        fused_score,
        summary="soft maximum of what texts (joint, NegLabel) and ID images (mahalanobis, margin) say",
        paper="synood_ray, 2026",
        needs=frozenset({Need.NEGATIVES, Need.ID_IMAGES}),
        learn=learn_fused,
        share=lambda score: score.sigmoid(),
        parts=lambda seen: dict(zip(PARTS, parts(seen).unbind(-1), strict=False)),
    ),
}
"""Names in settings and in evaluation.json, in the order of tables and plots."""

FALLBACK = "joint"
"""What takes the place of a score that needs more ID images than there are."""


def lacking(name: str, labels: Tensor, class_names: list[str]) -> str:
    """Why a score cannot be used with ID images of these labels [N], in words; "" if it can."""
    if Need.ID_IMAGES not in SCORES[name].needs:
        return ""
    counts = labels.bincount(minlength=len(class_names)).tolist()
    few = [f"{class_name!r} has {count}" for class_name, count in zip(class_names, counts, strict=True) if count < 2]
    return f"{name} needs {Need.ID_IMAGES.value}; {few[0]}" if few else ""
