"""One image on its way to the boundary: what is asked, what is known of it so far, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synood_ray.models.inpainters.base import Canvas, Prompts


@dataclass(frozen=True, slots=True)
class RefineTask:
    """One image to bring to the boundary: image [3, H, W] in [0, 1], mask [1, H, W] with 1 = repaint.

    refine=False asks for one pass and no more: a regenerated ID companion, which carries the generator's
    artefacts and is otherwise an ID image (so that a detector does not learn the artefacts).
    """

    key: str
    image: Tensor
    mask: Tensor
    prompt: str
    seed: int
    refine: bool = True


@dataclass(slots=True)
class Refined:
    """What became of a task. image: the round nearest the boundary (the last one for `official`), [3, H, W]."""

    key: str
    image: Tensor
    score_trace: list[float]
    margin_trace: list[float]
    margin: float
    accepted: bool

    @property
    def rounds(self) -> int:
        return len(self.score_trace)


class Due(Enum):
    """What a sample waits for."""

    PASS = "a full denoising pass"
    RESTART = "the one solver step that takes a moved sample back to the manifold"
    STEER = "decoder and scorer, and the score's gradient"
    LOOK = "decoder and scorer"


@dataclass(slots=True, eq=False)
class Sample:
    """A task in work; every tensor has a batch dimension of 1."""

    task: RefineTask
    canvas: Canvas
    prompt: Prompts
    generator: torch.Generator
    noise: Tensor
    latents: Tensor  # what the denoiser will begin with: the source, later the last round's result and a step
    z: Tensor  # z_0 of this round; before the first pass the source's
    due: Due = Due.PASS
    judged: bool = False  # whether z's score is in the trace
    gradient: Tensor | None = None  # dS/dz_0
    below: tuple[float, Tensor] | None = None  # score and z_0 of the last round on this side of the boundary
    above: tuple[float, Tensor] | None = None
    stepped: tuple[float, Tensor] | None = None  # score and z_0 of the round that the last step began with
    image: Tensor | None = None  # of the round to keep
    scores: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    def put(self, z: Tensor, due: Due) -> None:
        """Begin a round's judgement: z_0 is there, and waits for its score."""
        self.z, self.due, self.judged = z, due, False

    def bracket(self, tau: float) -> None:
        """Take the round that was judged last in as one end of the bracket around the boundary.

        Illinois rule: an end that stays a second time counts as half as far from the boundary, or the other end would
        creep towards it (the score bends).
        """
        score, below, above = self.scores[-1], self.below, self.above
        before = self.scores[-2] if below and above else tau
        if score < tau:
            self.below = score, self.z
            self.above = (tau + (above[0] - tau) / 2, above[1]) if above and before < tau else above
        else:
            self.above = score, self.z
            self.below = (tau + (below[0] - tau) / 2, below[1]) if below and before > tau else below
