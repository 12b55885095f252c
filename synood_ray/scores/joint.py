"""The joint score: how likely an image is one certain ID class, among all ID classes and negative labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

TEMPERATURE = 2.0
RELATIVE_TEMPERATURE = 0.05
"""Of the relative score, whose logits are cosines; .03 to .1 differ little (docs/results.md)."""


def joint_score(id_logits: Tensor, negative_logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """max_c log softmax(l / temperature)_c over the ID classes [B, C] and all negative labels [B, M], below 0.

    As in NegLabel the negatives take mass away, but an image that is torn between two ID classes scores lower than one
    that is surely of one of them; ungrouped.
    """
    id_mass, negative_mass = ((logits / temperature).logsumexp(dim=-1) for logits in (id_logits, negative_logits))
    return id_logits.amax(dim=-1) / temperature - id_mass.logaddexp(negative_mass)


def relative_texts(id_text: Tensor, negative_text: Tensor) -> dict[str, Tensor]:
    """What `relative_joint` needs of text features [C, D], [M, D]: all of them, as unit vectors from the classes' mean;
    relative_text [C + M, D]."""
    import torch
    from torch.nn import functional as F

    return {"relative_text": F.normalize(torch.cat([id_text, negative_text]) - id_text.mean(0), dim=-1)}


def relative_joint(features: Tensor, classes: int, state: Mapping[str, Tensor]) -> Tensor:
    """`joint_score` [B] of the cosines between features [B, D] and texts, the first of which are the ID classes', both
    seen from the middle of what is ID: images from the mean ID image, ``origin`` [D], texts from the mean class text.

    All images of a CLIP lie in a narrow cone, and all texts in another. What images have in common says nothing about
    their class, but some texts are nearer to it than others. Ours; cf. Mu & Viswanath, "All-but-the-top", ICLR 2018.
    """
    from torch.nn import functional as F

    cosines = F.normalize(features - state["origin"], dim=-1) @ state["relative_text"].T
    return joint_score(cosines[:, :classes], cosines[:, classes:], RELATIVE_TEMPERATURE)
