"""What a prompt policy is: it says what is painted in the subject's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from synood_ray.config.settings import DescriberSettings
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from synood_ray.models.inpainters.base import Prompts


@dataclass(frozen=True, slots=True)
class Painting:
    """What is painted. prompt: the diffusion model's text, as the sample's row shows it.

    A policy that takes more than one text has a subclass of its own: it holds whatever is painted with, and `condition`
    makes the model's conditions of it.
    """

    prompt: str

    def condition(self, encode: Callable[[str], Prompts]) -> Prompts:
        """Conditions of one sample (batch of 1). encode: the inpainter's own conditions of one text."""
        return encode(self.prompt)


class Policy(Protocol):
    """Made once per worker from the run's settings."""

    def paint(self, source: SourceImage, context: str, classes: Sequence[str], seed: int) -> Painting:
        """What is painted in the place of this source's subject: a pure function of what is given.

        context: what the source shows beside its subject, as words separated by ", "; classes: names of the ID
        classes, by label; seed: the sample's own. Test sets and their names are none of a policy's business.
        """
        ...


def fill_prompt(settings: DescriberSettings, words: str) -> str:
    """The text that asks the diffusion model for these words."""
    return settings.prompt.replace("{context}", words)


def own_painting(settings: DescriberSettings, source: SourceImage) -> Painting:
    """What a companion is painted with, whatever the policy: the source's own class."""
    return Painting(fill_prompt(settings, source.name))
