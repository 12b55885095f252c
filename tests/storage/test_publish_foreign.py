"""Publishing touches nothing that this run has not named: other files, links, somebody's README."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.publish import is_finished, publish
from synood_ray.storage.stored_json import load_json, put_json
from synood_ray.storage.stores.base import Store
from tests.storage.builders import commit, finished_run, make_run, retry


def test_only_shards_that_this_run_has_named_are_removed(store: Store) -> None:
    plan = make_run(store)
    foreign = ["data/photo.jpg", "data/cat/1.png", "data/train-00000-of-00099.parquet", "data/train-1-of-2.parquet"]
    for key in foreign:
        store.put_new(key, b"precious")
    commit(store, plan, failed=["00000001", "00000002"])
    said: list[str] = []
    publish(store, rows_per_shard=2, say=said.append)
    retry(store, plan)
    manifest = publish(store, rows_per_shard=8)  # fewer shards than before: the old ones must go
    assert all(store.get(key) == b"precious" for key in foreign)
    assert {s["path"] for s in manifest["shards"]} | set(foreign) == {e.key for e in store.list(layout.DATA)}
    assert len(said) == 1 and "data/train-00000-of-00099.parquet: named like a shard" in said[0]


def test_earlier_shards_of_a_run_of_version_0_1_0_are_known_from_its_manifest(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001", "00000002"])
    manifest = publish(folder, rows_per_shard=2)
    publication = load_json(folder, layout.PUBLICATION)
    for key, value, later in ((layout.MANIFEST, manifest, "publication"), (layout.PUBLICATION, publication, "shards")):
        folder.delete(key)
        put_json(folder, key, {name: item for name, item in value.items() if name != later})
    assert is_finished(folder)
    retry(folder, plan)
    manifest = publish(folder, rows_per_shard=8)
    assert manifest["failed"] == 0
    assert {s["path"] for s in manifest["shards"]} == {e.key for e in folder.list(layout.DATA)}


def test_a_link_in_place_of_a_shard_is_replaced_and_not_what_it_leads_to(folder: Store, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    finished_run(folder)
    shard = Path(folder.uri) / layout.shard_key(0, 5)
    shard.parent.mkdir()
    shard.symlink_to(precious)
    publish(folder, rows_per_shard=10)
    assert precious.read_bytes() == b"precious" and not shard.is_symlink()


def test_a_data_folder_that_is_a_link_is_refused(folder: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train-00000-of-00005.parquet").write_bytes(b"precious")
    finished_run(folder)
    (Path(folder.uri) / "data").symlink_to(elsewhere)
    with pytest.raises(UserError, match="data: a link"):
        publish(folder, rows_per_shard=10)
    assert [(p.name, p.read_bytes()) for p in elsewhere.iterdir()] == [("train-00000-of-00005.parquet", b"precious")]


@pytest.mark.parametrize("text", [b"# My project", b"\xff\xfe", None])
def test_a_readme_of_somebody_elses_stays(folder: Store, text: bytes | None) -> None:
    """None: our own card, which the user has added to."""
    plan, said = make_run(folder), []
    commit(folder, plan, failed=["00000001", "00000002"])
    if text is None:
        publish(folder)
        text = folder.get(layout.CARD) + b"\nTrained on by me.\n"
        folder.delete(layout.CARD)
    folder.put_new(layout.CARD, text)
    retry(folder, plan)
    publish(folder, say=said.append)
    assert folder.get(layout.CARD) == text
    assert len(said) == 1 and "README.md: not the dataset card as it was written; left as it is" in said[0]


def test_our_own_readme_is_renewed(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000001", "00000002"])
    publish(folder)
    assert b"| failed | 2 |" in folder.get(layout.CARD)
    retry(folder, plan)
    publish(folder)
    assert b"| failed | 0 |" in folder.get(layout.CARD)
