"""What a describer proposes besides contexts, read strictly; and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.models.describers.answers import Answer, boxes_in
from synood_ray.records import SourceImage
from synood_ray.sampling.proposals import Proposals, Proposer, box_of, check_proposals, names_of, seen_size

QUESTION = Settings().describer.neighbour_question
BOX = '[{"bbox_2d": [10, 20, 30, 50], "label": "fox"}]'


class Describer:
    """Says the same of everything, and remembers the questions."""

    def __init__(self, *said: str) -> None:
        self.said, self.asked = list(said), []  # type: tuple[list[str], list[list[str]]]

    def answer(self, images: Sequence[Image.Image], asked: Sequence[str]) -> list[Answer]:
        self.asked.append(list(asked))
        return [Answer(self.said[len(self.asked) - 1])] * len(images)


def source(name: str, box: tuple[int, int, int, int] | None = None) -> SourceImage:
    return SourceImage(f"{name}.png", 0, name, f"{name}.png", 1, 56, 56, box)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (BOX, [(10, 20, 30, 50)]),
        ('{"bbox_2d": [10.5, 20, 30, 50]}', [(10.5, 20, 30, 50)]),
        (f"Here it is:\n```json\n{BOX}\n```", [(10, 20, 30, 50)]),
        ('[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]', [(1, 2, 3, 4), (5, 6, 7, 8)]),
        *(
            (said, [])
            for said in ("", "No.", "The fox is at (10, 20), (30, 50).", "[10, 20, 30, 50]", "[]", "{", BOX[:-4])
        ),
        ('[{"bbox": [10, 20, 30, 50]}]', []),
        ('[{"bbox_2d": [30, 20, 10, 50]}]', []),
        ('[{"bbox_2d": [10, 20, 30]}]', []),
        ('[{"bbox_2d": ["10", 20, 30, 50]}]', []),
        ('[{"bbox_2d": [true, 20, 30, 50]}]', []),
        ('[{"bbox_2d": [10, 20, NaN, 50]}]', []),
        ('[{"bbox_2d": [1, 2, 3, 4]}, {"point_2d": [5, 6]}]', []),
        ("[" * 100_000, []),
    ],
)
def test_boxes_are_read_strictly(said: str, expected: list[tuple[float, ...]]) -> None:
    assert boxes_in(Answer(said)) == expected
    assert boxes_in(Answer("", "refused")) == []


@pytest.mark.parametrize(
    ("box", "size", "unit", "expected"),
    [
        ("[14, 14, 28, 42]", (56, 56), "pixels", (14, 14, 28, 42)),
        ("[14, 14, 28, 42]", (112, 56), "pixels", (14, 14, 28, 42)),
        ("[14, 14, 28, 42]", (64, 64), "pixels", (16, 16, 32, 48)),  # the model sees 56 x 56
        ("[259, 252, 518, 378]", (4096, 2048), "pixels", (1024, 1024, 2048, 1536)),  # it sees 1036 x 504
        ("[250, 250, 500, 750]", (64, 32), "thousandths", (16, 8, 32, 24)),
        ("[-1, 0, 57, 28]", (56, 56), "pixels", (0, 0, 56, 28)),  # rounded: cut off
        ("[0, 0, 60, 28]", (56, 56), "pixels", None),  # outside
        ("[10, 10, 13, 13]", (56, 56), "pixels", None),  # a speck
        ("[0, 0, 56, 56]", (56, 56), "pixels", None),  # everything
        ("[14, 14, 28, 42]", (56, 3000), "pixels", None),  # thinner than what is shown as it is
    ],
)
def test_a_box_lies_in_the_image_and_is_a_subject(
    box: str, size: tuple[int, int], unit: str, expected: tuple[int, ...] | None
) -> None:
    assert box_of(Answer(f'[{{"bbox_2d": {box}}}]'), Image.new("RGB", size), unit) == expected


def test_of_several_boxes_the_largest() -> None:
    answer = Answer('[{"bbox_2d": [0, 0, 10, 10]}, {"bbox_2d": [14, 14, 42, 42]}]')
    assert box_of(answer, Image.new("RGB", (56, 56)), "pixels") == (14, 14, 42, 42)


def test_the_size_in_which_the_model_sees_an_image() -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    for size in ((64, 64), (56, 56), (300, 200), (1024, 683), (41, 30), (1024, 29)):
        height, width = smart_resize(size[1], size[0], factor=28, min_pixels=56 * 56, max_pixels=12_845_056)
        assert seen_size(size) == (width, height), size


def test_names_are_of_no_class_no_relative_and_not_blind() -> None:
    said = "1. Wolf\n2. red fox\n3. jackals\n4. one that is not quite an animal\n5. canine, dhole, coyote, toy zorg"
    names = names_of(Answer(said), QUESTION, ["fox", "zorg"], {"jackal"})
    assert names == ["Wolf", "dhole", "coyote"]
    for nothing in ("I'm sorry, but I can't help with that.", "", "fox, foxes", "狼、豺"):
        assert names_of(Answer(nothing), QUESTION, ["fox"], set()) == []


def test_what_is_asked_for_is_asked(tmp_path: Path) -> None:
    image = [Image.new("RGB", (56, 56))] * 2
    sources = [source("fox"), source("wolf", (1, 2, 3, 4))]

    def propose(describer: Describer, proposer: Proposer) -> list[Proposals]:
        answers = proposer.ask(describer, image, sources)  # type: ignore[arg-type]
        return [proposer.read(one, picture) for one, picture in zip(answers, image, strict=True)]

    assert propose(Describer(), Proposer(Settings(), ["fox", "wolf"])) == [Proposals(), Proposals()]
    blind = tmp_path / "blind.txt"
    blind.write_text("coyote\n", encoding="utf-8")
    named = {"policy": "neighbour", "named_by": "describer", "neighbours": 1, "blind": str(blind)}
    both = Settings.model_validate({"prompts": named, "sampling": {"find_boxes": True}})
    proposer, describer = Proposer(both, ["fox", "wolf"]), Describer("coyote, dhole, jackal", BOX)
    blind.unlink()  # it is read once
    found = propose(describer, proposer)
    assert found == [Proposals(["dhole"], [10, 20, 30, 50]), Proposals(["dhole"], None)]
    assert [len(asked) for asked in describer.asked] == [2, 1] and "fox" in describer.asked[1][0]


def test_a_describer_that_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    recorded = {"describer": {"contexts": str(tmp_path / "contexts.jsonl")}}
    named = {"prompts": {"policy": "neighbour", "named_by": "describer"}}
    for asked, message in (
        (named, r"prompts\.named_by"),
        ({"sampling": {"find_boxes": True}}, r"sampling\.find_boxes"),
    ):
        with pytest.raises(UserError, match=rf"^{message}.*describer\.contexts cannot be asked"):
            check_proposals(Settings.model_validate(recorded | asked))
        check_proposals(Settings.model_validate(asked))
    check_proposals(Settings.model_validate(recorded | {"prompts": {"named_by": "describer"}}))  # nothing to name
