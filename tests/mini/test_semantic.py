"""The arithmetic and the questions behind the semantic check's figures."""

import pytest
import torch

from synood_ray.mini.world import load_world
from tools.mini_world.check import read_images
from tools.mini_world.check_semantic import NEITHER, PARTNER, SOURCE, precision_recall, scenes


def test_scenes_with_and_without_count_the_same_however_many_there_are() -> None:
    subject = [SOURCE, SOURCE, PARTNER, PARTNER, NEITHER]
    found = precision_recall([True, True, True, False, False], subject)
    assert found == pytest.approx({"precision": 1.0, "recall": 0.75, SOURCE: 1.0, PARTNER: 0.5})
    for times in (1, 4):
        seen = [True, True, True, False, *[True, False] * times]
        more = precision_recall(seen, [*subject[:4], *[NEITHER] * 2 * times])
        assert more["precision"] == pytest.approx(0.75 / (0.75 + 0.5))


def test_every_scene_is_asked_about_as_the_source_and_as_the_partner_and_as_many_show_neither() -> None:
    world = load_world()
    group = world.concepts[world.id[0]].group
    classes = [name for name in world.id if world.concepts[name].group == group][:3]
    some = scenes(classes, [[1], [2], [0]])
    assert some.subject.count(SOURCE) == some.subject.count(PARTNER) == 12  # four test scenes a class
    assert some.subject.count(NEITHER) == 24
    known, near = read_images("id_test"), read_images("near_test")
    pictures, names = torch.cat([known.images, near.images]), [*known.names, *near.names]
    for image, (one, two), kind in zip(some.images, some.asked, some.subject, strict=True):
        assert two == (one + 1) % 3
        shown = {name for name, other in zip(names, pictures, strict=True) if torch.equal(image, other)}
        asked = {SOURCE: classes[one], PARTNER: classes[two]}
        if kind == NEITHER:
            (name,) = shown
            assert name not in asked.values() and world.concepts[name].group == group
        else:
            assert shown == {asked[kind]}
