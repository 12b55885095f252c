"""The paper's policy: the scene without its subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts.base import Painting, fill_prompt
from synood_ray.sampling.relatives import Relatives

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Context


class ContextPolicy:
    """Paints what the describer names beside the subject."""

    def __init__(self, settings: Settings, relatives: Relatives) -> None:
        self.settings = settings.describer

    def paint(self, source: SourceImage, context: Context, classes: Sequence[str], seed: int) -> Painting:
        return Painting(prompt=fill_prompt(self.settings, context.text), policy="context")
