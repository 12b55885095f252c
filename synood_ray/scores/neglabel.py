"""The grouped NegLabel score: the ID classes' logits [B, C] against the negative labels' [B, M]."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def group_order(n_negatives: int, groups: int = 100) -> Tensor:
    """Which negative labels make up which group: int64 indices [G, M // G] on the CPU, G = min(groups, M).

    The M mod G last labels are dropped, the others are permuted as ``torch.manual_seed(0); torch.randperm(…)``
    would permute them. Raises ValueError without negative labels or groups.
    """
    import torch

    if n_negatives < 1 or groups < 1:
        raise ValueError(f"the grouped score needs negative labels and groups, got {n_negatives} and {groups}")
    groups = min(groups, n_negatives)
    kept = n_negatives - n_negatives % groups
    return torch.randperm(kept, generator=torch.Generator().manual_seed(0)).view(groups, -1)


def neglabel_score(id_logits: Tensor, negative_logits: Tensor, groups: int = 100) -> Tensor:
    """Grouped NegLabel score, in (0, 1): the ID share of the softmax over all ID labels and one group of negatives,

        mean over groups g of  sum_ID exp(l) / (sum_ID exp(l) + sum_g exp(l)),

    with the groups of `group_order`. Jiang et al., "Negative label guided OOD detection with pretrained
    vision-language models", ICLR 2024, with the grouping strategy of its section 3.
    """
    order = group_order(negative_logits.shape[-1], groups).to(negative_logits.device)
    id_mass = id_logits.logsumexp(dim=-1)
    group_mass = negative_logits[..., order].logsumexp(dim=-1)
    return (id_mass.unsqueeze(-1) - group_mass).sigmoid().mean(dim=-1)
