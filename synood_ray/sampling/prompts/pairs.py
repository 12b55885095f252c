"""Two ID classes in one picture: what is half the one and half the other is neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synood_ray.config.sampling import PromptSettings
from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts.base import Painting, chance, fill_prompt, words
from synood_ray.sampling.relatives import Relatives

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Context
    from synood_ray.models.inpainters.base import Prompts


@dataclass(frozen=True)
class Way:
    """How two texts become one painting.

    weight: the partner's share, by the settings; told: both texts and that share in the row's words; join: the
    conditions of both, with that share.
    """

    weight: Callable[[PromptSettings], float]
    told: Callable[[str, str, float], str]
    join: Callable[[Prompts, Prompts, float], Prompts]


WAYS = {
    # both at once: a point between the two texts' embeddings
    "blend": Way(
        lambda prompts: prompts.weight,
        lambda own, other, weight: f"{1 - weight:g} {own} + {weight:g} {other}",
        lambda own, other, weight: own.blend(other, weight),
    ),
    # one after the other: the first steps compose the source's class, the rest paint the partner
    "switch": Way(
        lambda prompts: 1 - prompts.switch,
        lambda own, other, weight: f"{own}, from {1 - weight:g} of the steps on {other}",
        lambda own, other, weight: own.then(other, 1 - weight),
    ),
}
"""By the policy's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(Painting):
    """texts: what asks for the source's class, and for its partner; they are joined in the policy's way."""

    texts: tuple[str, str]

    def condition(self, encode: Callable[[str], Prompts]) -> Prompts:
        own, partner = (encode(text) for text in self.texts)
        return WAYS[self.policy].join(own, partner, self.weight)


class PairPolicy:
    """The partner is drawn by the sample's seed from the classes that are related to the source's. name: of a way."""

    def __init__(self, name: str, settings: Settings, relatives: Relatives) -> None:
        self.name, self.way = name, WAYS[name]
        self.settings, self.prompts, self.relatives = settings.describer, settings.prompts, relatives

    def paint(self, source: SourceImage, context: Context, classes: Sequence[str], seed: int) -> Painting:
        draw = chance(seed, self.name)
        across, beside = draw.random() < self.prompts.across, draw.random() < self.prompts.context
        related = self.relatives.partners[source.label]
        if across:
            strangers = self.relatives.strangers(source.label)
            related = [label for label in strangers if classes[label] != source.name] or related
        partner = draw.choice(related)
        names, weight = (source.name, classes[partner]), self.way.weight(self.prompts)
        own, other = (fill_prompt(self.settings, words(name, context, beside)) for name in names)
        prompt = self.way.told(own, other, weight)
        return Pair(prompt=prompt, policy=self.name, names=names, weight=weight, partner=partner, texts=(own, other))
