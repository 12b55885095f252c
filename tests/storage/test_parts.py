"""Parts: nothing is lost in them, and the tools that people use read them as they are."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synood_ray.farm.plan import Plan
from synood_ray.records import SampleRow
from synood_ray.storage.parts import (
    PartCounts,
    PromptRow,
    decode_prompts,
    decode_samples,
    encode_prompts,
    encode_samples,
    read_counts,
    sample_schema,
)
from synood_ray.storage.stores.base import Store
from tests.storage.builders import CLASSES, fail, make_row, make_sources, png


@pytest.fixture
def rows() -> list[SampleRow]:
    """Accepted, rejected and failed samples of unit 0."""
    rows = [make_row(task) for task in Plan(make_sources(7), unit_size=32).unit(0)]
    rows[1].accepted, rows[1].reject_reason, rows[1].companion = False, "mllm", None
    rows[2].models, rows[2].milliseconds = {}, {"日本": 1.0}
    rows[3].prompt, rows[3].seed = "naïve \n 🦢", 2**63 - 1
    fail(rows[4])
    return rows


def test_samples_come_back_as_they_were(rows: list[SampleRow]) -> None:
    assert decode_samples(encode_samples(rows, CLASSES)) == rows


def test_a_margin_that_is_no_number(rows: list[SampleRow]) -> None:
    rows[0].margin, rows[0].margin_trace = math.nan, [math.inf, math.nan]
    row = decode_samples(encode_samples(rows, CLASSES))[0]
    assert math.isnan(row.margin)
    assert row.margin_trace[0] == math.inf


def test_equal_rows_give_equal_bytes(rows: list[SampleRow]) -> None:
    first = encode_samples(rows, CLASSES)
    rows[0].models = dict(reversed(rows[0].models.items()))
    assert encode_samples(rows, CLASSES) == first
    rows[0].rounds += 1
    assert encode_samples(rows, CLASSES) != first


@pytest.mark.parametrize("n_classes", [3, 5000])  # the second has a footer too long for the first read
def test_counts_are_in_the_footer(rows: list[SampleRow], folder: Store, n_classes: int) -> None:
    classes = CLASSES + [f"a class with quite a long name {i}" for i in range(n_classes - 3)]
    data = encode_samples(rows, classes)
    folder.put_new("parts/x", data)
    (entry,) = folder.list()
    assert read_counts(folder, entry) == PartCounts(0, rows=7, accepted=5, rejected=1, failed=1, size=len(data))


def test_a_part_is_of_one_unit_and_of_known_classes(rows: list[SampleRow]) -> None:
    with pytest.raises(ValueError, match="2 classes"):
        encode_samples(rows, CLASSES[:2])
    rows[0].unit = 1
    with pytest.raises(ValueError, match="one unit"):
        encode_samples(rows, CLASSES)
    with pytest.raises(ValueError, match="one unit"):
        encode_samples([], CLASSES)


def test_row_groups_of_a_hundred(rows: list[SampleRow]) -> None:
    metadata = pq.read_metadata(io.BytesIO(encode_samples(rows * 36, CLASSES)))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [100, 100, 52]


def test_prompts_come_back_as_they_were() -> None:
    prompts = [PromptRow(f"{i:08d}", 3, f"c/{i}", "reeds", "The reeds.", "A photo of reeds.") for i in range(5)]
    assert decode_prompts(encode_prompts(prompts)) == prompts
    assert encode_prompts(prompts) == encode_prompts(list(prompts))


@pytest.mark.parametrize(
    "names", [["a", "a", "b"], ["a", "a", "a #1"], ["a #0", "a", "a"], ["a", "a", "a #0", "a #0'", "a #0'"]]
)
def test_class_names_that_repeat_stay_distinct(names: list[str]) -> None:
    import json

    shown = json.loads(sample_schema(names).metadata[b"huggingface"])["info"]["features"]["source_label"]["names"]
    assert len(set(shown)) == len(names)
    assert all(new.startswith(old) for new, old in zip(shown, names, strict=True))


def test_datasets_shows_images_and_names(
    rows: list[SampleRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    for unit in (0, 1):  # two files whose counts differ
        for row in rows:
            row.unit = unit
        (tmp_path / f"{unit}.parquet").write_bytes(encode_samples(rows[unit:], CLASSES))
    found = datasets.load_dataset(
        "parquet", data_files=f"{tmp_path}/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(found) == 13
    assert found.features["image"] == found.features["companion"] == datasets.Image()
    assert found.features["source_label"].names == ["crane #0", "crane #1", "toucan"]
    assert set(found.features) == set(SampleRow.__slots__)
    assert found[0]["image"].size == (8, 8)
    assert found[5]["image"].getpixel((0, 0)) == (5, 5, 5)
    assert found[4]["image"] is None
    assert found[0]["models"] == [{"name": "inpainter", "value": "sd"}, {"name": "scorer", "value": "clip"}]


def test_pandas_reads_the_same_rows(rows: list[SampleRow], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    (tmp_path / "x.parquet").write_bytes(encode_samples(rows, CLASSES))
    frame = pandas.read_parquet(tmp_path / "x.parquet")
    assert list(frame["key"]) == [row.key for row in rows]
    assert frame["image"][0] == {"bytes": png(0), "path": "00000000.png"}
    assert frame["image"][4] is None
    assert list(frame["accepted"]) == [row.accepted for row in rows]


@pytest.mark.real
def test_ray_data_reads_the_same_rows(rows: list[SampleRow], tmp_path: Path) -> None:
    import ray

    for unit in (0, 1):
        for row in rows:
            row.unit = unit
        (tmp_path / f"{unit}.parquet").write_bytes(encode_samples(rows, CLASSES))
    ray.init(address="local", num_cpus=1, include_dashboard=False)
    try:
        rows_found = ray.data.read_parquet(str(tmp_path)).take_all()
    finally:
        ray.shutdown()
    found = sorted(rows_found, key=lambda r: (r["unit"], r["key"]))
    assert [(r["unit"], r["key"]) for r in found] == [(u, row.key) for u in (0, 1) for row in rows]
    assert found[0]["image"] == {"bytes": png(0), "path": "00000000.png"}
    assert found[4]["image"] is None


def test_no_flipped_bit_changes_a_row_unseen(rows: list[SampleRow]) -> None:
    data = encode_samples(rows, CLASSES)
    end, found = len(data) - int.from_bytes(data[-8:-4], "little") - 8, 0
    for at in range(0, end, 61):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            assert decode_samples(bytes(changed)) == rows, at  # such as in a statistic of the page
        except (OSError, ValueError):
            found += 1
    assert found > 10
