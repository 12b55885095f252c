"""The benchmarks' arithmetic, on numbers written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.busy import busy_share
from benchmarks.comparison import compare
from benchmarks.stub_workers import BUSY, ListedStore, busy_times, make_output
from benchmarks.targets import Target
from synood_ray.storage import layout
from synood_ray.storage.progress import scan


def test_the_ratio_of_medians_lies_in_its_interval() -> None:
    found = compare([9.0, 10.0, 50.0, 9.5, 10.5], [20.0, 21.0, 100.0, 19.0, 20.5])
    assert found.ratio == pytest.approx(10.0 / 20.5)
    assert found.low <= found.ratio <= found.high
    assert found.low > 0.4 and found.high < 0.6, "a repetition in which all was fast is no outlier: pairs are drawn"


def test_equal_pairs_have_no_interval() -> None:
    found = compare([2.0, 4.0, 8.0], [4.0, 8.0, 16.0])
    assert (found.low, found.ratio, found.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("ours", "bare"), [([], []), ([1.0], [1.0, 2.0])])
def test_what_cannot_be_compared(ours: list[float], bare: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(ours, bare)


def test_busy_share_counts_what_lies_within_the_time() -> None:
    done = [(0.0, 4.0), (4.0, 9.0), (9.0, 12.0), (-3.0, 1.0), (11.0, 15.0)]  # 4, 5 and 1 s, then 1 and 0 in [0, 10]
    assert busy_share(done, workers=2, begin=0.0, end=10.0) == pytest.approx(11 / 20)


def test_busy_times_of_all_workers(tmp_path: Path) -> None:
    make_output(tmp_path)
    (tmp_path / BUSY / "1").write_text("1.5 2.5\n2.5 4.0\n")
    (tmp_path / BUSY / "2").write_text("0.0 1.0\n")
    assert sorted(busy_times(tmp_path)) == [(0.0, 1.0), (1.5, 2.5), (2.5, 4.0)]


def test_a_listed_store_is_a_run_of_which_part_is_committed() -> None:
    store = ListedStore("nowhere", units=20, committed=7)
    assert scan(store, 20).committed.tolist() == list(range(7))
    assert scan(store, 20, "prompts").committed.tolist() == list(range(20))
    assert not list(store.list(layout.ERRORS)) and not store.exists(layout.RUN)
    with pytest.raises(AssertionError, match=r"errors/x\.json"):
        store.put_new("errors/x.json", b"{}")


@pytest.mark.parametrize(("value", "at", "met"), [(0.95, "least", True), (0.94, "least", False), (3.0, "most", True)])
def test_targets(value: float, at: str, met: bool) -> None:
    target = 0.95 if at == "least" else 3.0
    assert Target("", value, target, at).met is met  # type: ignore[arg-type]
