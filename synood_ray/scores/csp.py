"""CSP's score: the grouped NegLabel score with a pool of its own (`synood_ray.negatives.csp`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synood_ray.scores.base import LOGIT_SCALE, POOL, ScoreInput
from synood_ray.scores.neglabel import neglabel_score

if TYPE_CHECKING:
    from torch import Tensor

NOUN_PROMPTS = (
    *("a close-up photo of the nice {}.", "a photo with the nice {}.", "a good photo with the nice {}."),
    *("a photo of the nice {}.", "{}", "the {}", "the good {}", "the nice {}"),
)
"""Of ID classes and nouns."""


def csp(seen: ScoreInput) -> Tensor:
    """mean over groups g of the pool of  sum_ID exp(l) / (sum_ID exp(l) + sum_g exp(l)),  in (0, 1).

    Chen et al., NeurIPS 2024, with the grouping of its released configuration (100 groups, temperature 1 on 100 cos).
    """
    pool = LOGIT_SCALE * seen.projected @ seen.state[POOL].to(seen.projected).T
    return neglabel_score(seen.id_logits, pool, seen.groups)
