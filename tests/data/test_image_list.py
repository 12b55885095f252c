from pathlib import Path

import pytest

from synood_ray.config.settings import DataSettings
from synood_ray.data.image_list import ImageListSource
from synood_ray.data.images import UNLABELLED, ClassInfo
from synood_ray.errors import UserError
from tests.training.run_folder import picture

CLASSES = [ClassInfo(key, key) for key in ("fox", "bus", "frog")]


def opened(tmp_path: Path, lines: str, classes: list[ClassInfo] | None = CLASSES) -> ImageListSource:
    (tmp_path / "list.txt").write_text(lines)
    return ImageListSource(str(tmp_path / "list.txt"), str(tmp_path / "data"), DataSettings(), classes, "the setting")


def write(tmp_path: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture((200, 10, 10), number))


def test_labels_count_the_runs_classes_and_paths_may_hold_blanks(tmp_path: Path) -> None:
    write(tmp_path, "val/b.png", "val/a c.png")
    source = opened(tmp_path, "val/b.png 2\r\n\nval/a c.png 0\nval/gone.png 1\n")
    scan = source.scan()
    assert [(image.key, image.label, image.name) for image in scan.images] == [
        ("val/a c.png", 0, "fox"),
        ("val/b.png", 2, "frog"),
    ]
    assert [(skip.key, skip.reason) for skip in scan.skips] == [
        ("val/gone.png", "cannot be read: No such file or directory")
    ]
    assert source.read(scan.images[1]) == picture((200, 10, 10), 0)
    assert scan.images[0].width == 24
    sizes = [len(picture((200, 10, 10), number)) for number in (0, 1)]
    assert source.listing() == {"val/b.png 2": sizes[0], "val/a c.png 0": sizes[1], "val/gone.png 1": -1}


def test_ood_images_have_the_classes_of_their_folders(tmp_path: Path) -> None:
    write(tmp_path, "ninco/long_name/a.png", "ninco/other/b.png")
    source = opened(tmp_path, "ninco/other/b.png -1\nninco/long_name/a.png -1\n", None)
    assert [info.name for info in source.classes] == ["long_name", "other"]
    assert [(image.key, image.label) for image in source.scan().images] == [
        ("ninco/long_name/a.png", 0),
        ("ninco/other/b.png", 1),
    ]
    flat = opened(tmp_path, "ninco/other/b.png -1\n", None)
    assert list(flat.listing()) == ["ninco/other/b.png -1"] and flat.listing() != {"ninco/other/b.png -1": -1}
    assert flat.classes == [] and flat.scan().images[0].label == UNLABELLED


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("a.png\n", r"line 1: not \"path label\": 'a.png'"),
        ("a.png 0\nb.png x\n", "line 2: not"),
        ("a.png 0\n../b.png 1\n", r"line 2: not a path below the data folder: '\.\./b\.png 1'"),
        ("/etc/a.png 0\n", "line 1: not a path below"),
        (" 3\n", "line 1"),
        ("a.png 3\n", "line 1: label 3, but the run has 3 classes, 0 to 2"),
        ("a.png -1\n", "line 1: label -1"),
        ("a.png 0\n\n\nb.png 9\n", "line 4: label 9"),
        ("\n", "names no image"),
    ],
)
def test_what_is_no_list_is_told_with_its_line(tmp_path: Path, lines: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^the setting: .*{told}"):
        opened(tmp_path, lines)


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the setting: cannot read .*none\.txt"):
        ImageListSource(str(tmp_path / "none.txt"), str(tmp_path), DataSettings(), None, "the setting")
