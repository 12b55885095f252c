"""Pool sizes and stragglers: pure functions of what was measured."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from synood_ray.config.pools import PoolSettings
from synood_ray.farm.sizing import STRAGGLER, WORTHWHILE, Pace, wanted


def pace(work: float | None = None, start: float | None = None) -> Pace:
    found = Pace()
    if work is not None:
        found.unit(2 * work, work)
    if start is not None:
        found.start(start)
    return found


COUNTS = st.integers(0, 10_000)
PACES = st.builds(pace, st.none() | st.floats(0, 1e5), st.none() | st.floats(0, 1e4))
POOLS = st.tuples(st.integers(0, 20), st.integers(1, 64)).map(lambda ends: PoolSettings(min=min(ends), max=max(ends)))


@given(due=COUNTS, blocked=COUNTS, slots=st.integers(1, 8), pool=POOLS, pace=PACES)
def test_between_min_and_max_and_none_for_nothing(
    due: int, blocked: int, slots: int, pool: PoolSettings, pace: Pace
) -> None:
    size = wanted(due + blocked, due, slots, pool, pace)
    assert size == 0 if not due + blocked else max(1, pool.min) <= size <= pool.max


@given(due=COUNTS, more=COUNTS, slots=st.integers(1, 8), pool=POOLS, pace=PACES)
def test_more_work_never_asks_for_fewer(due: int, more: int, slots: int, pool: PoolSettings, pace: Pace) -> None:
    assert wanted(due, due, slots, pool, pace) <= wanted(due + more, due + more, slots, pool, pace)


@given(due=st.integers(1, 10_000), work=st.floats(1e-3, 1e4), start=st.floats(0, 1e4), present=st.integers(1, 64))
def test_nothing_is_started_for_work_that_is_done_before_it_would_be_up(
    due: int, work: float, start: float, present: int
) -> None:
    size = wanted(due, due, 2, PoolSettings(max=1000), pace(work, start))
    if due * work / present <= start:
        assert size <= present


@pytest.mark.parametrize(
    ("units", "due", "work", "start", "size"),
    [
        (100, 0, None, None, 50),  # nothing measured: for all units at once, two an actor
        (7, 7, None, None, 4),
        (1000, 1000, 30.0, 10.0, 64),
        (20, 20, 30.0, 10.0, 10),  # ten minutes of work: a minute for each of ten
        (20, 20, 30.0, 200.0, 3),
        (20, 2, 30.0, 10.0, 1),  # the others wait for their prompts
        (20, 0, 30.0, 10.0, 1),
        (3, 3, 1e6, 10.0, 3),  # no more actors than units
        (0, 0, 30.0, 10.0, 0),
    ],
)
def test_sizes(units: int, due: int, work: float | None, start: float | None, size: int) -> None:
    assert wanted(units, due, 2, PoolSettings(max=64), pace(work, start)) == size


def test_the_pace_forgets_the_beginning() -> None:
    found = pace(work=1000.0)
    for _ in range(500):
        found.unit(4.0, 2.0)
    assert (found.work, found.straggler) == (2.0, STRAGGLER * 4.0)


def test_units_that_are_done_together_count_with_their_mean() -> None:
    found = Pace()
    for _ in range(10):  # two at a time in 20 s
        found.unit(20.0, 20.0)
        found.unit(20.0, 0.0)
    assert found.work == 10.0


def test_without_a_measurement_there_is_no_straggler() -> None:
    assert Pace().straggler is None and Pace().work is None and Pace().start_up == 0.0
    assert WORTHWHILE > 0
