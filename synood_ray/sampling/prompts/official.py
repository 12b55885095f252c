"""The released prompt of SynOOD (ICCV 2025): the beginning of the describer's answer, as it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts.base import Painting
from synood_ray.sampling.relatives import Relatives

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Context

PROMPT = "A photo only remain {}."
LENGTH = 73
"""Characters of the answer, wherever in a word that ends."""


class OfficialPolicy:
    """Paints the raw answer's first 73 characters: words of the subject stay, ``describer.prompt`` is not used."""

    def __init__(self, settings: Settings, relatives: Relatives) -> None:
        pass

    def paint(self, source: SourceImage, context: Context, classes: Sequence[str], seed: int) -> Painting:
        return Painting(prompt=PROMPT.format(context.raw[:LENGTH]), policy="official")
