"""Two ID classes in one picture: what is half the one and half the other is neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts.base import Painting, chance, fill_prompt, words
from synood_ray.sampling.relatives import Relatives

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Context
    from synood_ray.models.inpainters.base import Prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(Painting):
    """texts: what asks for the source's class, and for its partner."""

    texts: tuple[str, str]


class Blend(Pair):
    """Both at once: a point between the two texts' embeddings."""

    __slots__ = ()

    def condition(self, encode: Callable[[str], Prompts]) -> Prompts:
        own, partner = (encode(text) for text in self.texts)
        return own.blend(partner, self.weight)


class Switch(Pair):
    """One after the other: the first steps compose the source's class, the rest paint the partner."""

    __slots__ = ()

    def condition(self, encode: Callable[[str], Prompts]) -> Prompts:
        own, partner = (encode(text) for text in self.texts)
        return own.then(partner, 1 - self.weight)


class PairPolicy(ABC):
    """The partner is drawn by the sample's seed from the classes that are related to the source's."""

    name: ClassVar[str]

    def __init__(self, settings: Settings, relatives: Relatives) -> None:
        self.settings, self.prompts, self.relatives = settings.describer, settings.prompts, relatives

    def paint(self, source: SourceImage, context: Context, classes: Sequence[str], seed: int) -> Painting:
        draw = chance(seed, self.name)
        across, beside = draw.random() < self.prompts.across, draw.random() < self.prompts.context
        related = self.relatives.partners[source.label]
        others = [label for label in self.relatives.strangers(source.label) if classes[label] != source.name]
        partner = draw.choice(others or related if across else related)
        names = source.name, classes[partner]
        own, other = (fill_prompt(self.settings, words(name, context, beside)) for name in names)
        return self.pair(own, other, names, partner)

    @abstractmethod
    def pair(self, own: str, other: str, names: tuple[str, str], partner: int) -> Pair:
        """The painting of these two texts."""


class BlendPolicy(PairPolicy):
    """Both classes at once."""

    name = "blend"

    def pair(self, own: str, other: str, names: tuple[str, str], partner: int) -> Pair:
        weight = self.prompts.weight
        prompt = f"{1 - weight:g} {own} + {weight:g} {other}"
        return Blend(prompt=prompt, policy=self.name, names=names, weight=weight, partner=partner, texts=(own, other))


class SwitchPolicy(PairPolicy):
    """The source's class for the first steps, then the partner's."""

    name = "switch"

    def pair(self, own: str, other: str, names: tuple[str, str], partner: int) -> Pair:
        weight = 1 - self.prompts.switch
        prompt = f"{own}, from {self.prompts.switch:g} of the steps on {other}"
        return Switch(prompt=prompt, policy=self.name, names=names, weight=weight, partner=partner, texts=(own, other))
