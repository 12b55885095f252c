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

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples, samples_table, to_parquet
from synood_ray.storage.progress import run_status
from synood_ray.storage.publication import announce_retries, read_publications
from synood_ray.storage.publish import Unfinished, is_finished, publish
from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_manifest
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Put, Store
from synood_ray.storage.stores.local import LocalStore
from tests.storage.builders import CLASSES, commit, finished_run, make_run, retry

PUBLISHED = (layout.DATA, layout.MANIFEST, layout.CARD, "publication")


def _contents(store: Store) -> dict[str, bytes]:
    return {e.key: store.get(e.key) for e in store.list() if e.key.startswith(PUBLISHED)}


def test_the_manifest_tells_the_truth(store: Store) -> None:
    finished_run(store)
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
    assert [row.key for row in Run.open(store).samples()] == [f"{i:08d}" for i in range(50)]
    assert [row.key for row in Run.open(store).samples() if row.failed] == ["00000004"]


def test_again_is_nothing(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(folder)
    manifest, contents = publish(folder, rows_per_shard=10), _contents(folder)
    monkeypatch.setattr("synood_ray.storage.publish._write_shard", None)
    assert publish(folder, rows_per_shard=7) == manifest
    assert _contents(folder) == contents


def test_shards_are_cut_by_size_too(folder: Store) -> None:
    finished_run(folder)
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


def _crash_everywhere(folder: Store, scratch: Path, calm: dict[str, bytes], rows_per_shard: int) -> int:
    """Let a publisher die at each of its changes in turn, and another one go on. Returns how often one died."""
    crashes, step = 0, 1
    while crashes == 2 * (step - 1):
        for before in (True, False):
            root = scratch / f"{step}-{before}"
            shutil.copytree(folder.uri, root)
            crashing = CrashingStore(root)
            crashing.left, crashing.before = step, before
            decided = read_publications(crashing)
            try:
                publish(crashing, rows_per_shard=rows_per_shard)
            except Crash:
                crashes += 1
            # The next publisher would cut otherwise, but only the first to decide does.
            first = len(read_publications(crashing)) == len(decided)
            publish(open_store(str(root)), rows_per_shard=rows_per_shard if first else rows_per_shard - 3)
            assert _contents(crashing) == calm
        step += 1
    return crashes


def test_a_publisher_that_dies_anywhere_is_continued(folder: Store, tmp_path: Path) -> None:
    finished_run(folder)
    calm = open_store(str(tmp_path / "calm"))
    finished_run(calm)
    publish(calm, rows_per_shard=10)
    assert _crash_everywhere(folder, tmp_path, _contents(calm), rows_per_shard=10) == 2 * 8
    # publication, five shards, card, manifest


def test_many_publishers_at_once(store: Store) -> None:
    finished_run(store)
    gate = threading.Barrier(4)

    def run(rows: int) -> dict[str, Any]:
        gate.wait()
        return publish(open_store(store.uri), rows_per_shard=rows)

    with ThreadPoolExecutor(4) as publishers:
        manifests = list(publishers.map(run, [5, 10, 15, 20]))
    assert all(m == manifests[0] for m in manifests)
    assert [row.key for row in Run.open(store).samples()] == [f"{i:08d}" for i in range(50)]
    assert {s["path"] for s in manifests[0]["shards"]} == {e.key for e in store.list(layout.DATA)}


def test_an_unfinished_run_is_not_published(folder: Store) -> None:
    with pytest.raises(UserError, match="no run here"):
        publish(folder)
    plan = make_run(folder)
    commit(folder, plan, units=[0, 1])
    put_json(folder, layout.error_key("parts", 2, 1), {})
    with pytest.raises(Unfinished, match="2 of 4 units"):
        publish(folder)
    assert _contents(folder) == {}
    with pytest.raises(UserError, match="not finished"):
        next(Run.open(folder).samples())


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
    assert list(Run.open(folder).samples()) == []


def test_a_unit_that_comes_after_the_decision_makes_another(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another driver had not given it up; its commit comes between two crashes of the publisher."""
    plan = make_run(folder)
    commit(folder, plan, units=[0, 1, 2])
    put_json(folder, layout.error_key("parts", 3, 3, final=True), {})
    with monkeypatch.context() as patch:
        patch.setattr("synood_ray.storage.publish.dataset_card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(folder)
    commit(folder, plan, units=[3])
    manifest = publish(folder)
    assert (manifest["publication"], manifest["quarantined_units"], manifest["quarantined"]) == (1, [], 0)
    assert len(list(Run.open(folder).samples())) == 20


def test_a_retry_after_publication(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001", "00000002"])
    publish(folder, rows_per_shard=2)
    retry(folder, plan)
    manifest = publish(folder, rows_per_shard=8)  # fewer shards than before: the old ones must go
    assert (manifest["failed"], manifest["accepted"] + manifest["rejected"]) == (0, 20)
    assert [(row.key, row.attempt) for row in Run.open(folder).samples()][:4] == [
        ("00000000", 1),
        ("00000001", 2),
        ("00000002", 2),
        ("00000003", 1),
    ]
    assert {s["path"] for s in manifest["shards"]} == {e.key for e in folder.list(layout.DATA)}
    for shard in manifest["shards"]:
        assert hashlib.sha256(folder.get(shard["path"])).hexdigest() == shard["sha256"]


def test_shards_are_the_bytes_that_their_rows_give(folder: Store) -> None:
    """Parts are joined as columns; rows made one by one and encoded give the same."""
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001", "00000002"])
    retry(folder, plan, samples=(2, 1))
    rows = {}
    for key in [layout.part_key(0), layout.part_key(0, 1), *(layout.part_key(unit) for unit in range(1, len(plan)))]:
        rows |= {row.key: row for row in decode_samples(folder.get(key))}
    publish(folder)
    assert folder.get(layout.shard_key(0, 1)) == to_parquet(samples_table(rows.values(), CLASSES))


def test_a_publication_after_a_retry_that_dies_anywhere_is_continued(folder: Store, tmp_path: Path) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001", "00000002"])
    publish(folder, rows_per_shard=2)
    retry(folder, plan)
    shutil.copytree(folder.uri, tmp_path / "calm")
    calm = open_store(str(tmp_path / "calm"))
    publish(calm, rows_per_shard=8)
    # Publication; card and manifest deleted; two new shards, the four old ones deleted; card, manifest.
    assert _crash_everywhere(folder, tmp_path, _contents(calm), rows_per_shard=8) == 2 * 11


def test_many_publishers_after_aretry(store: Store) -> None:
    plan = make_run(store)
    commit(store, plan, failed=["00000001", "00000002"])
    publish(store, rows_per_shard=2)
    retry(store, plan)
    gate = threading.Barrier(4)

    def run(rows: int) -> dict[str, Any]:
        gate.wait()
        return publish(open_store(store.uri), rows_per_shard=rows)

    with ThreadPoolExecutor(4) as publishers:
        manifests = list(publishers.map(run, [5, 10, 15, 20]))
    assert all(m == manifests[0] for m in manifests) and manifests[0] == read_manifest(store)
    assert [row.attempt for row in Run.open(store).samples()][:4] == [1, 2, 2, 1]
    assert {s["path"] for s in manifests[0]["shards"]} == {e.key for e in store.list(layout.DATA)}


# What has come since


def test_a_publication_between_announcement_and_commit_of_a_retry_is_followed_by_another(store: Store) -> None:
    """Two drivers: one tries failed samples again, the other publishes meanwhile; then the first one is killed."""
    plan = make_run(store)
    commit(store, plan, failed=["00000001", "00000002"])
    announce_retries(store, {0: (1, 2)})
    assert publish(store)["failed"] == 2 and is_finished(store) and run_status(store).published
    retry(store, plan)
    assert not is_finished(store) and not run_status(store).published
    manifest = publish(store)
    assert (manifest["failed"], manifest["publication"]) == (0, 1)
    assert is_finished(store) and run_status(store).published


def test_a_unit_that_another_driver_had_not_given_up_is_published(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, units=[0, 1, 2])
    put_json(folder, layout.error_key("parts", 3, 3, final=True), {})
    assert publish(folder)["quarantined_units"] == [3] and is_finished(folder)
    commit(folder, plan, units=[3])
    assert not is_finished(folder)
    assert publish(folder)["quarantined_units"] == [] and is_finished(folder)


def test_a_retry_in_vain_changes_nothing(folder: Store) -> None:
    commit(folder, make_run(folder), failed=["00000001"])
    manifest = publish(folder)
    announce_retries(folder, {0: (1, 1)})
    announce_retries(folder, {0: (1, 1)})  # the same once more, by another driver
    announce_retries(folder, {0: (1, 1), 2: (1, 1)})
    assert len(list(folder.list(layout.RETRIES))) == 2
    assert is_finished(folder) and publish(folder) == manifest


def test_parts_are_not_listed_to_find_a_run_finished(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001", "00000002"])
    announce_retries(folder, {0: (1, 1)})
    publish(folder)
    listed: list[str] = []
    walk = LocalStore.list
    monkeypatch.setattr(LocalStore, "list", lambda self, prefix="": listed.append(prefix) or walk(self, prefix))
    assert is_finished(folder)
    assert listed and not any(layout.PARTS.startswith(prefix) for prefix in listed)


def test_a_missing_shard_is_made_again_and_a_changed_one_is_named(folder: Store) -> None:
    finished_run(folder)
    manifest = publish(folder, rows_per_shard=10)
    calm, key = _contents(folder), layout.shard_key(2, 5)
    folder.delete(key)
    assert not is_finished(folder)
    assert publish(folder, rows_per_shard=7) == manifest and _contents(folder) == calm
    folder.delete(key)
    folder.put_new(key, b"garbage")
    for look in (is_finished, publish):
        with pytest.raises(UserError, match=rf"{key}: not what manifest.json says, it has 7 bytes.*; move it"):
            look(folder)


def test_the_card_is_one_that_the_viewer_reads(folder: Store) -> None:
    finished_run(folder)
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
