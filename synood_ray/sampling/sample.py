"""One image on its way to the boundary: what is asked, what is known of it so far, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synood_ray.models.inpainters.base import Canvas, Prompts
    from synood_ray.sampling.prompts.base import Painting


@dataclass(frozen=True, slots=True)
class RefineTask:
    """One image to bring to the boundary: image [3, H, W] in [0, 1], mask [1, H, W] with 1 = repaint.

    refine=False asks for one pass and no more: a regenerated ID companion, which carries the generator's
    artefacts and is otherwise an ID image (so that a detector does not learn the artefacts).
    """

    key: str
    image: Tensor
    mask: Tensor
    painting: Painting
    seed: int
    refine: bool = True


@dataclass(frozen=True, slots=True)
class Kept:
    """The round of a sample that is kept, by its recipe's choice: as a rule the one nearest the boundary.

    image: [3, H, W] in [0, 1]; logits [C + M]: what the scorer saw in it, over ID classes and negative labels;
    feature [D]: its CLIP's, of unit length (a classifier: D = 0).
    """

    image: Tensor
    margin: float
    logits: Tensor
    feature: Tensor


@dataclass(frozen=True, slots=True)
class Refined(Kept):
    """What became of a task: the round that was kept, on the CPU, and the way there.

    in_band: whether that round is near the boundary; a recipe may accept others too (`Recipe.accepts`).
    """

    key: str
    score_trace: list[float]
    margin_trace: list[float]
    in_band: bool

    @property
    def rounds(self) -> int:
        return len(self.score_trace)

    def is_finite(self) -> bool:
        """Whether image, logits and scores are numbers; half precision overflows."""
        scores = all(math.isfinite(value) for value in (*self.score_trace, *self.margin_trace))
        return scores and bool(self.image.isfinite().all()) and bool(self.logits.isfinite().all())


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
    moved: bool = False  # whether it has been moved since its last full pass
    judged: bool = False  # whether z's score is in the trace
    gradient: Tensor | None = None  # of the score or the recipe's objective, with respect to z_0
    kept: Kept | None = None
    memory: Any = None  # the recipe's own
    scores: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    def put(self, z: Tensor, due: Due) -> None:
        """Begin a round's judgement: z_0 is there, and waits for its score."""
        self.z, self.due, self.judged = z, due, False
