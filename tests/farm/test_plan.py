"""The plan: a pure function, cheap to hold, the same however it is cut."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synood_ray.farm.plan import Plan
from synood_ray.records import SampleTask, SourceImage, sample_seed
from synood_ray.storage.sources import decode_sources, encode_sources


def _sources(labels: list[int]) -> list[SourceImage]:
    return [SourceImage(f"{label}/{i}.png", label, f"class {label}", "", 1, 1, 1) for i, label in enumerate(labels)]


def _tasks(plan: Plan) -> list[SampleTask]:
    return [task for unit in range(len(plan)) for task in plan.unit(unit)]


LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=30)


@given(LABELS, st.integers(1, 3), st.integers(1, 7), st.none() | st.integers(1, 40))
def test_every_sample_once_in_units_of_the_size(
    labels: list[int], per_image: int, size: int, limit: int | None
) -> None:
    plan = Plan(_sources(labels), per_image=per_image, unit_size=size, limit=limit, seed=3)
    tasks = _tasks(plan)
    assert len(tasks) == plan.samples == min(limit or 10**9, len(labels) * per_image)
    assert [t.key for t in tasks] == [f"{i:08d}" for i in range(len(tasks))]
    assert len({(t.source.key, t.draw) for t in tasks}) == len(tasks)
    assert all(len(plan.unit(u)) == size for u in range(len(plan) - 1))
    assert all(t.unit == u for u in range(len(plan)) for t in plan.unit(u))
    assert all(t.seed == sample_seed(3, t.source.key, t.draw) for t in tasks)


@given(LABELS, st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
def test_a_task_depends_neither_on_the_unit_size_nor_on_the_limit(
    labels: list[int], per_image: int, size: int, limit: int
) -> None:
    whole = _tasks(Plan(_sources(labels), per_image=per_image, unit_size=5))
    other = _tasks(Plan(_sources(labels), per_image=per_image, unit_size=size, limit=limit))
    assert [dataclasses.replace(t, unit=0) for t in other] == [dataclasses.replace(t, unit=0) for t in whole[:limit]]


@given(LABELS, st.integers(1, 30))
def test_any_beginning_covers_the_classes_evenly(labels: list[int], limit: int) -> None:
    found = [t.source.label for t in _tasks(Plan(_sources(labels), limit=limit))]
    for label in set(labels):
        others = max((found.count(other) for other in set(labels)), default=0)
        assert found.count(label) >= min(labels.count(label), others - 1)


def test_the_order_is_round_robin_and_all_images_come_before_the_second_draw() -> None:
    plan = Plan(_sources([7, 7, 7, 2, 2, 5]), per_image=2)
    assert [(t.source.key, t.draw) for t in _tasks(plan)][:7] == [
        ("2/3.png", 0),
        ("5/5.png", 0),
        ("7/0.png", 0),
        ("2/4.png", 0),
        ("7/1.png", 0),
        ("7/2.png", 0),
        ("2/3.png", 1),
    ]


def test_a_table_of_sources_gives_the_same_plan() -> None:
    sources = _sources([0, 1, 0, 2, 2, 2])
    assert _tasks(Plan(decode_sources(encode_sources(sources)))) == _tasks(Plan(sources))


def test_outside_the_plan() -> None:
    plan = Plan(_sources([0, 1, 2]), unit_size=2)
    for unit in (-1, 2):
        with pytest.raises(IndexError):
            plan.unit(unit)
    assert len(Plan([])) == Plan([]).samples == 0
    with pytest.raises(ValueError, match="start at 1"):
        Plan([], unit_size=0)
