"""The joint score: how likely an image is one certain ID class, among all ID classes and negative labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 2.0


def joint_score(id_logits: Tensor, negative_logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """max_c log softmax(l / temperature)_c over the ID classes [B, C] and all negative labels [B, M], below 0.

    As in NegLabel the negatives take mass away, but an image that is torn between two ID classes scores lower than one
    that is surely of one of them; ungrouped.
    """
    id_mass, negative_mass = ((logits / temperature).logsumexp(dim=-1) for logits in (id_logits, negative_logits))
    return id_logits.amax(dim=-1) / temperature - id_mass.logaddexp(negative_mass)
