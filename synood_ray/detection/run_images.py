"""Features of the images that a run was made from: read from what it keeps, or encoded, once for all who ask."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synood_ray.config import Settings
from synood_ray.detection.kept import Features, images_key, read_features
from synood_ray.errors import UserError
from synood_ray.records import SourceImage
from synood_ray.storage.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.models.clip import ClipModel

Say = Callable[[str], None]
"""Called with a line about what is being done."""


@dataclass(frozen=True)
class Encoded:
    """Un-normalised CLIP features [N, D] and labels [N] of images; how many more could not be read."""

    features: Tensor
    labels: np.ndarray
    skipped: int = 0


class RunImages:
    """A run's own images by a CLIP, as far as they are kept or can still be read."""

    def __init__(self, run: Run, settings: Settings, clip: ClipModel, say: Say) -> None:
        self.run, self.settings, self.clip, self.say = run, settings, clip, say

    @functools.cached_property
    def known(self) -> Encoded:
        """The ID images that the run was made from."""
        return self._encoded("id", "the run's ID images", self.run.sources())

    @functools.cached_property
    def calibration(self) -> Encoded:
        """The held-out ID images."""
        return self._encoded("calibration", "held-out images", self.run.held_out())

    def held_out(self) -> Tensor:
        """Features [H, D] of the held-out images. Raises UserError if there are no longer two of them."""
        if len(self.calibration.labels) < 2:
            raise UserError(
                f"{self.run.uri}: the run's calibration images are gone, which scores and thresholds are set on"
            )
        return self.calibration.features

    def learned_from(self) -> tuple[Tensor, Tensor, Tensor]:
        """What scores learn from: features [N, D] and labels [N] of the ID images, and `held_out`."""
        import torch

        return self.known.features, torch.from_numpy(self.known.labels), self.held_out()

    @functools.cached_property
    def _kept(self) -> Features | None:
        return read_features(self.run.store, images_key(self.run.store, self.clip))

    def _encoded(self, which: str, name: str, images: Sequence[SourceImage]) -> Encoded:
        """which: what the run keeps them as (`images_key`); name: of them, in words."""
        from synood_ray.detection.features import encode_sources

        used, skipped = list(images), 0
        if self._kept is not None:
            features = self._kept[which]
        else:
            self.say(f"{name}: encoding {len(images)} images")
            features, used, skips = encode_sources(self.clip, self.settings.data, used)
            skipped = len(skips)
        return Encoded(features, np.array([image.label for image in used], dtype=np.int64), skipped)
