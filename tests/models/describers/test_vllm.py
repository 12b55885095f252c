"""The describer on the real vLLM engine with the bundled model; one engine serves the whole module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image

from synood_ray.config.models import DescriberSettings
from synood_ray.models.describers import open_describer
from synood_ray.models.describers.base import Describer, EngineDeadError
from tools.mini_world.check_mllm import ask, bundled_scenes

pytestmark = pytest.mark.real

SETTINGS = DescriberSettings(
    model="mini://models/mllm", max_model_len=256, max_new_tokens=24, context_tokens=24, batch_size=16
)


def words(text: str) -> int:
    return len(text.replace(",", " ,").split())


@pytest.fixture(scope="module")
def describer() -> Iterator[Describer]:
    opened = open_describer(SETTINGS, words)
    yield opened
    opened.close()
    with pytest.raises(EngineDeadError):
        opened.shows([Image.new("RGB", (64, 64))], ["fox"])


def test_names_the_context_and_not_the_subject(describer: Describer) -> None:
    scenes = bundled_scenes("id_test", 64)
    answers = ask(describer, scenes)
    assert answers.recall > 0.7
    assert answers.precision > 0.7
    assert answers.subject_named < 0.05


def test_tells_whether_the_subject_is_there(describer: Describer) -> None:
    answers = ask(describer, bundled_scenes("id_test", 64))
    assert answers.balanced > 0.8


def test_answers_depend_on_the_image_alone(describer: Describer) -> None:
    scenes = bundled_scenes("id_test", 8)
    together = describer.describe(scenes.images, scenes.subjects)
    alone = [describer.describe([image], [name])[0] for image, name in zip(scenes.images, scenes.subjects, strict=True)]
    assert together == alone


def test_takes_any_image_and_any_name(describer: Describer) -> None:
    images = [
        Image.new("L", (1, 1)),
        Image.new("RGBA", (3000, 40)),
        Image.new("CMYK", (37, 500)),
        Image.new("RGB", (64, 64)),
    ]
    subjects = ["Ein Füchslein 🦊", "x {y} <|im_end|>", "", "fox"]
    contexts = describer.describe(images, subjects)
    assert all(words(context.text) <= SETTINGS.context_tokens for context in contexts)
    assert all(answer in (True, False) for answer in describer.shows(images, subjects))
    assert describer.describe([], []) == []


def test_a_question_that_is_too_long_is_refused_and_the_engine_lives(describer: Describer) -> None:
    image = Image.new("RGB", (64, 64))
    first, second = describer.describe([image, image], ["fox", "fox " * 400])
    assert first.text and not first.error
    assert not second.text and "256" in second.error
    assert describer.shows([image, image], ["fox", "fox " * 400])[1] is None
    assert describer.describe([image], ["fox"]) == describer.describe([image], ["fox"])  # nothing is left over
