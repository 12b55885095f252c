from typing import Any, get_args

import pytest
import torch

from synood_ray.config.models import DescriberSettings
from synood_ray.config.sampling import PolicyName
from synood_ray.config.settings import Settings
from synood_ray.models.describers.base import Context
from synood_ray.models.inpainters.base import Prompts
from synood_ray.records import SourceImage
from synood_ray.sampling.prompts import POLICIES
from synood_ray.sampling.prompts.base import Painting, fill_prompt, own_painting
from synood_ray.sampling.relatives import Relatives

CLASSES = ["bus", "red fox", "wolf", "coyote", "tram"]
SOURCE = SourceImage("fox/1.png", 1, "red fox", "fox/1.png", 100, 64, 64)
RELATIVES = Relatives([[4], [2, 3], [1, 3], [1, 2], [0]], [["van"], ["jackal", "dhole"], ["dhole"], ["dhole"], ["van"]])
CONTEXT = Context("snow, fence", "Snow and a fence.")
SEEDS = range(200)


def paint(seed: int = 7, **prompts: Any) -> Painting:
    settings = Settings.model_validate({"prompts": prompts})
    return POLICIES[settings.prompts.policy](settings, RELATIVES).paint(SOURCE, CONTEXT, CLASSES, seed)


def encode(text: str) -> Prompts:
    """Embeds that say which class is asked for, and pooled ones that say whether the context is."""
    level = float(next(label for label, name in enumerate(CLASSES) if name in text))
    return Prompts(torch.full((1, 2, 3), level), torch.full((1, 4), float("snow" in text)))


def test_the_setting_offers_every_policy_of_the_table() -> None:
    assert get_args(PolicyName) == tuple(POLICIES)


def test_templates_are_filled() -> None:
    settings = DescriberSettings(prompt="A {context}! {x}")
    assert fill_prompt(settings, "tree") == "A tree! {x}"
    assert own_painting(settings, SOURCE).prompt == "A red fox! {x}"


def test_context_paints_the_scene_without_its_subject() -> None:
    painting = paint(policy="context")
    assert painting == Painting("A photo of snow, fence.", "context")
    asked: list[str] = []
    painting.condition(asked.append)  # type: ignore[arg-type]
    assert asked == ["A photo of snow, fence."]


def test_official_paints_the_released_words() -> None:
    """As the released script has it: f"A photo only remain {context[:73]}." of the answer as it was given."""
    raw = "In the background, besides the red fox, there are tall trees, a wooden fence and snow; it is a winter day."
    painted = POLICIES["official"](Settings(), RELATIVES).paint(SOURCE, Context("tall trees", raw), CLASSES, 7)
    expected = "A photo only remain In the background, besides the red fox, there are tall trees, a wooden fe."
    assert painted == Painting(expected, "official")
    assert paint(policy="official").prompt == "A photo only remain Snow and a fence.."


@pytest.mark.parametrize("policy", get_args(PolicyName))
def test_a_painting_depends_on_its_sample_alone(policy: str) -> None:
    assert [paint(seed, policy=policy) for seed in SEEDS] == [paint(seed, policy=policy) for seed in SEEDS]


@pytest.mark.parametrize("policy", ["blend", "switch"])
def test_partners_are_related_classes_and_never_the_own(policy: str) -> None:
    found = [paint(seed, policy=policy) for seed in SEEDS]
    assert {painting.partner for painting in found} == {2, 3}
    assert {painting.partner for painting in [paint(seed, policy=policy, across=1) for seed in SEEDS]} == {0, 4}
    assert all(one.names == ("red fox", CLASSES[one.partner or 0]) and one.policy == policy for one in found)
    beside = sum("snow" in one.prompt for one in found) / len(found)
    assert 0.35 < beside < 0.65
    assert all("snow" in paint(seed, policy=policy, context=1).prompt for seed in range(9))
    assert not any("snow" in paint(seed, policy=policy, context=0).prompt for seed in range(9))


def test_a_blend_is_a_point_between_two_conditions() -> None:
    painting = paint(policy="blend", weight=0.25, context=1)
    partner = float(painting.partner or 0)
    found = painting.condition(encode)
    assert torch.allclose(found.embeds, torch.full((1, 2, 3), 0.75 * 1 + 0.25 * partner)) and found.later is None
    assert found.pooled is not None and torch.allclose(found.pooled, torch.ones(1, 4))
    assert painting.weight == 0.25 and painting.prompt.startswith(
        "0.75 A photo of red fox, snow, fence. + 0.25 A photo"
    )


def test_a_switch_takes_one_condition_for_the_first_steps_and_the_other_for_the_rest() -> None:
    painting = paint(policy="switch", switch=0.33, context=0)
    found = painting.condition(encode)
    levels = [float(found.at(step / 3).embeds.mean()) for step in range(3)]
    assert levels == [1.0, float(painting.partner or 0), float(painting.partner or 0)]
    assert painting.weight == pytest.approx(0.67)


def test_conditions_of_all_kinds_share_a_batch() -> None:
    switch = paint(policy="switch", context=1).condition(encode)
    both = Prompts.stack([encode("bus"), switch, encode("tram")])
    assert both.at(0.0).embeds[:, 0, 0].tolist() == [0.0, 1.0, 4.0]
    after = both.at(0.34)
    assert after.embeds[:, 0, 0].tolist() == [0.0, float(switch.at(1.0).embeds.mean()), 4.0] and after.later is None
    assert after.pooled is not None and after.pooled[:, 0].tolist() == [0.0, 1.0, 0.0]
    plain = Prompts.stack([encode("bus"), encode("tram")])
    assert plain.later is None and plain.at(0.9) is plain


def test_a_neighbour_is_no_id_class() -> None:
    found = [paint(seed, policy="neighbour") for seed in SEEDS]
    assert {one.names for one in found} == {("jackal",), ("dhole",)} and {one.partner for one in found} == {None}
    assert {one.prompt for one in found} >= {"A photo of jackal.", "A photo of dhole, snow, fence."}


def test_a_mix_takes_each_policy_as_often_as_it_weighs() -> None:
    found = [paint(seed, policy="mix", mix={"blend": 3, "context": 1, "switch": 0}).policy for seed in SEEDS]
    assert set(found) == {"blend", "context"} and 0.65 < found.count("blend") / len(found) < 0.85


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"mix": {"blnd": 1}}, "mix: no policy 'blnd'; there are context, blend"),
        ({"mix": {"mix": 1}}, "mix: no policy 'mix'"),
        ({"mix": {"blend": -1}}, "must not be negative"),
        ({"policy": "mix", "mix": {"blend": 0}}, "all weights are 0"),
    ],
)
def test_wrong_mixes(prompts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings.model_validate({"prompts": prompts})
