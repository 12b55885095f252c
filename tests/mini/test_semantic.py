"""The arithmetic and the questions behind the semantic check's figures."""

import pytest

from synood_ray.mini.world import load_world
from tools.mini_world.check_semantic import precision_recall, questions


def test_both_kinds_count_the_same_however_many_there_are() -> None:
    shown, truth = [True, True, False, True], [True, True, True, False]
    assert precision_recall(shown, truth, 1.0) == pytest.approx((2 / 3, 2 / 3))
    assert precision_recall(shown, truth, 3.0) == pytest.approx((2 / 5, 2 / 3))


def test_half_of_the_questions_are_about_a_class_that_the_scene_does_not_show() -> None:
    images, names, truth = questions()
    world = load_world()
    assert len(images) == len(names) == len(truth) == 690
    assert sum(truth) == 460
    assert set(names) <= set(world.id)
