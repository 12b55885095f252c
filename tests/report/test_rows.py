"""The samples that the report shows: published or not, retried or not; order; pictures by row group."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from synood_ray.config.settings import from_stored
from synood_ray.models.images import from_png
from synood_ray.report import pictures, rows
from synood_ray.report.packing import pack
from synood_ray.report.pictures import Gallery
from synood_ray.report.rows import Samples
from synood_ray.storage import layout
from synood_ray.storage.parts import encode_samples
from synood_ray.storage.run import Run
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.report.unpacking import unpacked
from tests.storage.builders import CLASSES, commit, fail, make_row
from tests.storage.builders import make_run as plan_run
from tests.training.run_folder import make_run, make_settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.open(make_run(make_settings(tmp_path_factory.mktemp("rows"), "no clip is loaded")))


def test_a_run_shows_the_same_published_or_not(run: Run) -> None:
    assert Samples(run, published=True).table.equals(Samples(run, published=False).table)


def test_a_retried_sample_is_shown_once_as_it_is_now(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    plan = plan_run(store)
    commit(store, plan, failed=["00000006", "00000007"])
    retried = [make_row(plan.unit(1)[0], attempt=2), fail(make_row(plan.unit(1)[1], attempt=2))]
    store.put_new(layout.part_key(1, 1), encode_samples(retried, CLASSES))
    samples = Samples(Run.open(store), published=False)
    table = {row["key"]: row for row in samples.table.to_pylist()}
    assert len(samples) == len(table) == 20
    assert table["00000006"]["accepted"] and table["00000007"]["failed"]
    (shown,) = samples.pictures(np.flatnonzero(samples.table.column("key").to_numpy() == "00000006"))
    assert shown[1] == retried[0].image


def test_mixed_order_is_fair(run: Run) -> None:
    samples = Samples(run, published=True)
    order = samples.mixed()
    assert sorted(order) == list(range(12)) and (order == samples.mixed()).all()
    kinds = [(bool(samples.column("failed")[p]), not samples.column("accepted")[p]) for p in order]
    assert kinds == sorted(kinds)
    accepted = order[: int(samples.column("accepted").sum())]
    assert len(set(samples.column("source_label")[accepted[:3]])) == 3


@pytest.mark.parametrize("held", [True, False])
def test_shards_are_read_once_and_pictures_of_large_runs_by_row_group(
    run: Run, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr(rows, "_HELD", 0)

    class Counting:
        fetched = 0
        uri = run.uri
        whole: ClassVar[list[str]] = []

        def get(self, key: str) -> bytes:
            Counting.whole += [key] if key.startswith("data/") else []
            return run.store.get(key)

        def get_range(self, key: str, start: int, length: int) -> bytes:
            data = run.store.get_range(key, start, length)
            Counting.fetched += len(data)
            return data

    samples = Samples(Run(Counting(), run.record), published=True)  # type: ignore[arg-type]
    assert Counting.fetched == 0
    shown = list(samples.pictures(np.array([5, 2])))
    assert [position for position, _, _ in shown] == [2, 5]
    assert all(image and image.startswith(b"\x89PNG") for _, image, _ in shown)
    assert (Counting.fetched == 0) is held and Counting.whole == ["data/train-00000-of-00001.parquet"]


def test_everything_of_a_row_reaches_the_page(run: Run) -> None:
    samples = Samples(run, published=True)
    packed = pack(samples, {"classes": run.classes}, 10**6)
    assert not packed.left_out and len(packed.positions) == 12
    found = unpacked(packed.text)
    for row, told in zip(samples.table.to_pylist(), found, strict=True):
        assert told["key"] == row["key"] and told["source_key"] == row["source_key"]
        assert told["class"] == row["source_name"] and told["prompt"] == row["prompt"]
        assert told["trace"] == row["margin_trace"] and told["margin"] == row["margin"]
        assert told["reason"] == row["reject_reason"]
    assert Counter(told["outcome"] for told in found) == {"accepted": 6, "rejected": 4, "failed": 2}


def test_what_does_not_fit_is_left_out_in_order(run: Run) -> None:
    samples = Samples(run, published=True)
    fits, expected = 10**6, [([], 12), (["margins by round"], 12), (["margins by round", "prompts"], 12)]
    for left_out, shown in expected:
        packed = pack(samples, {"classes": []}, fits)
        assert len(packed.text) <= fits and (packed.left_out, len(packed.positions)) == (left_out, shown)
        fits = len(packed.text) - 1
    packed = pack(samples, {"classes": []}, fits)
    assert len(packed.text) <= fits and 1 <= len(packed.positions) < 12


def test_thumbnails_stay_within_their_bytes(run: Run) -> None:
    samples = Samples(run, published=True)
    gallery = Gallery(samples, run.sources(), from_stored(run.config))
    everything = gallery.embedded(np.arange(12), 10**6)
    assert len(everything.results) == len(everything.companions) == len(everything.sources) == 10
    assert set(map(json.dumps, everything.masks.values())) == {"[[12.5, 12.5, 75.0, 75.0]]"}  # the centred box
    some = gallery.embedded(np.arange(12), everything.size // 3)
    assert 1 <= len(some.results) < 10 and some.size <= everything.size // 3


def test_no_picture_is_decoded_twice_whatever_sizes_are_tried(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, tried = Counter[bytes](), Counter[int]()
    thumbnails = Gallery._thumbnails

    def counted(png: bytes) -> Image.Image:
        decoded[png] += 1
        return from_png(png)

    def noted(self: Gallery, squares: Any, sources: Any, side: int, companions: bool) -> Any:
        tried[side] += 1
        return thumbnails(self, squares, sources, side, companions)

    monkeypatch.setattr(pictures, "from_png", counted)
    monkeypatch.setattr(Gallery, "_thumbnails", noted)
    monkeypatch.setattr(pictures, "_PROBED_GROUPS", 1)
    monkeypatch.setattr(rows, "ROW_GROUP", 3)
    samples = Samples(run, published=True)
    gallery = Gallery(samples, run.sources(), from_stored(run.config))
    reader = gallery._loader.reader
    read, opened = reader.read, Counter[str]()
    reader.read = lambda source: opened.update([source.key]) or read(source)  # type: ignore[method-assign,func-returns-value]
    found = gallery.embedded(np.arange(12), 5000)
    assert len(tried) > 1 and 1 <= len(found.results) < 10 and found.size <= 5000
    assert set(decoded.values()) == {1} and set(opened.values()) == {1}
    found = gallery.embedded(np.arange(12), 10**6)  # from groups that were read early, and others
    assert len(found.results) == len(found.companions) == len(found.sources) == 10


def test_missing_sources_leave_a_gap_not_an_error(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "none")
    run = Run.open(make_run(settings))
    for image in Path(settings.data.uri).rglob("*.png"):
        image.unlink()
    found = Gallery(Samples(run, published=True), run.sources(), settings).embedded(np.arange(12), 10**6)
    assert not found.sources and len(found.gone) == 10


def test_pictures_in_a_folder_take_the_place_of_older_ones(run: Run, tmp_path: Path) -> None:
    target: Store = open_store(str(tmp_path))
    for name in ("00000/00000000.webp", "00000/00000099.webp"):
        target.put_new(f"images/{name}", b"older")
    Gallery(Samples(run, published=True), run.sources(), from_stored(run.config)).write_folder(target)
    names = [entry.key for entry in target.list()]
    assert names == [f"images/00000/{n:08d}.webp" for n in range(12) if n not in (1, 7)]  # which failed
    assert Image.open(io.BytesIO(target.get(names[0]))).size == (3 * 24, 24)
