"""What an OOD score is: a function of what CLIP sees in an image, and what it needs besides the class logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOGIT_SCALE = 100.0
"""Logits are this many times the cosine, whatever temperature the checkpoint learned (NegLabel, MCM, SynOOD)."""


class Need(Enum):
    """What a score needs beyond class logits; a classifier without text has none of it."""

    COSINES = "class logits that are 100 times a cosine"
    NEGATIVES = "negative labels"


@dataclass(frozen=True)
class ScoreInput:
    """What a score may look at, for B images.

    id_logits [B, C]: of the ID classes; negative_logits [B, M]: of the negative labels, where there are such. Of a CLIP
    both are 100 cos. temperature: the setting ``scorer.temperature``; groups: ``labels.groups``.
    """

    id_logits: Tensor
    negative_logits: Tensor | None = None
    temperature: float = 1.0
    groups: int = 100

    @classmethod
    def of_features(
        cls,
        unit: Tensor,
        id_text: Tensor,
        negative_text: Tensor | None = None,
        temperature: float = 1.0,
        groups: int = 100,
    ) -> ScoreInput:
        """From image features [B, D] and text features [C, D], [M, D], all of unit length and on one device."""
        scaled = LOGIT_SCALE * unit
        negative_logits = None if negative_text is None else scaled @ negative_text.T
        return cls(scaled @ id_text.T, negative_logits, temperature, groups)

    @property
    def negatives(self) -> Tensor:
        """The negative labels' logits [B, M]; raises ValueError where there are none."""
        if self.negative_logits is None:
            raise ValueError("negative labels are needed")
        return self.negative_logits

    @property
    def logits(self) -> Tensor:
        """All logits [B, C + M], ID classes first."""
        import torch

        return self.id_logits if self.negative_logits is None else torch.cat([self.id_logits, self.negatives], dim=-1)


@dataclass(frozen=True)
class Score:
    """One OOD score, higher = more ID.

    function: what is seen of B images -> [B], in the logits' dtype and on their device.
    summary: one line for help and report; paper: where it is from.
    prompt: of an ID class, as the paper has it; None: the paper uses no text.
    differentiable: whether it has a gradient with respect to the image, which sampling follows.
    """

    function: Callable[[ScoreInput], Tensor]
    summary: str
    paper: str
    prompt: str | None = None
    needs: frozenset[Need] = frozenset()
    differentiable: bool = True

    def __call__(self, seen: ScoreInput) -> Tensor:
        return self.function(seen)
