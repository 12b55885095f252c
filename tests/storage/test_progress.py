"""How far a run has come, as the store tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.distinct import Diversity
from synood_ray.storage.parts import encode_samples
from synood_ray.storage.progress import RunStatus, failed_samples, part_counts, run_status, sample_parts, scan
from synood_ray.storage.publication import announce_retries
from synood_ray.storage.publish import publish
from synood_ray.storage.record import read_record
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores.base import Store
from tests.storage.builders import CLASSES, commit, fail, make_row, make_run


def _error(store: Store, stage: layout.Stage, unit: int, attempt: int, final: bool = False) -> None:
    put_json(store, layout.error_key(stage, unit, attempt, final), {"error": "broken"})


def test_scan_of_an_empty_run(store: Store) -> None:
    found = scan(store, 10)
    assert (found.committed.tolist(), found.attempts, found.quarantined) == ([], {}, set())


def test_scan_finds_what_is_done_and_what_was_given_up(folder: Store) -> None:
    for unit in (1_000_000, 3, 999_999):
        folder.put_new(layout.part_key(unit), b"")
        folder.put_new(layout.prompts_key(unit + 1), b"")
    folder.put_new(layout.part_key(5, retry=1), b"")  # a retry alone is no commit
    folder.put_new("parts/notes.txt", b"")
    for attempt in (1, 2, 10):  # given up after the tenth
        _error(folder, "parts", 7, attempt, final=attempt == 10)
    _error(folder, "parts", 8, 3, final=True)  # tried again since
    _error(folder, "parts", 8, 4)
    _error(folder, "parts", 3, 3, final=True)  # committed in spite of it
    _error(folder, "prompts", 9, 3, final=True)
    parts, prompts = scan(folder, 1_000_002), scan(folder, 1_000_002, "prompts")
    assert parts.committed.tolist() == [3, 999_999, 1_000_000]
    assert parts.attempts == {7: 10, 8: 4, 3: 3}
    assert parts.quarantined == {7}
    assert prompts.committed.tolist() == [4, 1_000_000, 1_000_001]
    assert (prompts.attempts, prompts.quarantined) == ({9: 3}, {9})


def test_scan_leaves_out_what_no_unit_of_the_run_has_made(folder: Store) -> None:
    folder.put_new(layout.part_key(2), b"")
    folder.put_new(layout.part_key(3), b"")  # copied there
    _error(folder, "parts", 3, 3, final=True)
    found = scan(folder, 3)
    assert (found.committed.tolist(), found.attempts, found.quarantined) == ([2], {}, set())


def test_status_on_the_way(store: Store) -> None:
    plan = make_run(store)  # 20 samples in units of 6, 6, 6, 2
    assert run_status(store) == RunStatus(4, 0, 4, 0, 0, 0, 0, 0, published=False, planned_samples=20)
    commit(store, plan, units=[0, 2], failed=["00000001"])
    _error(store, "parts", 1, 1, final=True)
    status = run_status(store)
    assert status.headline() == "running or stopped: 1 of 4 units to go"
    assert status.asdict() == {
        "units": {"planned": 4, "committed": 2, "waiting": 1, "leased": 0, "quarantined": 1},
        "samples": {"planned": 20, "accepted": 9, "rejected": 2, "failed": 1},
        "diversity": None,
        "again": None,
        "planned": 4,
        "committed": 2,
        "waiting": 1,
        "leased": 0,
        "quarantined": 1,
        "accepted": 9,
        "rejected": 2,  # 3 and 15
        "failed": 1,
        "published": False,
    }


def test_a_unit_without_prompts_is_given_up_too(folder: Store) -> None:
    commit(folder, make_run(folder), units=[0, 1, 2])
    _error(folder, "prompts", 3, 3, final=True)
    status = run_status(folder)
    assert (status.committed, status.waiting, status.quarantined) == (3, 0, 1)


def _failed(store: Store) -> dict[int, dict[str, int]]:
    record = read_record(store)
    assert record is not None
    entries = [entry for files in sample_parts(store).values() for entry in files]
    return failed_samples(store, part_counts(store, record, entries))


def test_retries_replace_the_failed(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000000", "00000001", "00000006"])
    assert _failed(folder) == {0: {"00000000": 0, "00000001": 0}, 1: {"00000006": 0}}
    assert run_status(folder).failed == 3

    rows = [make_row(task, attempt=2) for task in plan.unit(0)[:2]]
    fail(rows[1])
    folder.put_new(layout.part_key(0, retry=1), encode_samples(rows, CLASSES))
    assert _failed(folder) == {0: {"00000001": 0}, 1: {"00000006": 0}}
    status = run_status(folder)
    assert (status.failed, status.accepted + status.rejected) == (2, 18)


def test_what_is_run_again_is_told_until_it_is_published(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000000", "00000001", "00000006"])
    publish(folder)
    announce_retries(folder, {0: (1, 2), 1: (1, 1)})
    begun = run_status(folder)
    assert begun.again == (3, 0) and begun.headline() == "published; 3 of 3 samples to be run again"
    for unit, left in ((0, 1), (1, 0)):
        rows = [make_row(task, attempt=2) for task in plan.unit(unit)[: 2 - unit]]
        folder.put_new(layout.part_key(unit, retry=1), encode_samples(rows, CLASSES))
        status = run_status(folder)
        assert status.again == (3, 3 - left) and (status.committed, status.planned) == (4, 4)
        words = f"running or stopped: {left} of 3 samples to be run again" if left else "finished, not published yet"
        assert status.headline() == words
    publish(folder)
    assert run_status(folder).again is None and run_status(folder).headline() == "published"


def test_retries_that_an_earlier_version_announced(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000000"])
    publish(folder)
    put_json(folder, layout.retries_key(1), {"0": 1})
    assert run_status(folder).again is None and run_status(folder).published
    announce_retries(folder, {0: (1, 1)})
    folder.put_new(layout.part_key(0, retry=1), encode_samples([make_row(plan.unit(0)[0], attempt=2)], CLASSES))
    assert not run_status(folder).published


def test_a_published_run_is_told_by_its_manifest(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001"])
    before = run_status(folder)
    assert before.headline() == "finished, not published yet"
    publish(folder)
    for entry in list(folder.list(layout.PARTS)):
        folder.delete(entry.key)
    nothing = Diversity(0.005, compared=0, duplicates=0, median=None, by_class=[None] * len(CLASSES))
    assert run_status(folder) == replace(before, published=True, diversity=nothing)


def test_no_run(folder: Store) -> None:
    with pytest.raises(UserError, match=r"no run here \(run.json is missing\)"):
        run_status(folder)
