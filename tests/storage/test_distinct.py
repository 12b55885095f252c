"""Near-duplicates among the accepted of a class, and diversity: hand-made features, and publications of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synood_ray.cli.main import main
from synood_ray.config.settings import Settings
from synood_ray.farm.plan import Plan
from synood_ray.records import SampleRow
from synood_ray.storage import distinct, layout
from synood_ray.storage.distinct import Distinct
from synood_ray.storage.parts import encode_samples, samples_table
from synood_ray.storage.progress import run_status
from synood_ray.storage.publish import publish
from synood_ray.storage.record import check_or_create_run
from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_manifest
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.storage.builders import CLASSES, fail, make_row, make_sources

TEN_DEGREES = 1 - math.cos(math.radians(10))


def at(degrees: float) -> list[float]:
    """A feature in this direction of a plane."""
    angle = math.radians(degrees)
    return [float(np.float16(value)) for value in (math.cos(angle), math.sin(angle))]


def samples(features: Sequence[list[float]], labels: Sequence[int] | None = None) -> list[SampleRow]:
    """Accepted samples of one unit, all of class 0 unless labels are given."""
    rows = [make_row(task) for task in Plan(make_sources(len(features)), unit_size=len(features)).unit(0)]
    for place, row in enumerate(rows):
        row.feature, row.source_label = features[place], labels[place] if labels else 0
    return rows


def kept(sifted: pa.Table) -> list[bool]:
    return sifted.column("accepted").to_pylist()  # type: ignore[no-any-return]


def test_the_first_of_two_that_are_alike_stays() -> None:
    rows = samples([at(0), at(5), at(90), at(0), at(91), at(11)], labels=[0, 0, 0, 1, 0, 0])
    found = Distinct(TEN_DEGREES, classes=3)
    sifted = found.sift(samples_table(rows, CLASSES))
    assert kept(sifted) == [True, False, True, True, False, True]
    assert sifted.column("reject_reason").to_pylist() == ["", "duplicate", "", "", "duplicate", ""]
    assert sifted.drop(["accepted", "reject_reason"]) == samples_table(rows, CLASSES).drop(
        ["accepted", "reject_reason"]
    )
    diversity = found.diversity()
    assert (diversity.compared, diversity.duplicates) == (6, 2)
    of_class = np.mean([1 - math.cos(math.radians(angle)) for angle in (90, 11, 79)])
    assert diversity.by_class == [pytest.approx(of_class, abs=1e-3), None, None]
    assert diversity.median == diversity.by_class[0]


def test_what_is_like_a_rejected_one_only_stays() -> None:
    rows = samples([at(0), at(8), at(16), at(24), at(30)])
    rows[3].accepted, rows[3].reject_reason = False, "clip"  # nothing is compared with what is rejected already
    assert kept(Distinct(TEN_DEGREES, 3).sift(samples_table(rows, CLASSES))) == [True, False, True, False, True]


def test_at_the_distance_itself_a_sample_stays() -> None:
    rows = samples([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    half = 1 - 0.5  # exact in half precision, as its product with 1 is
    assert kept(Distinct(half, 3).sift(samples_table(rows, CLASSES))) == [True, True]
    assert kept(Distinct(np.nextafter(half, 1), 3).sift(samples_table(rows, CLASSES))) == [True, False]


def test_0_keeps_all_and_holds_no_feature() -> None:
    found = Distinct(0.0, 3)
    assert kept(found.sift(samples_table(samples([at(0), at(0), at(0)]), CLASSES))) == [True] * 3
    assert found.diversity().by_class[0] == pytest.approx(0, abs=1e-3)
    assert str(found.diversity()).startswith("near-duplicates: kept")
    assert all(not one.buffer.size for one in found._classes)


def test_without_features_nothing_is_compared() -> None:
    rows = samples([[], at(0), [], at(1)])
    fail(rows[0])
    found = Distinct(TEN_DEGREES, 3)
    assert kept(found.sift(samples_table(rows, CLASSES))) == [False, True, True, False]
    assert found.diversity().compared == 2
    nothing = Distinct(TEN_DEGREES, 3)
    table = samples_table(rows[2:3], CLASSES)
    assert nothing.sift(table) is table and "not looked for" in str(nothing.diversity())


UNIT = np.random.default_rng(5).normal(size=(40, 7))
UNIT = (UNIT / np.linalg.norm(UNIT, axis=1, keepdims=True)).astype(np.float16)


@given(
    picks=st.lists(st.tuples(st.integers(0, len(UNIT) - 1), st.integers(0, 2)), max_size=30),
    cuts=st.sets(st.integers(1, 29), max_size=5),
    least=st.sampled_from([0.05, 0.3, 0.8, 1.0]),
)
def test_what_is_kept_does_not_depend_on_where_tables_are_cut(
    picks: list[tuple[int, int]], cuts: set[int], least: float
) -> None:
    """Against exact arithmetic, a row at a time."""
    expected, before = [], []
    for pick, label in picks:
        feature = [Fraction(float(value)) for value in UNIT[pick]]
        distances = [1 - sum(a * b for a, b in zip(feature, one, strict=True)) for c, one in before if c == label]
        expected.append(all(distance >= Fraction(least) for distance in distances))
        if expected[-1]:
            before.append((label, feature))
    found, monkeypatch = Distinct(least, 3), pytest.MonkeyPatch()
    monkeypatch.setattr(distinct, "_BLOCK", 2)
    ends = [*sorted(cut for cut in cuts if cut < len(picks)), len(picks)]
    answers: list[bool] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        features = pa.array([UNIT[pick].tolist() for pick, _ in picks[begin:end]], type=pa.list_(pa.float16()))
        columns: dict[str, Any] = {"accepted": pa.array([True] * (end - begin), type=pa.bool_()), "feature": features}
        columns["source_label"] = pa.array([label for _, label in picks[begin:end]], type=pa.int64())
        columns["reject_reason"] = pa.array([""] * (end - begin))
        answers += kept(found.sift(pa.table(columns)))
    monkeypatch.undo()
    assert answers == expected


# Publications


def begin(store: Store, samples: int = 24, least: float | None = TEN_DEGREES) -> Plan:
    """A run in units of 4; least None: as runs were begun before there was the setting."""
    plan = Plan(make_sources(samples), unit_size=4)
    settings = Settings.model_validate({"farm": {"unit_size": 4}, "sampling": {"distinct": least or 0.0}})
    about: dict[str, Any] = {"id_manifest_sha256": "x", "planned": samples, "units": len(plan), "classes": CLASSES}
    check_or_create_run(store, settings, **about)
    if least is None:
        record = json.loads(store.get(layout.RUN))
        del record["config"]["sampling"]["distinct"]
        store.delete(layout.RUN)
        store.put_new(layout.RUN, json.dumps(record).encode())
    return plan


def commit(store: Store, plan: Plan, units: Sequence[int], failed: Sequence[str] = (), retry: int = 0) -> None:
    """Samples whose features lie 4 degrees after their class's last one: of each class one in three is kept."""
    for unit in units:
        rows = [make_row(task, feature=at(4 * (int(task.key) // 3))) for task in plan.unit(unit)]
        rows = [row for row in rows if not retry or row.key in failed]
        for row in rows:
            if row.key in failed and not retry:
                fail(row)
                row.feature = []
        store.put_new(layout.part_key(unit, retry), encode_samples(rows, CLASSES))


def accepted(store: Store) -> set[str]:
    return {row.key for row in Run.open(store).samples() if row.accepted}


@pytest.mark.parametrize("rows_per_shard", [4, 12, 1000])
def test_the_order_in_which_units_are_committed_does_not_matter(folder: Store, rows_per_shard: int) -> None:
    plan = begin(folder)
    commit(folder, plan, [3, 0, 5, 4, 1, 2])
    manifest = publish(folder, rows_per_shard=rows_per_shard)
    assert accepted(folder) == {f"{key:08d}" for key in range(24) if key // 3 % 3 == 0}
    assert (manifest["accepted"], manifest["rejected"], manifest["diversity"]["duplicates"]) == (9, 15, 15)
    assert Run.open(folder).outcomes() == {"": 9, "duplicate": 15}
    for entry in folder.list(layout.PARTS):  # they stay what they are
        assert "duplicate" not in pq.read_table(pa.BufferReader(folder.get(entry.key)))["reject_reason"].to_pylist()


def test_a_retry_takes_the_place_that_it_has_in_the_plan(folder: Store) -> None:
    plan = begin(folder)
    commit(folder, plan, range(6), failed=["00000000"])
    publish(folder)
    assert {"00000003", "00000012"} < accepted(folder)  # of its class the next one is the first then
    commit(folder, plan, [0], failed=["00000000"], retry=1)
    publish(folder)
    assert accepted(folder) == {f"{key:08d}" for key in range(24) if key // 3 % 3 == 0}


def test_a_run_from_before_the_setting_keeps_all_and_one_without_the_column_is_read(folder: Store) -> None:
    plan = begin(folder, least=None)
    commit(folder, plan, range(5))
    rows = encode_samples([make_row(task) for task in plan.unit(5)], CLASSES)
    table = pq.read_table(pa.BufferReader(rows)).drop(["feature"])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    folder.put_new(layout.part_key(5), sink.getvalue().to_pybytes())
    manifest = publish(folder)
    assert (manifest["accepted"], manifest["diversity"]["distinct"], manifest["diversity"]["compared"]) == (24, 0.0, 20)
    assert [row.feature for row in Run.open(folder).samples()][19:21] == [at(4 * (19 // 3)), []]


def test_status_says_near_duplicates_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(tmp_path))
    commit(store, begin(store), range(6))
    assert run_status(store).accepted == 24
    assert main(["status", "--run", str(tmp_path)]) == 0
    assert "near-duplicates: still among the accepted" in capsys.readouterr().out
    publish(store)
    assert run_status(store).accepted == 9
    assert main(["status", "--run", str(tmp_path)]) == 0
    line, alike = capsys.readouterr().out.splitlines()[-2:]
    assert alike.startswith("least diverse classes: crane #0 0.0") and alike.count(",") == 2
    assert line.startswith("near-duplicates: 15 rejected, nearer than 0.0151922 to another of their class; diversity:")
    assert main(["status", "--run", str(tmp_path), "--json"]) == 0
    manifest = read_manifest(store)
    assert manifest and json.loads(capsys.readouterr().out)["diversity"] == manifest["diversity"]
    assert len(manifest["diversity"]["by_class"]) == len(CLASSES)
