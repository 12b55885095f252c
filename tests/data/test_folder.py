"""Folders of class folders, on local disk and on S3."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synood_ray.config.settings import DataSettings
from synood_ray.data.images import UNLABELLED, ClassInfo
from synood_ray.data.reader import ImageReader
from synood_ray.data.source import open_source
from synood_ray.errors import UserError
from synood_ray.storage.stores.s3 import S3Store
from tests.badimages import broken, encode, odd, picture, rotated
from tests.data.conftest import MakeFolder, upload

DATA = DataSettings()
STRANGE_NAMES = [
    "with blanks",
    "with.dots.jpg",
    "with: colons",
    "hash#3",
    "100%41",
    "question?mark*[star]",
    "naïve Ätzung 雪 🦊",
    "two\nlines",
    "tab\tand \\ backslash",
    "quote ' and \"",
    " leading and trailing ",
    "-dash",
    "~tilde",
]


def test_labels_are_the_sorted_folders(make_folder: MakeFolder) -> None:
    folder = make_folder(["b", "a", "C"])
    (folder / "a" / "deep" / "er").mkdir(parents=True)
    (folder / "a" / "deep" / "er" / "x.jpg").write_bytes(encode(picture(), "JPEG"))
    source = open_source(str(folder), DATA)
    assert source.classes == [ClassInfo("C", "C"), ClassInfo("a", "a"), ClassInfo("b", "b")]
    images = source.scan().images
    assert [image.key for image in images if image.label == 1][-1] == "a/deep/er/x.jpg"
    assert {image.name for image in images if image.label == 2} == {"b"}
    for image in images:
        data = (folder / image.key).read_bytes()
        assert source.read(image) == data
        assert (image.n_bytes, image.width, image.height) == (len(data), 48, 48)


def test_strange_names_work(make_folder: MakeFolder) -> None:
    folder = make_folder(STRANGE_NAMES, per_class=1)
    for name in STRANGE_NAMES:
        (folder / name / f"{name}.png").write_bytes(encode(picture(seed=7)))
    source = open_source(str(folder), DataSettings(class_names="keys"))
    scan = source.scan()
    assert sorted(info.key for info in source.classes) == sorted(STRANGE_NAMES)
    assert not any("\n" in info.name for info in source.classes)
    assert not scan.skips
    assert {image.key for image in scan.images} == {
        f"{name}/{file}.png" for name in STRANGE_NAMES for file in ("0", name)
    }
    reader = ImageReader(DATA)
    assert all(reader.read(image) == (folder / image.key).read_bytes() for image in scan.images)


def test_every_bad_image_is_a_skip_with_its_reason(make_folder: MakeFolder) -> None:
    folder = make_folder(per_class=1)
    zoo = {name: bad for name, bad in broken().items() if bad.at_scan}
    for name, bad in zoo.items():
        (folder / "cat" / name).write_bytes(bad.data)
    for name, data in odd().items():
        (folder / "dog" / name).write_bytes(data)
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "cat" / "dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "labels.csv").write_text("not an image and not in a class")
    scan = open_source(str(folder), DATA).scan()
    reasons = {skip.key: skip.reason for skip in scan.skips}
    assert reasons.pop("cat/pipe.png") == "not a regular file"
    assert reasons.pop("cat/dangling.png") == "cannot be read: No such file or directory"
    assert reasons.pop("labels.csv") == "not in a class folder"
    assert reasons.keys() == {f"cat/{name}" for name in zoo}
    assert all(bad.reason in reasons[f"cat/{name}"] for name, bad in zoo.items())
    assert {image.key for image in scan.images if image.label == 1} == {"dog/0.png", *(f"dog/{name}" for name in odd())}


def test_a_rotated_image_has_its_upright_size(make_folder: MakeFolder) -> None:
    folder = make_folder(per_class=1)
    (folder / "cat" / "turned.jpg").write_bytes(rotated(6))  # stored as 48x64
    (image,) = [i for i in open_source(str(folder), DATA).scan().images if i.key == "cat/turned.jpg"]
    assert (image.width, image.height) == (64, 48)


def test_hidden_files_and_folders_are_left_out(make_folder: MakeFolder) -> None:
    folder = make_folder(per_class=1)
    for hidden in (".cache/x.png", "cat/.thumbs/x.png", "cat/.DS_Store"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"x")
    source = open_source(str(folder), DATA)
    scan = source.scan()
    assert [info.key for info in source.classes] == ["cat", "dog"]
    assert (len(scan.images), scan.skips) == (2, [])


def test_links_are_followed_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    real = make_folder(["x"], name="real")
    folder = make_folder(per_class=1)
    (folder / "linked class").symlink_to(real / "x")
    (folder / "cat" / "loop").symlink_to(folder)
    scan = open_source(str(folder), DATA).scan()
    assert len([image for image in scan.images if image.key.startswith("linked class/")]) == 6
    assert len(scan.images) == 8


def test_a_name_that_is_not_utf8_is_a_skip(make_folder: MakeFolder) -> None:
    folder = make_folder(per_class=1)
    (folder / "cat" / os.fsdecode(b"b\xffd.png")).write_bytes(encode(picture()))
    scan = open_source(str(folder), DATA).scan()
    assert [(skip.key, skip.reason) for skip in scan.skips] == [
        ("'cat/b\\udcffd.png'", "the file's name is not valid UTF-8")
    ]


def test_order_does_not_depend_on_the_disk(make_folder: MakeFolder) -> None:
    folder = make_folder(["b", "a"], per_class=12)
    images = open_source(str(folder), DATA).scan().images
    assert images == sorted(images, key=lambda image: (image.label, image.key))


def test_progress_ends_at_the_total(make_folder: MakeFolder) -> None:
    calls: list[tuple[int, int]] = []
    open_source(str(make_folder()), DATA).scan(lambda done, total: calls.append((done, total)))
    assert calls[-1] == (12, 12)


def test_relative_paths_are_made_absolute(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(per_class=1)
    monkeypatch.chdir(folder.parent)
    (image, _) = open_source("images", DATA).scan().images
    assert image.uri == str(folder / "cat" / "0.png")


def test_classes_of_another_set_give_the_labels(make_folder: MakeFolder) -> None:
    train = open_source(str(make_folder(["ant", "cat", "dog"], name="train")), DATA)
    held_out = open_source(str(make_folder(["dog", "cat"], name="val")), DATA, classes=train.classes)
    assert {(image.label, image.name) for image in held_out.scan().images} == {(1, "cat"), (2, "dog")}
    with pytest.raises(UserError, match=r"data\.calibration: .*lacks: 'owl'"):
        open_source(
            str(make_folder(["dog", "owl"], name="more")), DATA, classes=train.classes, setting="data.calibration"
        )


def test_unlabelled_sets_may_be_flat(make_folder: MakeFolder, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "x.png").write_bytes(encode(picture()))
    (image,) = open_source(str(flat), DATA, labelled=False).scan().images
    assert (image.key, image.label, image.name) == ("x.png", UNLABELLED, "")
    assert len(open_source(str(make_folder()), DATA, labelled=False).scan().images) == 12


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "data.uri: no such folder: "),
        ("nowhere.parquet", "data.uri: no such file: "),
        ("empty", "has no class folders"),
        ("flat", "has no class folders"),
        ("single", "only one class, 'a'; at least two"),
        ("a file", "is a file; give a folder"),
        ("", "data.uri: no images named"),
    ],
)
def test_wrong_folders_are_named(path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "x.png").write_bytes(encode(picture()))
    (tmp_path / "single" / "a").mkdir(parents=True)
    (tmp_path / "a file").write_text("x")
    with pytest.raises(UserError) as raised:
        open_source(str(tmp_path / path) if path else "", DATA)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(UserError, match="only local paths, s3:// and mini://"):
        open_source("gs://bucket/x", DATA)


def test_a_folder_on_s3_is_the_same_set(make_folder: MakeFolder, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("moto")
    uri = request.getfixturevalue("moto_uri")
    folder = make_folder(["a b", "c:d", "ü.é"])
    (folder / "a b" / "turned.jpg").write_bytes(rotated(6))
    (folder / "a b" / "zero.jpg").write_bytes(b"")
    (folder / "a b" / "large.png").write_bytes(encode(picture(300, 300)))  # longer than one range request
    upload(folder, uri)
    here, there = open_source(str(folder), DATA), open_source(uri, DATA)
    assert here.classes == there.classes
    assert here.listing() == there.listing() and here.listing()["a b/zero.jpg"] == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Store, "list", lambda *_: pytest.fail("listed again"))
        local, remote = here.scan(), there.scan()
        there.listing()
    assert local.skips == remote.skips
    assert [(i.key, i.label, i.n_bytes, i.width, i.height) for i in local.images] == [
        (i.key, i.label, i.n_bytes, i.width, i.height) for i in remote.images
    ]
    reader = ImageReader(DATA)
    assert all(reader.read(image) == (folder / image.key).read_bytes() for image in remote.images)
    assert all(image.uri == f"{uri}/{image.key}" for image in remote.images)
    with pytest.raises(UserError, match="no such folder"):
        open_source(f"{uri}/nowhere", DATA)
