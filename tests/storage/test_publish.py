"""Publishing: whatever interrupts it, the same shards come out, once."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from synood_ray.storage import layout
from synood_ray.storage.parts import encode_samples
from synood_ray.storage.publish import Unfinished, iter_samples, publish, read_manifest, retract
from synood_ray.storage.run import put_json
from synood_ray.storage.stores.base import Put, Store, open_store
from synood_ray.storage.stores.local import LocalStore
from tests.storage.builders import CLASSES, commit, make_row, make_run

PUBLISHED = (layout.DATA, layout.MANIFEST, layout.CARD, layout.PUBLICATION)


def _contents(store: Store) -> dict[str, bytes]:
    return {e.key: store.get(e.key) for e in store.list() if e.key.startswith(PUBLISHED)}


def _finished_run(store: Store, failed: tuple[str, ...] = ("00000004",)) -> None:
    commit(store, make_run(store, samples=50, unit_size=4), failed=failed)


def test_the_manifest_tells_the_truth(store: Store) -> None:
    _finished_run(store)
    manifest = publish(store, rows_per_shard=10)
    assert read_manifest(store) == manifest
    assert {k: manifest[k] for k in ("planned", "accepted", "rejected", "failed", "quarantined", "units")} == {
        "planned": 50,
        "accepted": 37,
        "rejected": 12,
        "failed": 1,
        "quarantined": 0,
        "units": 13,
    }
    assert [s["rows"] for s in manifest["shards"]] == [12, 12, 12, 12, 2]
    assert [s["units"] for s in manifest["shards"]] == [[0, 2], [3, 5], [6, 8], [9, 11], [12, 12]]
    assert sorted(s["path"] for s in manifest["shards"]) == [e.key for e in store.list(layout.DATA)]
    for shard in manifest["shards"]:
        data = store.get(shard["path"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
        assert pq.read_metadata(io.BytesIO(data)).num_rows == shard["rows"]
    assert [row.key for row in iter_samples(store)] == [f"{i:08d}" for i in range(50)]
    assert [row.key for row in iter_samples(store) if row.failed] == ["00000004"]


def test_again_is_nothing(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _finished_run(folder)
    manifest, contents = publish(folder, rows_per_shard=10), _contents(folder)
    monkeypatch.setattr("synood_ray.storage.publish._write_shard", None)
    assert publish(folder, rows_per_shard=7) == manifest
    assert _contents(folder) == contents


def test_shards_are_cut_by_size_too(folder: Store) -> None:
    _finished_run(folder)
    manifest = publish(folder, bytes_per_shard=1)
    assert [s["units"] for s in manifest["shards"]] == [[u, u] for u in range(13)]


class Crash(BaseException):
    """The process ends here."""


class CrashingStore(LocalStore):
    """Ends the process at its n-th change, just before it or just after."""

    left: int
    before: bool

    def put_new(self, key: str, data: bytes) -> Put:
        self.left -= 1
        if self.left == 0 and self.before:
            raise Crash
        result = super().put_new(key, data)
        if self.left == 0:
            raise Crash
        return result

    def delete(self, key: str) -> None:
        self.left -= 1
        if self.left == 0 and self.before:
            raise Crash
        super().delete(key)
        if self.left == 0:
            raise Crash


def _crash_everywhere(root: Path, action: Any) -> int:
    """Run the action until it ends, after a crash at each of its changes in turn. Returns how often it crashed."""
    crashes, step, ended = 0, 1, False
    while not ended:
        ended = True
        for before in (True, False):
            crashing = CrashingStore(root)
            crashing.left, crashing.before = step, before
            try:
                action(crashing)
            except Crash:
                crashes, ended = crashes + 1, False
        step += 1
    return crashes


def test_a_publisher_that_dies_anywhere_is_continued(folder: Store, tmp_path: Path) -> None:
    _finished_run(folder)
    calm = open_store(str(tmp_path / "calm"))
    _finished_run(calm)
    publish(calm, rows_per_shard=10)
    calm_contents, crashes = _contents(calm), 0
    for step in range(1, 10):
        for before in (True, False):
            root = tmp_path / f"{step}-{before}"
            shutil.copytree(folder.uri, root)
            crashing = CrashingStore(root)
            crashing.left, crashing.before = step, before
            try:
                publish(crashing, rows_per_shard=10)
            except Crash:
                crashes += 1
            # The next publisher would cut otherwise, but only the first to decide does.
            decided = crashing.exists(layout.PUBLICATION)
            publish(open_store(str(root)), rows_per_shard=7 if decided else 10)
            assert _contents(crashing) == calm_contents
    assert crashes == 2 * 8  # publication, five shards, card, manifest


def test_many_publishers_at_once(store: Store) -> None:
    _finished_run(store)
    gate = threading.Barrier(4)

    def run(rows: int) -> dict[str, Any]:
        gate.wait()
        return publish(open_store(store.uri), rows_per_shard=rows)

    with ThreadPoolExecutor(4) as publishers:
        manifests = list(publishers.map(run, [5, 10, 15, 20]))
    assert all(m == manifests[0] for m in manifests)
    assert [row.key for row in iter_samples(store)] == [f"{i:08d}" for i in range(50)]
    assert {s["path"] for s in manifests[0]["shards"]} == {e.key for e in store.list(layout.DATA)}


def test_an_unfinished_run_is_not_published(folder: Store) -> None:
    with pytest.raises(Unfinished, match="no run"):
        publish(folder)
    plan = make_run(folder)
    commit(folder, plan, units=[0, 1])
    put_json(folder, layout.error_key("parts", 2, 1), {})
    with pytest.raises(Unfinished, match="2 of 4 units"):
        publish(folder)
    assert _contents(folder) == {}
    with pytest.raises(Unfinished, match="not published"):
        next(iter_samples(folder))


def test_what_was_given_up_is_counted(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, units=[0, 3])
    put_json(folder, layout.error_key("parts", 1, 3, final=True), {})
    put_json(folder, layout.error_key("prompts", 2, 3, final=True), {})
    manifest = publish(folder)
    assert manifest["quarantined_units"] == [1, 2]
    assert (manifest["quarantined"], manifest["accepted"] + manifest["rejected"]) == (12, 8)
    assert manifest["shards"][0]["units"] == [0, 3]


def test_a_run_of_which_nothing_came(folder: Store) -> None:
    plan = make_run(folder)
    for unit in range(len(plan)):
        put_json(folder, layout.error_key("parts", unit, 1, final=True), {})
    assert publish(folder)["shards"] == []
    assert list(iter_samples(folder)) == []


def test_a_unit_that_comes_after_the_decision_is_left_out(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another driver had not given it up; its commit comes between two crashes of the publisher."""
    plan = make_run(folder)
    commit(folder, plan, units=[0, 1, 2])
    put_json(folder, layout.error_key("parts", 3, 3, final=True), {})
    with monkeypatch.context() as patch:
        patch.setattr("synood_ray.storage.publish.dataset_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(folder)
    before = _contents(folder)
    commit(folder, plan, units=[3])
    manifest = publish(folder)
    assert manifest["quarantined_units"] == [3]
    assert before.items() <= _contents(folder).items()


def test_a_retry_after_publication(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001", "00000002"])
    publish(folder, rows_per_shard=2)
    retract(folder)
    assert read_manifest(folder) is None
    rows = [make_row(task, attempt=2) for task in plan.unit(0)[1:3]]
    folder.put_new(layout.part_key(0, retry=1), encode_samples(rows, CLASSES))
    manifest = publish(folder, rows_per_shard=8)  # fewer shards than before: the old ones must go
    assert (manifest["failed"], manifest["accepted"] + manifest["rejected"]) == (0, 20)
    assert [(row.key, row.attempt) for row in iter_samples(folder)][:4] == [
        ("00000000", 1),
        ("00000001", 2),
        ("00000002", 2),
        ("00000003", 1),
    ]
    assert {s["path"] for s in manifest["shards"]} == {e.key for e in folder.list(layout.DATA)}
    for shard in manifest["shards"]:
        assert hashlib.sha256(folder.get(shard["path"])).hexdigest() == shard["sha256"]


def test_a_retry_that_dies_anywhere_is_continued(folder: Store) -> None:
    commit(folder, make_run(folder))
    publish(folder, rows_per_shard=2)
    calm = _contents(folder)

    def again(store: Store) -> None:
        if read_manifest(store) is not None:
            retract(store)
        publish(store, rows_per_shard=2)

    assert _crash_everywhere(Path(folder.uri), again) > 10
    publish(folder, rows_per_shard=2)
    assert _contents(folder) == calm


def test_the_card_is_one_that_the_viewer_reads(folder: Store) -> None:
    _finished_run(folder)
    publish(folder)
    text = folder.get(layout.CARD).decode()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    assert front["size_categories"] == ["n<1K"]
    assert "| accepted | 37 |" in text
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert settings["sampling.band"] == 0.25
    assert not re.search(r"output|data\.uri|farm\.samplers", text)
