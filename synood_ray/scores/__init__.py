"""Every OOD score, in one table: the scorer, the evaluation, the detector, the report and the help read it.

Importing it loads no torch. How to add a score: docs/extending.md.
"""

from __future__ import annotations

from synood_ray.scores.base import LOGIT_SCALE, Need, Score, ScoreInput
from synood_ray.scores.logits import energy, maxlogit, mcm, msp
from synood_ray.scores.neglabel import neglabel_score

__all__ = ["LOGIT_SCALE", "SCORES", "Need", "Score", "ScoreInput"]

SCORES: dict[str, Score] = {
    "mcm": Score(
        lambda seen: mcm(seen.id_logits),
        summary="maximum concept matching: largest softmax of the cosines",
        paper="Ming et al., NeurIPS 2022",
        prompt="a photo of a {}.",
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
    ),
    "maxlogit": Score(
        lambda seen: maxlogit(seen.id_logits),
        summary="largest logit",
        paper="Hendrycks et al., ICML 2022",
    ),
    "neglabel": Score(
        lambda seen: neglabel_score(seen.id_logits, seen.negatives, seen.groups),
        summary="share of the softmax that the ID classes take from groups of negative labels",
        paper="Jiang et al., ICLR 2024",
        prompt="the nice {}",
        needs=frozenset({Need.NEGATIVES}),
    ),
}
"""Names in settings and in evaluation.json, in the order of tables and plots."""
