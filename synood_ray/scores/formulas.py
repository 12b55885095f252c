"""OOD scores on CLIP logits. Higher always means more in-distribution (ID); every score is differentiable.

Logits are 100 times the cosine between an image and a text feature: float tensors [B, C] (ID classes) and
[B, M] (negative labels). Scores come back as [B], in the logits' dtype and on their device.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOGIT_SCALE = 100.0
"""Logits are this many times the cosine (CLIP's learned scale, clamped)."""


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
    return temperature * torch.logsumexp(logits / temperature, dim=-1)


def group_order(n_negatives: int, groups: int = 100, seed: int = 0) -> Tensor:
    """Which negative labels make up which group: int64 indices [G, M // G] on the CPU, G = min(groups, M).

    The M mod G last labels are dropped, the others are permuted as ``torch.manual_seed(seed); torch.randperm(…)``
    would permute them. Raises ValueError without negative labels or groups.
    """
    if n_negatives < 1 or groups < 1:
        raise ValueError(f"the grouped score needs negative labels and groups, got {n_negatives} and {groups}")
    groups = min(groups, n_negatives)
    kept = n_negatives - n_negatives % groups
    return torch.randperm(kept, generator=torch.Generator().manual_seed(seed)).view(groups, -1)


def neglabel_score(id_logits: Tensor, negative_logits: Tensor, groups: int = 100, seed: int = 0) -> Tensor:
    """Grouped NegLabel score, in (0, 1): the ID share of the softmax over all ID labels and one group of negatives,

        mean over groups g of  sum_ID exp(l) / (sum_ID exp(l) + sum_g exp(l)),

    with the groups of `group_order`. Jiang et al., "Negative label guided OOD detection with pretrained
    vision-language models", ICLR 2024, with the grouping strategy of its section 3.
    """
    order = group_order(negative_logits.shape[-1], groups, seed).to(negative_logits.device)
    id_mass = torch.logsumexp(id_logits, dim=-1)
    group_mass = torch.logsumexp(negative_logits[..., order], dim=-1)
    return torch.sigmoid(id_mass.unsqueeze(-1) - group_mass).mean(dim=-1)
