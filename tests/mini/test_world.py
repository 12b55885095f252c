"""The splits cannot leak: neither by class nor by drawing style."""

import itertools

import pytest

from synood_ray.mini import data_path
from synood_ray.mini.world import STYLES, TEST_STYLE, TRAINING_STYLES, VALIDATION_STYLE, load_world
from tools.mini_world.render import CLASS_GROUPS
from tools.mini_world.train_inpainting import STYLES as INPAINTING_STYLES


def family(style: str) -> str:
    return style.removesuffix("-v1").removesuffix("-flat")


def test_splits_share_no_class() -> None:
    world = load_world()
    parts = [world.id, world.near, world.far, world.context, world.other]
    for one, other in itertools.combinations(parts, 2):
        assert not set(one) & set(other)
    assert sum(map(len, parts)) == len(world.concepts)
    assert (len(world.id), len(world.near)) == (115, 109)


def test_alternative_split_redistributes_the_same_classes() -> None:
    world = load_world()
    assert set(world.id_alternative) | set(world.near_alternative) == set(world.id) | set(world.near)
    assert not set(world.id_alternative) & set(world.near_alternative)
    assert 0.3 < len(set(world.id) & set(world.id_alternative)) / len(world.id) < 0.7


@pytest.mark.parametrize("group", CLASS_GROUPS)
def test_id_and_near_alternate_within_each_subgroup(group: str) -> None:
    world = load_world()
    names = sorted(n for n in (*world.id, *world.near) if world.concepts[n].group == group)
    assert [n in world.id for n in names] == [i % 2 == 0 for i in range(len(names))]
    assert not any(world.concepts[n].group == group for n in world.far)


def test_held_out_families_are_in_no_training() -> None:
    trained = {family(s) for s in (*TRAINING_STYLES, *INPAINTING_STYLES)}
    assert {family(VALIDATION_STYLE), family(TEST_STYLE)}.isdisjoint(trained)
    assert family(VALIDATION_STYLE) != family(TEST_STYLE)
    assert set(STYLES) == {*TRAINING_STYLES, VALIDATION_STYLE, TEST_STYLE}


def test_words_hold_every_name_but_the_id_classes() -> None:
    world = load_world()
    words = data_path("words.txt").read_text(encoding="utf-8").splitlines()
    assert set(words) == set(world.concepts) - set(world.id)
    assert len(words) == len(set(words))
