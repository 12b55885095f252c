"""Export to WebDataset."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from synood_ray.errors import UserError
from synood_ray.storage.publish import publish
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from synood_ray.storage.webdataset import export
from tests.storage.builders import commit, make_run, png


def _published(store: Store) -> None:
    commit(store, make_run(store), failed=["00000001"])
    publish(store, rows_per_shard=10)


def test_the_accepted_samples_are_there_with_their_captions(folder: Store, tmp_path: Path) -> None:
    _published(folder)
    destination = open_store(str(tmp_path / "tars"))
    assert export(Run.open(folder), destination) == ["synood-00000.tar", "synood-00001.tar"]
    names = []
    for entry in destination.list():
        with tarfile.open(fileobj=io.BytesIO(destination.get(entry.key))) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
        names += list(files)
        if "00000002.png" in files:
            assert files["00000002.png"] == png(2)
            assert files["00000002.txt"] == b"heron"
            assert files["00000002.cls"] == b"2"
            assert json.loads(files["00000002.json"])["source_name"] == "toucan"
    keys = [f"{i:08d}" for i in range(20) if i % 4 != 3 and i != 1]
    assert names == [f"{key}.{suffix}" for key in keys for suffix in ("png", "txt", "cls", "json")]


def test_an_export_can_be_repeated_but_not_mixed(folder: Store, tmp_path: Path) -> None:
    _published(folder)
    destination = open_store(str(tmp_path / "tars"))
    assert export(Run.open(folder), destination) == export(Run.open(folder), destination)
    other = open_store(str(tmp_path / "other"))
    commit(other, make_run(other, samples=9))
    publish(other)
    with pytest.raises(FileExistsError, match="another export"):
        export(Run.open(other), destination)


def test_only_what_is_published_is_exported(folder: Store) -> None:
    make_run(folder)
    with pytest.raises(UserError, match="not finished"):
        export(Run.open(folder), folder)
