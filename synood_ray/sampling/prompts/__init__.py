"""The prompt policies by name, as `prompts.policy` has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts.base import Painting, Policy, chance
from synood_ray.sampling.prompts.context import ContextPolicy
from synood_ray.sampling.prompts.neighbour import NeighbourPolicy
from synood_ray.sampling.prompts.official import OfficialPolicy
from synood_ray.sampling.prompts.pairs import PairPolicy
from synood_ray.sampling.relatives import Relatives

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Context


class MixPolicy:
    """Each sample by one of several policies, drawn by its seed."""

    def __init__(self, settings: Settings, relatives: Relatives) -> None:
        shares = {name: weight for name, weight in settings.prompts.mix.items() if weight > 0}
        self.policies = [POLICIES[name](settings, relatives) for name in shares]
        self.weights = list(shares.values())

    def paint(self, source: SourceImage, context: Context, classes: Sequence[str], seed: int) -> Painting:
        (policy,) = chance(seed, "mix").choices(self.policies, self.weights)
        return policy.paint(source, context, classes, seed)


POLICIES: dict[str, Callable[[Settings, Relatives], Policy]] = {
    "context": ContextPolicy,
    "blend": partial(PairPolicy, "blend"),
    "switch": partial(PairPolicy, "switch"),
    "neighbour": NeighbourPolicy,
    "official": OfficialPolicy,
    "mix": MixPolicy,
}
