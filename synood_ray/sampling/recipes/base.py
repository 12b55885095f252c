"""What a recipe is: how a sample gets to the boundary. The loop (`sampling.refine`) batches, and asks for the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from synood_ray.config.sampling import SamplingSettings
from synood_ray.sampling.calibration import Calibration
from synood_ray.sampling.sample import Due, Refined, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.inpainters.base import Inpainter
    from synood_ray.models.scorer import Objective


INSIDE = 0.25  # from the band's edge, ID standard deviations


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the denoiser is sent: the settings of a `Pass`, which says what they mean."""

    steps: int
    strength: float
    guidance: float
    guided: float = 1.0


class Recipe(ABC):
    """One way to bring samples into the band. `move` must be written; the rest has the answers of a plain recipe.

    A recipe sees single samples, or the group of a batch; what it does to a sample must not depend on the others, not
    even by rounding: reductions are a sample's own. What it remembers of a sample it keeps in ``sample.memory``.
    """

    companions: ClassVar[bool] = True  # regenerate every source as an ID image too
    checks: ClassVar[bool] = True  # reject samples that still show their class
    policy: ClassVar[str | None] = None  # the prompt policy that it brings along; None: the run's
    squash: ClassVar[bool] = False  # images are squashed into the square, not cut

    def __init__(self, settings: SamplingSettings, calibration: Calibration, inpainter: Inpainter) -> None:
        self.settings, self.calibration, self.inpainter = settings, calibration, inpainter
        self.rounds = settings.rounds
        self.solver: str | None = settings.solver  # None: the model's own
        self.objective: Objective | None = None  # whose gradient `sample.gradient` is; None: the score's
        self.walks = {Due.PASS: Walk(settings.steps, settings.strength, settings.guidance, settings.guided)}

    @abstractmethod
    def move(self, group: list[Sample]) -> None:
        """Give samples that are not done what they do next: set ``due``, and what that begins with."""

    def mask(self, masks: Tensor) -> Tensor:
        """What is repainted [B, 1, H, W], 1 = repaint, of the masks that the settings name."""
        return masks

    def memory(self) -> Any:
        """What `Sample.memory` begins with."""
        return None

    def steers(self, sample: Sample) -> bool:
        """Whether the round that begins needs a gradient: it costs three times what looking alone does."""
        return False

    def prefers(self, sample: Sample, margin: float) -> bool:
        """Whether a round just judged becomes the one to keep: the one nearest to where the recipe wants it."""
        return sample.kept is None or self.distance(margin) < self.distance(sample.kept.margin)

    def distance(self, margin: float) -> float:
        """How far a margin is from the band, 0 inside, in ID standard deviations."""
        low, high = self.settings.band
        return max(low - margin, margin - high, 0.0)

    def in_band(self, margin: float) -> bool:
        """Whether this margin counts as near the boundary."""
        low, high = self.settings.band
        return low <= margin <= high

    def aim(self, margin: float) -> float:
        """Where in the band a sample outside of it is moved to: its nearest point, and some way in.

        The way in is `INSIDE`, or half of a band that has no room for it: of a narrow one it is the middle.
        """
        low, high = self.settings.band
        inside = min(INSIDE, (high - low) / 2)
        return min(max(margin, low + inside), high - inside)

    def done(self, sample: Sample) -> bool:
        """Whether a sample stops before it is out of rounds."""
        return self.in_band(sample.margins[-1])

    def accepts(self, refined: Refined) -> bool:
        """Whether a finished sample is good, the semantic check apart."""
        return refined.in_band
