"""The map from wnid to name."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_ray.config.settings import DataSettings
from synood_ray.data.class_names import BY_KEY, IMAGENET, imagenet_names, name_classes, read_class_names
from synood_ray.data.images import ClassInfo
from synood_ray.data.source import open_source
from synood_ray.errors import UserError
from tests.data.conftest import MakeFolder, rows_of, write_parquet

KEYS = ["n01", "n02"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.json", '{"n01": "tench", "n02": "crane, bird", "n03": "unused"}'),
        ("names.csv", 'wnid,name\nn01,tench\nn02,"crane, bird"\n\n'),
        ("names.csv", '\ufeffn01,tench\r\nn02,"crane,\n bird"\r\n'),
    ],
)
def test_json_and_csv(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert name_classes(KEYS, str(tmp_path / name)) == [ClassInfo("n01", "tench"), ClassInfo("n02", "crane, bird")]


def test_equal_names_stay_different_classes(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"n01": "crane", "n02": "crane"}')
    source = open_source(str(make_folder(KEYS)), DataSettings(class_names=str(tmp_path / "names.json")))
    assert {(image.label, image.name) for image in source.scan().images} == {(0, "crane"), (1, "crane")}


def test_parquet_labels_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("n01,tench\nn02,crane\n")
    path = write_parquet(tmp_path / "x.parquet", rows_of([0, 1]), names=KEYS)
    source = open_source(str(path), DataSettings(class_names=str(tmp_path / "names.csv")))
    assert source.classes == [ClassInfo("n01", "tench"), ClassInfo("n02", "crane")]


def test_missing_keys_are_named(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"n01": "tench"}')
    with pytest.raises(UserError, match=r"data\.class_names: .* has no name for 2 of 3 classes: 'n02', 'n\\n"):
        name_classes(["n01", "n02", "n\n"], str(tmp_path / "names.json"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", '{"n01": "tench",\n}', "x.json, line"),
        ("x.json", '["tench"]', "must be one object of strings"),
        ("x.json", '{"n01": 3}', "must be one object of strings"),
        ("x.json", '{"n01": " "}', "gives 'n01' an empty name"),
        ("x.csv", "n01,tench\nn02,crane, bird\n", "x.csv, line 2: 3 columns instead of two"),
        ("x.csv", "n01,tench\nn01,crane\n", "x.csv, line 2: a second name for 'n01'"),
        ("x.csv", "n01;tench\n", "line 1: 1 columns"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as raised:
        read_class_names(str(tmp_path / name))
    assert message in str(raised.value)
    assert str(raised.value).startswith("data.class_names: ")
    assert "\n" not in str(raised.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("x.csv", "nowhere.csv"):
        with pytest.raises(UserError, match=rf"data\.class_names: cannot read .*{name}"):
            read_class_names(str(tmp_path / name))


def test_imagenet_wnids_are_recognised_and_get_the_curated_names() -> None:
    assert len(imagenet_names()) == 1000 and list(imagenet_names()) == sorted(imagenet_names())
    wnids = ["n01440764", "n02012849", "n03126707", "n03710721"]
    expected = ["tench", "crane bird", "construction crane", "one-piece bathing suit"]
    assert [one.name for one in name_classes(wnids, None)] == expected
    assert name_classes(wnids, IMAGENET) == name_classes(wnids, None)
    assert [one.name for one in name_classes(wnids, BY_KEY)] == wnids


def test_other_wnids_are_refused_with_the_cure() -> None:
    with pytest.raises(UserError, match=r"'n09999999' is none of ImageNet-1k's: set data\.class_names to"):
        name_classes(["n01440764", "n09999999"], None)
    assert [one.name for one in name_classes(["n01440764", "fox"], None)] == ["n01440764", "fox"]  # no set of wnids


def test_the_bundled_names_are_open_clips() -> None:
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    assert imagenet_names() == {info.index_to_label_name(i): name for i, name in enumerate(IMAGENET_CLASSNAMES)}
