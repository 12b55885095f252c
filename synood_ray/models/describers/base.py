"""What a describer is: it names an image's context and says whether an image still shows its class.

And what its kinds share. They are an engine of our own (`vllm`), a running server (`endpoint`), and answers that
somebody recorded before (`recorded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from synood_ray.config.models import DescriberSettings
from synood_ray.data.names import asked_about
from synood_ray.models.describers.answers import LONGEST, Answer, named, quoted
from synood_ray.models.describers.contexts import TokenCounter, clean_context
from synood_ray.records import Box

MAX_SIDE = 1024  # pixels; larger images are shrunk first: a 7B model then spends about 1,300 tokens on one
MAX_ASPECT = 50  # thinner images are padded: Qwen's processor refuses an aspect ratio above 200


class EngineDeadError(RuntimeError):
    """The engine cannot answer any more; only a new process helps. Whoever holds the describer should end its own."""


@dataclass(frozen=True, slots=True)
class Context:
    """text: clean context words, separated by ", "; raw: the answer they come from, or its beginning.

    error: why there are none; text is "" then. neighbours: what looks like the subject and is none, by the describer;
    box: where it says that the subject is, in pixels of the source. Both only if they were asked for.
    """

    text: str
    raw: str
    error: str = ""
    neighbours: tuple[str, ...] = ()
    box: Box | None = None


class Describer(Protocol):
    """What the farm needs of a describer. Not safe for several threads at once."""

    def describe(
        self, images: Sequence[Image.Image], subjects: Sequence[str], keys: Sequence[str] | None = None
    ) -> list[Context]:
        """Names of everything in each image except its subject (a class name).

        keys: the images' source keys; recorded contexts are looked up by them, the models do not need them.
        An image about which nothing can be had (a question that is too long, a refusal) has the reason as its
        context's error. Raises EngineDeadError if the engine is lost, UserError if a recorded context is missing,
        Unavailable if a server stays away.
        """
        ...

    def shows(self, images: Sequence[Image.Image], subjects: Sequence[str]) -> list[bool | None]:
        """Whether each image shows its subject; None where that cannot be told. Raises EngineDeadError, Unavailable."""
        ...

    def answer(self, images: Sequence[Image.Image], asked: Sequence[str]) -> list[Answer]:
        """What is said to a question about each image, as it is said. Raises EngineDeadError, Unavailable."""
        ...

    def close(self) -> None:
        """Give back memory and connections; the describer must not be used afterwards."""
        ...


def questions(template: str, subjects: Sequence[str]) -> list[str]:
    """The template with {subject} filled in, by all its names; other braces stay as they are."""
    return [template.replace("{subject}", asked_about(subject)) for subject in subjects]


def clean_answers(
    settings: DescriberSettings, answers: Sequence[Answer], subjects: Sequence[str], count_tokens: TokenCounter
) -> list[Context]:
    """Contexts of answers, by the settings' limit; what nothing can be painted from has the reason as its error."""

    def clean(answer: Answer, subject: str) -> Context:
        raw = answer.text[:LONGEST].encode(errors="replace").decode()  # a server may send half a character
        found = named(answer, settings.question)
        if found.error:
            return Context("", raw, found.error)
        text = clean_context(found.text, subject, limit_tokens=settings.context_tokens, count_tokens=count_tokens)
        return Context(text, raw, "" if text else f"nothing but the subject is named: {quoted(found.text)}")

    return [clean(answer, subject) for answer, subject in zip(answers, subjects, strict=True)]


def presented_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what `presentable` makes of an image of this size."""
    width, height = _shrunk(size)
    shortest = -(-max(width, height) // MAX_ASPECT)
    return max(width, shortest), max(height, shortest)


def presentable(image: Image.Image) -> Image.Image:
    """RGB, at most MAX_SIDE pixels long, at most MAX_ASPECT times as long as wide (padded with grey)."""
    image, (width, height) = image.convert("RGB"), presented_size(image.size)
    if (shrunk := _shrunk(image.size)) != image.size:
        image = image.resize(shrunk, Image.Resampling.BICUBIC)
    if (width, height) != image.size:
        canvas = Image.new("RGB", (width, height), (128, 128, 128))
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        image = canvas
    return image


def _shrunk(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height, at most MAX_SIDE each."""
    longest = max(size)
    if longest <= MAX_SIDE:
        return size
    width, height = (max(1, round(side * MAX_SIDE / longest)) for side in size)
    return width, height
