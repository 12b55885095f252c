"""The Ray actors of a farm: describer, sampler, scorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synood_ray.farm.actors.describer import DescriberActor
from synood_ray.farm.actors.sampler import SamplerActor
from synood_ray.farm.actors.scorer import ScorerActor


@dataclass(frozen=True)
class Actors:
    """The actor classes of a farm. Others with the same methods measure or test it without models.

    ``functools.partial(SomeSampler, speed=2)`` gives a constructor arguments of its own, by name; they are pickled.
    """

    describer: Callable[..., Any] = DescriberActor
    sampler: Callable[..., Any] = SamplerActor
    scorer: Callable[..., Any] = ScorerActor


REAL = Actors()
