from typing import get_args

from synood_ray.config.settings import DescriberSettings, PolicyName, Settings
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts import POLICIES
from synood_ray.sampling.prompts.base import fill_prompt, own_painting

SOURCE = SourceImage("fox/1.png", 1, "red fox", "fox/1.png", 100, 64, 64)


def test_the_setting_offers_every_policy_of_the_table() -> None:
    assert get_args(PolicyName) == tuple(POLICIES)


def test_templates_are_filled() -> None:
    settings = DescriberSettings(prompt="A {context}! {x}")
    assert fill_prompt(settings, "tree") == "A tree! {x}"
    assert own_painting(settings, SOURCE).prompt == "A red fox! {x}"


def test_context_paints_the_scene_without_its_subject() -> None:
    settings = Settings.model_validate({"describer": {"prompt": "Here: {context}"}})
    painting = POLICIES["context"](settings).paint(SOURCE, "snow, fence", ["bus", "red fox"], 7)
    assert painting.prompt == "Here: snow, fence"
    asked: list[str] = []
    painting.condition(asked.append)  # type: ignore[arg-type]
    assert asked == ["Here: snow, fence"]
