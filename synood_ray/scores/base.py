"""What an OOD score is: a function of what CLIP sees in an image, and what it needs besides the class logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LOGIT_SCALE = 100.0
"""Logits are this many times the cosine, whatever temperature the checkpoint learned (NegLabel, MCM, SynOOD)."""


ROWS = 4096
"""Rows that `by_rows` takes at once: logits of 4096 images to 10,000 labels are 160 MB."""

POOL = "pool"
"""In a state: unit text features [P, D] of CSP's negative labels."""


def by_rows(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """A function of rows [N, …] that answers each by itself: `ROWS` at a time, as what it makes of all is too large."""
    import torch

    return torch.cat([function(part) for part in rows.split(ROWS)])


class Need(Enum):
    """What a score needs beyond class logits; a classifier without text has none of it."""

    COSINES = "class logits that are 100 times a cosine"
    NEGATIVES = "negative labels"
    ID_IMAGES = "at least two ID images of every class"
    POOL = "CSP's pool of negative labels"


@dataclass(frozen=True)
class ScoreInput:
    """What a score may look at, for B images.

    id_logits [B, C]: of the ID classes; negative_logits [B, M]: of the negative labels, where there are such. Of a CLIP
    both are 100 cos. frozen [B, D]: features of the frozen CLIP, of unit length. temperature: the setting
    ``scorer.temperature``; groups: ``labels.groups``. state: what the score learned from ID images (`Score.learn`).
    unit [B, D]: features that the logits are of; texts: those of the classes [C, D] and of the negative labels [M, D].
    """

    id_logits: Tensor
    negative_logits: Tensor | None = None
    frozen: Tensor | None = None
    temperature: float = 1.0
    groups: int = 100
    state: Mapping[str, Tensor] = field(default_factory=dict)
    unit: Tensor | None = None
    texts: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of_features(
        cls,
        unit: Tensor,
        id_text: Tensor,
        negative_text: Tensor | None = None,
        *,
        frozen: Tensor | None = None,
        temperature: float = 1.0,
        groups: int = 100,
    ) -> ScoreInput:
        """From image features [B, D] and text features [C, D], [M, D], all of unit length and on one device.

        frozen [B, D]: where unit is projected, the features before the projector.
        """
        scaled = LOGIT_SCALE * unit
        negative_logits = None if negative_text is None else scaled @ negative_text.T
        seen = cls(scaled @ id_text.T, negative_logits, unit if frozen is None else frozen, temperature, groups)
        return replace(seen, unit=unit, texts=None if negative_text is None else (id_text, negative_text))

    @property
    def negatives(self) -> Tensor:
        """The negative labels' logits [B, M]; raises ValueError where there are none."""
        if self.negative_logits is None:
            raise ValueError("negative labels are needed")
        return self.negative_logits

    @property
    def features(self) -> Tensor:
        """The frozen CLIP's unit features [B, D]; raises ValueError where there are none."""
        if self.frozen is None:
            raise ValueError("features of a CLIP are needed")
        return self.frozen

    @property
    def projected(self) -> Tensor:
        """The unit features [B, D] that the logits are of; raises ValueError where there are none."""
        if self.unit is None:
            raise ValueError("features of a CLIP are needed")
        return self.unit

    @property
    def logits(self) -> Tensor:
        """All logits [B, C + M], ID classes first."""
        import torch

        return self.id_logits if self.negative_logits is None else torch.cat([self.id_logits, self.negatives], dim=-1)


@dataclass(frozen=True)
class IdImages:
    """What scores learn from: unit features [N, D] of the frozen CLIP and labels [N] of ID images, and what is seen of
    held-out ones, H of them."""

    features: Tensor
    labels: Tensor
    held_out: ScoreInput


State = dict[str, "Tensor"]
"""What a score has learned, by name; small enough to be stored in a detector."""


def _itself(score: Tensor) -> Tensor:
    return score


@dataclass(frozen=True)
class Score:
    """One OOD score, higher = more ID.

    function: what is seen of B images -> [B], in the logits' dtype and on their device.
    summary: one line for help and report; paper: where it is from.
    prompts: of an ID class, averaged, as the paper has them; none: the paper uses no text.
    learn: for scores that need ID images, what `function` finds as ``state``.
    share: a rising function that takes the score into (0, 1), as detectors answer; None: a sigmoid of the score in
    standard deviations of held-out ID images.
    parts: for scores that are made of others, these, by name: [B] each, as they go in.
    differentiable: whether it has a gradient with respect to the image, which sampling follows.
    """

    function: Callable[[ScoreInput], Tensor]
    summary: str
    paper: str
    prompts: tuple[str, ...] = ()
    needs: frozenset[Need] = frozenset()
    learn: Callable[[IdImages], State] | None = None
    share: Callable[[Tensor], Tensor] | None = _itself
    differentiable: bool = True
    parts: Callable[[ScoreInput], dict[str, Tensor]] | None = None

    def __call__(self, seen: ScoreInput) -> Tensor:
        return self.function(seen)

    def learned(self, images: IdImages, pool: Tensor | None = None) -> State:
        """The state of this score; empty for most. pool: for the score that needs one (`Need.POOL`)."""
        state = self.learn(images) if self.learn else {}
        if Need.POOL in self.needs:
            if pool is None:
                raise ValueError(f"{Need.POOL.value} is needed")
            state |= {POOL: pool}
        if self.share is None:
            values = self(replace(images.held_out, state=state))
            state |= {"centre": values.mean(), "spread": values.std().clamp_min(1e-12)}
        return state

    def answer(self, seen: ScoreInput) -> Tensor:
        """The score as a detector gives it, in (0, 1)."""
        score = self(seen)
        if self.share is not None:
            return self.share(score)
        return ((score - seen.state["centre"]) / seen.state["spread"]).sigmoid()
