"""`Run`: what a run folder holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.publish import publish
from synood_ray.storage.run import Run
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.storage.builders import CLASSES, commit, make_run

OLD = Path(__file__).parents[1] / "old_runs" / "0.1.0"


def test_where_there_is_none_one_line_says_so(folder: Store) -> None:
    assert Run.find(folder) is None
    with pytest.raises(UserError, match=r"no run here \(run.json is missing\); make one with synood synthesize --out"):
        Run.open(folder)


def test_columns_of_a_published_run(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001"])
    run = Run.open(folder)
    with pytest.raises(UserError, match="the run is not finished; finish it with synood synthesize --output"):
        next(run.rows(["key"]))
    assert (run.digest(), run.manifest(), run.publications()) == (None, None, [])
    publish(folder, rows_per_shard=10)
    tables = list(run.rows(["failed", "key"]))
    assert [table.column_names for table in tables] == [["failed", "key"]] * 2
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["key"] for row in rows] == [f"{i:08d}" for i in range(20)]
    assert [row["key"] for row in rows if row["failed"]] == ["00000001"]
    assert [row.key for row in run.samples()] == [row["key"] for row in rows]
    assert run.digest() and len(run.publications()) == 1 and run.classes == CLASSES


def test_a_column_that_no_sample_has(folder: Store) -> None:
    commit(folder, make_run(folder))
    publish(folder)
    with pytest.raises(KeyError, match="colour"):
        next(Run.open(folder).rows(["colour"]))


def test_errors_and_timings(folder: Store) -> None:
    make_run(folder)
    run = Run.open(folder)
    assert (list(run.errors()), run.skips(), run.timings()) == ([], [], {})
    assert run.evaluation() is run.calibration() is None
    for attempt in (2, 1):
        put_json(folder, layout.error_key("parts", 0, attempt), {"attempt": attempt})
    folder.put_new("errors/notes.txt", b"mine")
    assert [error["attempt"] for error in run.errors()] == [1, 2]
    run.record_timings("evaluate", {"evaluate": 2.345})
    run.record_timings("synthesize", {"select": 1.0})
    run.record_timings("synthesize", {"select": 9.0})
    assert list(run.timings().items()) == [("select", 1.0), ("evaluate", 2.35)]


def test_a_new_evaluation_takes_the_report_of_the_old_one_along(folder: Store) -> None:
    make_run(folder)
    run = Run.open(folder)
    for figure in (1, 2):
        folder.put_new(layout.REPORT_PAGE, b"page")
        run.put_evaluation({"figure": figure})
        assert run.evaluation() == {"figure": figure} and not folder.exists(layout.REPORT_PAGE)


def test_a_run_of_version_0_1_0(tmp_path: Path) -> None:
    run = Run.open(open_store(str(shutil.copytree(OLD, tmp_path / "old"))))
    assert (len(run.sources()), len(run.classes), run.has_negatives) == (460, 115, True)
    assert sum(table.num_rows for table in run.rows(["key", "image"])) == 8
    assert run.status().samples() == {"planned": 8, "accepted": 8, "rejected": 0, "failed": 0}
    assert (
        run.calibration()
        and run.evaluation()
        and len(run.held_out())
        and list(run.timings())[-2:] == ["finetune", "evaluate"]
    )
    run.check_shards()
