"""Scores of the ID classes' logits alone: float tensors [B, C] -> [B]; of a CLIP, logits are 100 cos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synood_ray.scores.base import LOGIT_SCALE

if TYPE_CHECKING:
    from torch import Tensor


def mcm(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Maximum concept matching: max_c softmax(cos / temperature)_c, in (0, 1].

    Ming et al., "Delving into out-of-distribution detection with vision-language representations", NeurIPS 2022.
    The temperature is on cosines, as there (1 by default), so the logits are divided by 100 first.
    """
    return (logits / (LOGIT_SCALE * temperature)).softmax(dim=-1).amax(dim=-1)


def msp(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Maximum softmax probability: max_c softmax(logits / temperature)_c, in (0, 1].

    Hendrycks & Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017.
    """
    return (logits / temperature).softmax(dim=-1).amax(dim=-1)


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Negative free energy: T logsumexp_c(logits / T), unbounded, at least max_c logits.

    Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020.
    """
    return temperature * (logits / temperature).logsumexp(dim=-1)


def maxlogit(logits: Tensor) -> Tensor:
    """Largest logit: max_c logits_c, unbounded.

    Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", ICML 2022.
    """
    return logits.amax(dim=-1)
