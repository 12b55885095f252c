"""What a prompt policy is: it says what is painted in the subject's place."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from synood_ray.config.models import DescriberSettings
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from synood_ray.models.describers.base import Context
    from synood_ray.models.inpainters.base import Prompts


@dataclass(frozen=True, slots=True)
class Painting:
    """What is painted, as the sample's row tells it.

    prompt: the diffusion model's text; policy: who chose it; names: of the things that are painted, none for a scene
    without a subject; weight: the second name's share, 0 where there is one; partner: the label of the ID class that is
    painted besides the source's own, if any: a finished sample must not show it either.

    A policy that takes more than one text has a subclass of its own: it holds whatever is painted with, and `condition`
    makes the model's conditions of it.
    """

    prompt: str
    policy: str = ""
    names: tuple[str, ...] = ()
    weight: float = 0.0
    partner: int | None = None

    def condition(self, encode: Callable[[str], Prompts]) -> Prompts:
        """Conditions of one sample (batch of 1). encode: the inpainter's own conditions of one text."""
        return encode(self.prompt)


class Policy(Protocol):
    """Made once per worker from the run's settings and what its classes are related to."""

    def paint(self, source: SourceImage, context: Context, classes: Sequence[str], seed: int) -> Painting:
        """What is painted in the place of this source's subject: a pure function of what is given.

        context: what the source shows beside its subject; classes: names of the ID classes, by label; seed: the
        sample's own. Test sets and their names are none of a policy's business.
        """
        ...


def fill_prompt(settings: DescriberSettings, words: str) -> str:
    """The text that asks the diffusion model for these words."""
    return settings.prompt.replace("{context}", words)


def own_painting(settings: DescriberSettings, source: SourceImage) -> Painting:
    """What a companion is painted with, whatever the policy: the source's own class."""
    return Painting(prompt=fill_prompt(settings, source.name), names=(source.name,))


def chance(seed: int, policy: str) -> random.Random:
    """The draws of one sample, the same on every machine; policy: so that two policies do not draw alike."""
    return random.Random(f"{policy} {seed}")


def words(name: str, context: Context, beside: bool) -> str:
    """The words that ask for a thing; beside: with what the source shows beside its subject."""
    return f"{name}, {context.text}" if beside and context.text else name
