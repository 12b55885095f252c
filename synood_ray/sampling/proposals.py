"""What the describer is asked about a source besides its context: what looks like the subject, and where that is.

Its answers are proposals: names that are none of the ID classes, no relative of one and not blind, and a box that lies
in the image and is neither a speck nor all of it. They are stored with the prompts, so that a run that resumes paints
the same. Where none is left, WordNet's names and the centred box stand in, which the run says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.models.describers import KINDS, chosen
from synood_ray.models.describers.answers import LONGEST, Answer, boxes_in, named
from synood_ray.models.describers.base import MAX_ASPECT, presented_size, questions
from synood_ray.models.describers.contexts import clean_context
from synood_ray.negatives.wordnet import once
from synood_ray.records import Box, SourceImage
from synood_ray.sampling.relatives import DESCRIBER, name_no_class, read_blind

if TYPE_CHECKING:
    from PIL import Image

    from synood_ray.models.describers.base import Describer

LEAST, MOST = 0.01, 0.95
"""A subject's share of its image: a smaller box is a speck, a larger one says nothing."""
OUTSIDE = 0.02
"""How far a box may reach out of the image, share of its side: models round. What reaches out is cut off."""
LONGEST_NAME = 4  # words; more are a sentence
PATCH, FEWEST = 28, 56 * 56  # pixels, of Qwen2.5-VL: a patch's side, of an image


@dataclass(frozen=True, slots=True)
class Proposals:
    """Of one image. None: not asked for. names: [] if none is left; box: [] if none can be used."""

    names: list[str] | None = None
    box: list[int] | None = None


def check_proposals(settings: Settings) -> None:
    """Raise UserError if something is to be proposed by a describer that cannot be asked."""
    kind = chosen(settings.describer)
    for setting, wanted in (
        ("prompts.named_by describer", names_wanted(settings)),
        ("sampling.find_boxes", settings.sampling.find_boxes),
    ):
        if wanted and not KINDS[kind].sees:
            raise UserError(f"{setting}: describer.{kind} cannot be asked; give a model or a server instead")


def names_wanted(settings: Settings) -> bool:
    """Whether some samples are painted with what the describer names."""
    return settings.prompts.takes("neighbour") and settings.prompts.named_by == DESCRIBER


class Proposer:
    """What a run's describer is asked besides contexts. Made once a worker, because it reads the blind list.

    classes: names of the ID classes, by label. Raises UserError if the blind list cannot be read.
    """

    def __init__(self, settings: Settings, classes: Sequence[str]) -> None:
        self.settings, self.classes = settings, classes
        self.names = names_wanted(settings)
        self.blind = read_blind(settings.prompts.blind) if self.names else set()

    def ask(
        self, describer: Describer, images: Sequence[Image.Image], sources: Sequence[SourceImage]
    ) -> list[tuple[Answer | None, Answer | None]]:
        """The answers for each image, about names and about the box; None: not asked for. A box is asked for where the
        source has none. Raises what `Describer.answer` does."""
        names: list[Answer | None] = [None] * len(images)
        boxes: list[Answer | None] = [None] * len(images)
        asked = self.settings.describer
        if self.names:
            subjects = [source.name for source in sources]
            names = [*describer.answer(images, questions(asked.neighbour_question, subjects))]
        boxless = [place for place, source in enumerate(sources) if source.box is None]
        if self.settings.sampling.find_boxes and boxless:
            subjects = [sources[place].name for place in boxless]
            found = describer.answer([images[place] for place in boxless], questions(asked.box_question, subjects))
            for place, answer in zip(boxless, found, strict=True):
                boxes[place] = answer
        return list(zip(names, boxes, strict=True))

    def read(self, answers: tuple[Answer | None, Answer | None], image: Image.Image) -> Proposals:
        """What is proposed for an image in the answers about it."""
        names, box = answers
        return Proposals(
            None if names is None else self._names(names),
            None if box is None else list(box_of(box, image, self.settings.describer.box_unit) or ()),
        )

    def _names(self, answer: Answer) -> list[str]:
        named = names_of(answer, self.settings.describer.neighbour_question, self.classes, self.blind)
        return named[: self.settings.prompts.neighbours]


def names_of(answer: Answer, question: str, classes: Sequence[str], blind: set[str]) -> list[str]:
    """The names in an answer that may be painted, in its order: of no ID class, of nothing above or below one, not
    blind, and no sentences."""
    found = named(answer, question)
    text = clean_context(found.text, "", limit_tokens=LONGEST, count_tokens=len)
    names = (name for name in text.split(", ") if name and len(name.split()) <= LONGEST_NAME)
    return name_no_class(once(names), classes, blind)


def box_of(answer: Answer, image: Image.Image, unit: str) -> Box | None:
    """The largest box of a grounding answer, in pixels of the image; None unless it can be that of a subject.

    unit: what its numbers count, "pixels" of the image as it was shown or "thousandths" of its sides. It must lie in
    the image (`OUTSIDE`) and be neither a speck nor all of it (`LEAST`, `MOST`).
    """
    if max(image.size) > MAX_ASPECT * min(image.size):
        return None  # it was padded to be shown
    wide, high = seen_size(presented_size(image.size)) if unit == "pixels" else (1000, 1000)
    boxes = [(x0 / wide, y0 / high, x1 / wide, y1 / high) for x0, y0, x1, y1 in boxes_in(answer)]
    if not boxes:
        return None
    x0, y0, x1, y1 = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    if min(x0, y0) < -OUTSIDE or max(x1, y1) > 1 + OUTSIDE:
        return None
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
    if not LEAST <= (x1 - x0) * (y1 - y0) <= MOST:
        return None
    width, height = image.size
    left, top = math.floor(x0 * width), math.floor(y0 * height)
    return left, top, max(left + 1, math.ceil(x1 * width)), max(top + 1, math.ceil(y1 * height))


def seen_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height in which Qwen2.5-VL's processor shows an image to the model: multiples of its patches' side, and
    at least so many pixels (`smart_resize` of transformers; what is too large for it, `presentable` has shrunk)."""
    seen = tuple(round(side / PATCH) * PATCH for side in size)
    if seen[0] * seen[1] < FEWEST:
        larger = math.sqrt(FEWEST / (size[0] * size[1]))
        seen = tuple(math.ceil(side * larger / PATCH) * PATCH for side in size)
    return seen[0], seen[1]
