"""Image sets as people have them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFile

from synood_ray.config.settings import DataSettings
from synood_ray.data.class_names import read_class_names
from synood_ray.data.reader import ImageReader
from synood_ray.data.selection import Selection, select
from synood_ray.data.source import open_source
from synood_ray.detection.contamination import without_id_classes
from synood_ray.detection.evaluate import run_evaluation
from synood_ray.errors import UserError
from synood_ray.models.describers.recorded import read_contexts
from synood_ray.storage.run import Run
from tests.badimages import encode, picture
from tests.data.conftest import IMAGE, MakeFolder, rows_of, write_parquet
from tests.detection.tiny_clip import save_tiny_clip
from tests.reports.table import reported, rows
from tests.training.run_folder import make_run, make_settings

DATA = DataSettings()
NAMES = ["cat", "dog"]


def selected(place: Path, **data: Any) -> Selection:
    settings = DataSettings(uri=str(place), **data)
    return select(open_source(settings.uri, settings), settings)


@rows(
    "hidden",
    (
        "mbrrg/synology-thumbgen#11",
        "@eaDir of a Synology, with thumbnails of the best ratio of bytes",
        "left out, and counted in one line",
        "@eaDir",
    ),
    ("trial", ".thumbnails beside the images", "left out and counted", ".thumbnails"),
    ("trial", "__MACOSX of an archive", "left out and counted", "__MACOSX"),
)
def test_hidden_folders(make_folder: MakeFolder, hidden: str) -> None:
    folder = make_folder(NAMES, 3)
    for place in (folder / hidden, folder / "cat" / hidden):
        place.mkdir()
        (place / "thumb.png").write_bytes(encode(picture(seed=99)))
    found = selected(folder)
    assert [one.key for one in found.classes] == NAMES
    assert not any(hidden in image.key for image in [*found.sources, *found.calibration])
    assert found.notes == [f"{folder}: 2 hidden files are left out ({hidden} 2)"]


@rows(
    "files, words",
    (
        "trial",
        "a Hub repository with data/train-… and data/test-…",
        "refused; says how to name one",
        ["data/train-00000-of-00001", "data/test-00000-of-00001"],
        r"holds the splits 'test', 'train'; name the files of one, such as .*/data/(train|test)\*\.parquet",
    ),
    (
        "trial",
        "train.parquet beside validation.parquet",
        "refused; says how to name one",
        ["train", "validation"],
        "the splits 'train', 'val'",
    ),
    (
        "trial",
        "train/0000.parquet and test/0000.parquet",
        "refused as splits",
        ["train/0000", "test/0000"],
        "the splits 'test', 'train'.*such as .*/test",
    ),
    (
        "trial",
        "default/train/0000.parquet (converted by the Hub)",
        "refused; says where the files are",
        ["default/train/0000"],
        "Parquet files further down .'default/train/0000.parquet'",
    ),
)
def test_splits_side_by_side(tmp_path: Path, files: list[str], words: str) -> None:
    for file in files:
        write_parquet(tmp_path / f"{file}.parquet", rows_of([0, 1]), names=NAMES)
    with pytest.raises(UserError, match=words):
        open_source(str(tmp_path), DATA)


@reported(
    "trial",
    "a subset whose ClassLabel still names the classes of the whole",
    "classes without a row are left out, named in one line",
)
def test_unused_class_names(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of([1, 3, 1, 3]), names=["tench", "cat", "goldfish", "dog"])
    found = selected(path)
    assert [one.name for one in found.classes] == NAMES and {image.label for image in found.sources} == {0, 1}
    assert found.notes == [f"{path}: 2 class names without an image are left out ('tench', 'goldfish')"]


@reported(
    "tensorflow/datasets#1218",
    "label -1: no label, as in the test splits of competitions",
    "skipped with the reason, and counted",
)
def test_no_label(tmp_path: Path) -> None:
    found = selected(write_parquet(tmp_path / "x.parquet", rows_of([0, 1, 0, 1, -1, -1]), names=NAMES))
    assert [(skip.key, skip.reason) for skip in found.skips] == [(f"x.parquet#{row}", "has no label") for row in (4, 5)]


@reported(
    "huggingface/datasets#6442",
    "metadata.parquet beside class folders",
    "the folders are the classes; the table is left out, said in a line",
)
def test_metadata_beside_class_folders(make_folder: MakeFolder) -> None:
    folder = make_folder(NAMES, 3)
    pq.write_table(pa.table({"file_name": ["cat/0.png"], "caption": ["a cat"]}), folder / "metadata.parquet")
    (folder / "metadata.jsonl").write_text('{"file_name": "cat/0.png"}\n')
    found = selected(folder)
    assert [one.key for one in found.classes] == NAMES
    assert "'metadata.parquet' beside the class folders: no column 'image', left out" in found.notes[0]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 498211301\n"


@reported("deephaven/deephaven-core#4561", "Parquet files that are Git LFS pointers", "refused: git lfs pull")
def test_pointers_for_tables(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00002.parquet").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"data\.uri: .*train-00000.*Git LFS pointer, git lfs pull"):
        open_source(str(tmp_path), DATA)


@reported("InertExpert2911/Mutual_Fund_Data#1", "images that are Git LFS pointers", "skipped: git lfs pull")
def test_pointers_for_images(make_folder: MakeFolder) -> None:
    folder = make_folder(NAMES, 3)
    (folder / "cat" / "pointer.jpg").write_bytes(POINTER)
    (skip,) = selected(folder).skips
    assert skip.key == "cat/pointer.jpg" and "git lfs pull" in skip.reason


def saved_anew(path: Path, target: Path) -> None:
    image = Image.open(path).convert("RGB")
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC).save(target, "JPEG", quality=90)


@rows(
    "copy",
    (
        "trial",
        "a held-out image that is among the images to select too, as a copy",
        "left out, with the count",
        shutil.copy,
    ),
    ("trial", "the same, resized and saved as JPEG", "left out, with the count", saved_anew),
)
def test_copies_of_held_out_images(make_folder: MakeFolder, copy: Callable[[Path, Path], Any]) -> None:
    folder = make_folder(NAMES, 5)
    (held_out, *_) = selected(folder).calibration
    copy(folder / held_out.key, folder / held_out.key.replace(".png", "-copy.jpg"))
    found = selected(folder)
    keys = [image.key for image in found.calibration]
    sides = [held_out.key in keys, held_out.key.replace(".png", "-copy.jpg") in keys]
    assert sides != [True, True] and len(found.skips) == 1 and "the same picture as" in found.skips[0].reason
    assert found.notes == ["1 images are left out: copies of those that are used otherwise, selected or held out"]


@reported("trial", "a white drawing on transparent (of mate-backgrounds)", "skipped: one colour, laid on white")
def test_pictures_of_nothing(make_folder: MakeFolder) -> None:
    folder = make_folder(NAMES, 5)
    drawn = Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    drawn.paste((255, 255, 255, 255), (10, 10, 30, 30))
    drawn.save(folder / NAMES[0] / "white.png")
    found = selected(folder)
    (skip,) = found.skips
    assert skip.key == f"{NAMES[0]}/white.png" and "one colour and nothing else" in skip.reason


@reported("trial", "calibration images that are copies of selected ones", "left out, with the count")
def test_copies_in_a_calibration_set(make_folder: MakeFolder) -> None:
    train, held_out = make_folder(NAMES, 4), make_folder(NAMES, 4, name="held out", seed=5000)
    shutil.copy(train / "cat" / "1.png", held_out / "cat" / "copy.png")
    found = selected(train, calibration=str(held_out))
    assert len(found.calibration) == 8 and "1 images are left out: copies" in found.notes[0]


@reported("trial", "tests that contain the run's own images", "left out of the figures, and said in the report")
def test_copies_in_tests(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))
    store = make_run(settings)
    first, *_, last = Run.open(store).sources()
    shutil.copy(first.uri, tmp_path / "far" / "copy.png")
    saved_anew(Path(last.uri), tmp_path / "test" / "blue bus" / "copy.png")
    result = run_evaluation(store, settings)
    own = {note for note in result["notes"] if "copies of the run's own" in note}
    assert own == {f"{name}: 1 images that are copies of the run's own are left out" for name in ("id", "far/grey")}
    assert result["images"]["id"] == {"used": 9, "skipped": 1} and result["images"]["far/grey"]["used"] == 6


@rows(
    "ood, left_out",
    ("deeplearning-wisc/MOOD#2", "an OOD set with ID classes", "left out, named with the count", ["Cats", "truck"], 1),
    (
        "Jingkang50/OpenOOD#259",
        "OOD wnids whose names are ID classes",
        "left out, named with the count",
        ["n02124075", "n01440764"],
        1,
    ),
    ("deeplearning-wisc/vos#57", "an OOD set of other classes", "used as it is", ["car", "truck"], 0),
)
def test_id_classes_among_ood(make_folder: MakeFolder, ood: list[str], left_out: int) -> None:
    source = open_source(str(make_folder(ood, 2)), DataSettings(class_names="keys"))
    kept, note = without_id_classes(source, source.scan().images, ["cat", "dog", "Egyptian Mau"])
    assert len(kept) == 4 - 2 * left_out
    assert note.startswith("2 images of the ID classes ") == bool(left_out)


@rows(
    "labels, kind, words",
    (
        "trial",
        "several labels an image (a list)",
        "refused: the type is named",
        [[0], [1]],
        pa.list_(pa.int64()),
        "list<element: int64>.*one class an image",
    ),
    (
        "trial",
        "labels in a struct",
        "refused: the type is named",
        [{"id": 0}, {"id": 1}],
        pa.struct([("id", pa.int64())]),
        "struct<id: int64>",
    ),
    (
        "trial",
        "labels as floats (pandas, with a gap)",
        "refused: the type is named",
        [0.0, None],
        pa.float64(),
        "is double",
    ),
)
def test_labels_of_other_types(tmp_path: Path, labels: list, kind: pa.DataType, words: str) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of(labels), kind)
    with pytest.raises(UserError, match=rf"data\.label_column: .*{words}"):
        open_source(str(path), DATA)


@reported("apache/arrow#32723", "a row group of more than 2 GiB", "read some rows at a time")
def test_row_groups_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synood_ray.data.parquet.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("synood_ray.data.reader.ROWS_AT_ONCE", 3)
    path = write_parquet(tmp_path / "x.parquet", rows_of([0, 1] * 5), names=NAMES, row_group_size=10)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    source = open_source(str(path), DATA)
    images = source.scan().images
    stored = [row["bytes"] for row in pq.read_table(path)["image"].to_pylist()]
    assert [source.read(image) for image in images] == [stored[int(image.key.rpartition("#")[2])] for image in images]


@reported("trial", "a Parquet file with damaged pages", "refused by name; in a worker the samples fail")
def test_damaged_pages(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", rows_of([0, 1] * 20), names=NAMES, row_group_size=40)
    (image, *_) = open_source(str(path), DATA).scan().images
    data = bytearray(path.read_bytes())
    data[4 : data.index(b"\x89PNG") - 4] = b"\xff" * (data.index(b"\x89PNG") - 8)  # the header of the first page
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"x\.parquet is damaged: .*; fetch or write it again"):
        open_source(str(path), DATA).scan()
    with pytest.raises(OSError):
        ImageReader(DATA).read(image)


@reported("trial", "a pipe called p.parquet in the data folder", "refused at once; it would be read for ever")
def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.parquet")
    with pytest.raises(UserError, match=r"p\.parquet.*not a regular file"):
        open_source(str(tmp_path), DATA)
    with pytest.raises(UserError, match="not a regular file"):
        read_class_names(str(tmp_path / "p.parquet"))


@reported("trial", "two columns called image", "refused by name")
def test_doubled_columns(tmp_path: Path) -> None:
    column = pa.array([{"bytes": b"x", "path": "x"}], IMAGE)
    pq.write_table(pa.table([column, column, pa.array([0])], names=["image", "image", "label"]), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="has the column 'image' 2 times"):
        open_source(str(tmp_path), DATA)


@reported("trial", "NaN in a box", "skipped with the reason")
def test_boxes_of_nan(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows_of(["cat", "dog"]))
    table = table.append_column("box", pa.array([[1.0, 2.0, 30.0, 40.0], [float("nan")] * 4]))
    pq.write_table(table, tmp_path / "x.parquet")
    (skip,) = open_source(str(tmp_path), DATA).scan().skips
    assert skip.key == "x.parquet#1" and "is not [x0, y0, x1, y1]" in skip.reason


@reported("trial", "a link to itself beside class folders", "no class folder")
def test_self_links(make_folder: MakeFolder) -> None:
    folder = make_folder(NAMES, 2)
    (folder / "loop").symlink_to(folder / "loop")
    assert [one.key for one in selected(folder).classes] == NAMES


@reported("python-pillow/Pillow#8790", "a TIFF whose XMP is text", "one file is skipped, the job goes on")
def test_whatever_pillow_raises_is_a_skip(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(NAMES, 3)
    (folder / "cat" / "xmp.tiff").write_bytes(encode(picture(), "TIFF"))
    real = Image.Image.getexif

    def getexif(image: Image.Image) -> Image.Exif:
        if image.format == "TIFF":
            raise TypeError("expected string or bytes-like object, got 'tuple'")
        return real(image)

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    found = selected(folder)
    assert len(found.sources) == 4 and [skip.key for skip in found.skips] == ["cat/xmp.tiff"]


@rows(
    "error",
    ("trial", "an image for which memory does not suffice", "skipped; the job goes on", MemoryError),
    ("trial", "an image on which the decoder has a defect", "skipped; the job goes on", KeyError),
)
def test_one_image_ends_no_job(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    folder = make_folder(NAMES, 3)
    real = ImageFile.ImageFile.load

    def load(image: Any) -> Any:
        if image.size == (47, 47):
            raise error("no luck")
        return real(image)

    (folder / "cat" / "large.png").write_bytes(encode(picture(47, 47)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    (skip,) = selected(folder).skips
    assert skip.key == "cat/large.png" and "cannot be decoded" in skip.reason


@reported("trial", "JSON 100,000 brackets deep for names or contexts", "refused in one line")
def test_deep_json(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"data\.class_names: .*names\.json"):
        read_class_names(str(tmp_path / "names.json"))
    (tmp_path / "contexts.jsonl").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"describer\.contexts: .*contexts\.jsonl, line 1"):
        read_contexts(str(tmp_path / "contexts.jsonl"))


@reported("trial", "recorded contexts with U+2028 inside a text (valid JSONL)", "lines end at line feeds only")
def test_line_separators_in_contexts(tmp_path: Path) -> None:
    (tmp_path / "contexts.jsonl").write_text('{"a.png": "tree\u2028house"}\r\n{"b.png": "sea"}\n', encoding="utf-8")
    assert read_contexts(str(tmp_path / "contexts.jsonl")) == {"a.png": "tree\u2028house", "b.png": "sea"}
