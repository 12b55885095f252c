"""run.json: created once, then compared."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.record import RunRecord, check_or_create_run, check_settings, read_record
from synood_ray.storage.stored_json import load_json, put_json
from synood_ray.storage.stores.base import Put, Store
from synood_ray.storage.stores.s3 import S3Store
from tests.faultproxy import Fault, FaultProxy
from tests.storage.conftest import BUCKET, use_s3


def _start(store: Store, settings: Settings, digest: str = "d1") -> RunRecord:
    about = {"planned": 20, "units": 4, "classes": ["a", "ä"]}
    return check_or_create_run(store, settings, id_manifest_sha256=digest, **about)[0]


def test_the_first_creates_and_the_second_agrees(store: Store) -> None:
    assert read_record(store) is None
    record = _start(store, Settings())
    assert (record.planned, record.units, record.classes) == (20, 4, ["a", "ä"])
    assert record.packages["pyarrow"]
    assert _start(store, Settings(output="x", preset="y")) == record == read_record(store)


def test_other_settings_are_refused_by_name(folder: Store) -> None:
    _start(folder, Settings())
    settings = Settings.model_validate({"seed": 3, "sampling": {"band": 0.5}})
    with pytest.raises(UserError, match=r"seed: 0 in the run, 3 now; sampling.band: 0.25 in the run, 0.5 now"):
        _start(folder, settings)


def test_other_images_are_refused_and_moved_ones_are_not(folder: Store) -> None:
    record = _start(folder, Settings.model_validate({"data": {"uri": "old"}}))
    moved = Settings.model_validate({"data": {"uri": "new"}})
    assert _start(folder, moved) == record
    with pytest.raises(UserError, match=r'images have changed .*"old" in the run, "new" now'):
        _start(folder, moved, digest="d2")


def test_before_the_selection_the_place_of_the_images_must_agree(folder: Store) -> None:
    record = _start(folder, Settings.model_validate({"data": {"uri": "old"}}))
    check_settings(record, Settings.model_validate({"data": {"uri": "./old"}}), folder.uri)
    with pytest.raises(UserError, match=r'data.uri: "old" in the run, "new" now'):
        check_settings(record, Settings.model_validate({"data": {"uri": "new"}}), folder.uri)


def test_a_driver_that_loses_the_race_compares(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between this driver's look and its write another one creates the run."""
    reads = iter([None, replace(_start(folder, Settings(seed=7)))])
    monkeypatch.setattr("synood_ray.storage.record.read_record", lambda _: next(reads))
    with pytest.raises(UserError, match="seed: 7 in the run, 0 now"):
        _start(folder, Settings())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_folder_that_is_not_a_run(folder: Store, text: str) -> None:
    folder.put_new(layout.RUN, text.encode())
    with pytest.raises(UserError, match=r"run.json"):
        read_record(folder)


def test_who_joins_a_run_has_not_created_it(store: Store) -> None:
    about = {"id_manifest_sha256": "0", "planned": 20, "units": 4, "classes": ["a", "b"]}
    first, second = (check_or_create_run(store, Settings(), **about) for _ in range(2))  # type: ignore[arg-type]
    assert first == (second[0], True) and second[1] is False


@pytest.mark.parametrize("foreign", ["data/photo.jpg", "README.md", ".DS_Store", "data/train-00000-of-00001.parquet"])
def test_a_place_that_holds_something_else_is_refused(store: Store, foreign: str) -> None:
    store.put_new(foreign, b"precious")
    with pytest.raises(UserError, match=r"not empty and no run of synood_ray .*choose a new --output"):
        _start(store, Settings())
    assert [entry.key for entry in store.list()] == [foreign]


def test_what_is_no_file_counts_too(folder: Store, tmp_path: Path) -> None:
    """An empty folder, a link that leads nowhere and files of somebody else's in .tmp are somebody's as well."""
    root = Path(folder.uri)
    for name in ("data", ".tmp/notes", "link"):
        made = root / name
        made.parent.mkdir(parents=True, exist_ok=True)
        if name == "link":
            made.symlink_to("nowhere")
        else:
            made.mkdir()
        with pytest.raises(UserError, match="not empty"):
            _start(folder, Settings())
        shutil.rmtree(root)


def test_a_start_that_died_as_it_wrote_run_json_is_no_obstacle(folder: Store) -> None:
    temporaries = Path(folder.uri) / ".tmp"
    temporaries.mkdir(parents=True)
    (temporaries / ("0123456789abcdef" * 2)).write_bytes(b"{")
    assert _start(folder, Settings()).units == 4


def test_json_is_deterministic(folder: Store) -> None:
    assert put_json(folder, "x.json", {"b": [1, "ü"], "a": None}) is Put.CREATED
    assert put_json(folder, "x.json", {"a": None, "b": [1, "ü"]}) is Put.SAME
    assert load_json(folder, "x.json") == {"a": None, "b": [1, "ü"]}
    assert load_json(folder, "y.json") is None


def test_a_store_that_overwrites_is_refused(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(monkeypatch, moto_endpoint)
    with FaultProxy(moto_endpoint, choose=lambda method, _: Fault.FORGET_CONDITION) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(UserError, match="lets one write replace another"):
            _start(S3Store(BUCKET, "overwrites"), Settings())
