"""A thing that is no ID class and looks like one: a named neighbour of the source's class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts.base import Painting, chance, fill_prompt, words
from synood_ray.sampling.relatives import Relatives

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Context


class NeighbourPolicy:
    """Paints one of the neighbours that the describer named for the source, else of its class's; drawn by the sample's
    seed."""

    def __init__(self, settings: Settings, relatives: Relatives) -> None:
        self.settings, self.prompts, self.relatives = settings.describer, settings.prompts, relatives

    def paint(self, source: SourceImage, context: Context, classes: Sequence[str], seed: int) -> Painting:
        draw = chance(seed, "neighbour")
        names = context.neighbours or self.relatives.neighbours[source.label]
        name, beside = draw.choice(names), draw.random() < self.prompts.context
        prompt = fill_prompt(self.settings, words(name, context, beside))
        return Painting(prompt=prompt, policy="neighbour", names=(name,))
