"""Parquet files of the Hugging Face layout, on local disk and on S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synood_ray.config.settings import DataSettings
from synood_ray.data import reader as reader_module
from synood_ray.data.images import UNLABELLED, ClassInfo
from synood_ray.data.reader import ImageReader
from synood_ray.data.source import open_source
from synood_ray.errors import UserError
from tests.badimages import broken
from tests.data.conftest import rows_of, upload, write_parquet

DATA = DataSettings()


def test_class_label_names_and_order_are_the_data_sets(tmp_path: Path) -> None:
    rows = rows_of([2, 0, 1, 0, 2, 1, 0])
    path = write_parquet(tmp_path / "x.parquet", rows, names=["zebra", "ant", "cat"])
    source = open_source(str(path), DATA)
    assert source.classes == [ClassInfo(name, name) for name in ("zebra", "ant", "cat")]
    images = source.scan().images
    assert [(image.label, image.key) for image in images] == [
        (0, "x.parquet#1"), (0, "x.parquet#3"), (0, "x.parquet#6"),
        (1, "x.parquet#2"), (1, "x.parquet#5"),
        (2, "x.parquet#0"), (2, "x.parquet#4"),
    ]  # fmt: skip
    for image in images:
        data = rows[int(image.key.partition("#")[2])]["image"]["bytes"]
        assert (source.read(image), image.n_bytes, image.width) == (data, len(data), 48)
        assert image.uri == str(path)


@pytest.mark.parametrize(
    ("labels", "kind", "keys"),
    [
        (["b", "a", "b", "ü"], pa.string(), ["a", "b", "ü"]),
        (["b", "a", "b", "ü"], pa.dictionary(pa.int32(), pa.string()), ["a", "b", "ü"]),
        ([10, 9, 10, 200], pa.int16(), ["9", "10", "200"]),
    ],
)
def test_labels_without_names(tmp_path: Path, labels: list[Any], kind: pa.DataType, keys: list[str]) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of(labels), kind)
    source = open_source(str(path), DataSettings(class_names="keys"))
    assert [info.key for info in source.classes] == keys
    assert {(image.key, image.name) for image in source.scan().images} == {
        (f"x.parquet#{row}", str(label)) for row, label in enumerate(labels)
    }


def test_equal_names_stay_different_classes(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of([0, 1, 2]), names=["crane", "crane", "cat"])
    source = open_source(str(path), DATA)
    assert [info.key for info in source.classes] == ["crane#0", "crane#1", "cat"]
    assert {image.label for image in source.scan().images} == {0, 1, 2}


def test_a_folder_its_data_folder_and_a_pattern(tmp_path: Path) -> None:
    for i, place in enumerate(("train-0.parquet", "train-1.parquet", "extra.parquet")):
        write_parquet(tmp_path / "flat" / place, rows_of([0, 1])[: 2 - i // 2], names=["a", "b"])
        write_parquet(tmp_path / "hub" / "data" / place, rows_of([0, 1]), names=["a", "b"])
    (tmp_path / "hub" / "README.md").write_text("card")
    flat = open_source(str(tmp_path / "flat"), DATA).scan().images
    assert [image.key for image in flat if image.label == 0] == [
        "extra.parquet#0", "train-0.parquet#0", "train-1.parquet#0",
    ]  # fmt: skip
    hub = open_source(str(tmp_path / "hub"), DATA)
    images = hub.scan().images
    assert {image.key.partition("#")[0] for image in images} == {
        f"data/{place}" for place in ("train-0.parquet", "train-1.parquet", "extra.parquet")
    }
    assert all(hub.read(image) for image in images)
    some = open_source(str(tmp_path / "hub" / "data" / "train-*.parquet"), DATA).scan().images
    assert {image.uri.rpartition("/")[2] for image in some} == {"train-0.parquet", "train-1.parquet"}


def test_boxes(tmp_path: Path) -> None:
    boxes = [[1, 2, 30, 40], None, [0, 0, 48, 48], [1, 2, 3], [10, 10, 10, 20], [0, 0, 49, 10]]
    path = write_parquet(tmp_path / "x.parquet", rows_of([0, 1, 0, 1, 0, 1], box=boxes), names=["a", "b"])
    scan = open_source(str(path), DATA).scan()
    assert {image.key: image.box for image in scan.images} == {
        "x.parquet#0": (1, 2, 30, 40),
        "x.parquet#1": None,
        "x.parquet#2": (0, 0, 48, 48),
    }
    assert {skip.key: skip.reason.partition(" ")[0] for skip in scan.skips} == {
        f"x.parquet#{i}": "box" for i in (3, 4, 5)
    }


def test_bad_rows_are_skips(tmp_path: Path) -> None:
    zoo = {name: bad for name, bad in broken().items() if bad.at_scan}
    rows = rows_of([0, 1])
    rows += [{"image": {"bytes": bad.data, "path": None}, "label": 0} for bad in zoo.values()]
    rows += [{"image": {"bytes": None, "path": "elsewhere.png"}, "label": 0}, {"image": None, "label": 0}]
    rows += rows_of([None])
    scan = open_source(str(write_parquet(tmp_path / "x.parquet", rows, names=["a", "b"])), DATA).scan()
    assert [image.key for image in scan.images] == ["x.parquet#0", "x.parquet#1"]
    reasons = [skip.reason for skip in scan.skips]
    for bad, reason in zip(zoo.values(), reasons, strict=False):
        assert bad.reason in reason
    assert reasons[len(zoo) :] == ["the row holds no image bytes"] * 2 + ["has no label"]


def test_reading_one_row_reads_one_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of([0, 1] * 20)
    path = write_parquet(tmp_path / "x.parquet", rows, names=["a", "b"], row_group_size=5)
    images = open_source(str(path), DATA).scan().images
    by_row = {int(image.key.partition("#")[2]): image for image in images}
    groups: list[int] = []
    read_group = ImageReader._read_group

    def counted(self: ImageReader, file: Any, group: int) -> Any:
        groups.append(group)
        return read_group(self, file, group)

    monkeypatch.setattr(ImageReader, "_read_group", counted)
    reader = ImageReader(DATA)
    for row in (37, 35, 39, 0, 4, 38, 1):
        assert reader.read(by_row[row]) == rows[row]["image"]["bytes"]
    assert groups == [7, 0]
    for row in (36, 12, 38, 2):  # the group that was used last stays
        reader.read(by_row[row])
    assert groups == [7, 0, 2, 0]
    assert len(reader._groups) == reader_module._ROW_GROUPS


def test_rows_that_are_gone_raise_os_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of([0, 1] * 5), names=["a", "b"])
    *_, last = open_source(str(path), DATA).scan().images
    write_parquet(path, rows_of([0, 1]), names=["a", "b"])
    with pytest.raises(OSError, match="only 2 rows"):
        ImageReader(DATA).read(last)
    path.unlink()
    with pytest.raises(OSError):
        ImageReader(DATA).read(last)


def test_unlabelled_files_need_no_label(tmp_path: Path) -> None:
    rows = [{"image": row["image"]} for row in rows_of([0, 1])]
    path = write_parquet(tmp_path / "x.parquet", rows)
    images = open_source(str(path), DATA, labelled=False).scan().images
    assert [image.label for image in images] == [UNLABELLED] * 2
    with pytest.raises(UserError, match=r"data\.label_column: .*has no column 'label'; it has image"):
        open_source(str(path), DATA)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    def refuses(message: str, **settings: str) -> None:
        with pytest.raises(UserError, match=message) as raised:
            open_source(str(path), DataSettings(**settings)).scan()  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)

    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 but not really")
    refuses(r"data\.uri: .*x\.parquet cannot be read as Parquet")
    write_parquet(path, rows_of([0, 1]), names=["a", "b"])
    refuses(r"data\.image_column: .*no column 'picture'; it has image, label", image_column="picture")
    refuses(r"data\.label_column: .*no column 'class'", label_column="class")
    refuses(r"data\.image_column: .*column 'label' is int64, not images", image_column="label")
    write_parquet(path, rows_of([0, 1, 2]), names=["a", "b"])
    refuses(r"x\.parquet has the label 2, outside 0\.\.1")
    write_parquet(path, rows_of([0, 1, -2]), names=["a", "b"])
    refuses(r"label -2, outside 0\.\.1")
    write_parquet(path, rows_of([0.5, 1.5]), pa.float64())
    refuses("is double; it must hold strings or integers")
    write_parquet(path, rows_of([3, 3]))
    refuses("only one class, '3'", class_names="keys")
    pq.write_table(pa.table({"image": pa.array([], reader_image()), "label": pa.array([], pa.int64())}), path)
    refuses("no class; at least two")


def reader_image() -> pa.DataType:
    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_files_must_name_the_same_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", rows_of([0, 1]), names=["a", "b"])
    write_parquet(tmp_path / "1.parquet", rows_of([0, 1]), names=["b", "a"])
    with pytest.raises(UserError, match=r"1\.parquet names other classes than .*0\.parquet"):
        open_source(str(tmp_path), DATA)


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = rows_of([1, 0, 1])
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["ape", "bee"]))
    made = datasets.Dataset.from_list([{"image": row["image"], "label": row["label"]} for row in rows], features)
    made.to_parquet(str(tmp_path / "x.parquet"))
    source = open_source(str(tmp_path / "x.parquet"), DATA)
    assert [info.name for info in source.classes] == ["ape", "bee"]
    images = source.scan().images
    assert [image.name for image in images] == ["ape", "bee", "bee"]
    assert [source.read(image) for image in images] == [rows[row]["image"]["bytes"] for row in (1, 0, 2)]


def test_parquet_on_s3_is_the_same_set(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("moto")
    uri = request.getfixturevalue("moto_uri")
    rows = rows_of([0, 1] * 10)
    write_parquet(tmp_path / "set" / "data" / "train-0.parquet", rows, names=["a", "b"])
    upload(tmp_path / "set", uri)
    local = open_source(str(tmp_path / "set"), DATA).scan()
    remote = open_source(uri, DATA).scan()
    assert [(image.key, image.n_bytes) for image in local.images] == [(i.key, i.n_bytes) for i in remote.images]
    reader = ImageReader(DATA)
    for image in remote.images:
        assert image.uri == f"{uri}/data/train-0.parquet"
        assert reader.read(image) == rows[int(image.key.partition("#")[2])]["image"]["bytes"]
    one = open_source(f"{uri}/data/train-0.parquet", DATA)
    assert len(one.scan().images) == 20
    with pytest.raises(UserError, match="no such file"):
        open_source(f"{uri}/data/train-1.parquet", DATA)


@pytest.mark.skipif(
    not (Path(reader_module.__file__).parent.parent / "mini" / "data" / "id_train.parquet").exists(),
    reason="the miniature world's images are not made yet",
)
def test_the_bundled_images_keep_their_address() -> None:
    images = open_source("mini://data/id_train.parquet", DATA).scan().images
    assert {image.uri for image in images} == {"mini://data/id_train.parquet"}
    assert ImageReader(DATA).read(images[-1])
    assert images[0].box is not None


def write_styles(path: Path) -> Path:
    table = pq.read_table(write_parquet(path, rows_of([0, 1, 0, 1, 1]), names=["ant", "bee"]))
    table = table.append_column("style", pa.array(["flat", "round", "round", None, "flat"]))
    pq.write_table(table.append_column("size", pa.array([1, 2, 1, 1, 2])), path)
    return path


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ({"style": "flat"}, [0, 4]),
        ({"style": "flat, round"}, [0, 2, 1, 4]),
        ({"style": "flat,round", "size": "1,2"}, [0, 2, 1, 4]),
    ],
)
def test_only_the_rows_that_are_asked_for(tmp_path: Path, where: dict[str, str], rows: list[int]) -> None:
    path = write_styles(tmp_path / "x.parquet")
    source = open_source(str(path), DataSettings(where=where))
    found = source.scan()
    assert [image.key for image in found.images] == [f"x.parquet#{row}" for row in rows]
    assert not found.skips and [info.key for info in source.classes] == ["ant", "bee"]
    encoded = pq.read_table(path)["image"].to_pylist()
    assert [source.read(image) for image in found.images] == [encoded[row]["bytes"] for row in rows]


def test_a_choice_of_rows_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    path = str(write_styles(tmp_path / "x.parquet"))
    with pytest.raises(
        UserError, match=r"data\.where\.stile: .* has no column 'stile'; it has image, label, style, size"
    ):
        open_source(path, DataSettings(where={"stile": "flat"}))
    with pytest.raises(UserError, match=r"evaluation\.where: no row of .* has 'style' as it is asked for"):
        open_source(path, DataSettings(where={"style": "bent"}), setting="evaluation.near.x").scan()
    (tmp_path / "folder" / "ant").mkdir(parents=True)
    with pytest.raises(UserError, match=r"data\.uri: .* holds no Parquet file"):
        open_source(str(tmp_path / "folder"), DataSettings(where={"style": "flat"}))


def test_a_census_opens_no_image(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": b"no image", "path": ""}] * 7, "label": [0, 2, 2, None, -1, 1, 2]}
    pq.write_table(pa.table(rows), tmp_path / "images.parquet")
    source = open_source(str(tmp_path / "images.parquet"), DataSettings(class_names="keys"))
    assert source.census() == [1, 1, 3]
