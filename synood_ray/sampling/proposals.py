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
from synood_ray.models.describers.base import MAX_ASPECT, presentable, questions
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


def propose(
    describer: Describer,
    settings: Settings,
    classes: Sequence[str],
    images: Sequence[Image.Image],
    sources: Sequence[SourceImage],
) -> list[Proposals]:
    """What the describer proposes for each image, as the settings ask for; a box only for sources without one.

    classes: names of the ID classes, by label. Raises what `Describer.answer` does.
    """
    names: list[list[str] | None] = [None] * len(images)
    boxes: list[list[int] | None] = [None] * len(images)
    asked = settings.describer
    if names_wanted(settings):
        question, blind = asked.neighbour_question, read_blind(settings.prompts.blind)
        answers = describer.answer(images, questions(question, [source.name for source in sources]))
        names = [names_of(answer, question, classes, blind)[: settings.prompts.neighbours] for answer in answers]
    boxless = [place for place, source in enumerate(sources) if source.box is None]
    if settings.sampling.find_boxes and boxless:
        subjects = [sources[place].name for place in boxless]
        answers = describer.answer([images[place] for place in boxless], questions(asked.box_question, subjects))
        for place, answer in zip(boxless, answers, strict=True):
            boxes[place] = list(box_of(answer, images[place], asked.box_unit) or ())
    return [Proposals(*one) for one in zip(names, boxes, strict=True)]


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
    wide, high = seen_size(presentable(image).size) if unit == "pixels" else (1000, 1000)
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
