"""The paper's policy: the scene without its subject."""

from __future__ import annotations

from collections.abc import Sequence

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts.base import Painting, fill_prompt


class ContextPolicy:
    """Paints what the describer names beside the subject."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.describer

    def paint(self, source: SourceImage, context: str, classes: Sequence[str], seed: int) -> Painting:
        return Painting(fill_prompt(self.settings, context))
