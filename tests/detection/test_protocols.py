"""Small fakes of the public layouts, read by the protocols' names."""

import csv
import shutil
from pathlib import Path
from typing import get_args

import pytest

from synood_ray.config.settings import ProtocolName, Settings
from synood_ray.data.class_names import imagenet_names
from synood_ray.detection.evaluate import run_evaluation
from synood_ray.detection.protocols import PROTOCOLS
from synood_ray.detection.sets import open_sets
from synood_ray.errors import UserError
from synood_ray.report.board import COLUMNS, board_line
from synood_ray.storage.record import RunRecord
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store
from synood_ray.training.job import train
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import COLOURS, make_run, make_settings, picture

OOD = {  # set -> (folder, list's data folder, classes: folders below it)
    "ssb_hard": ("images_largescale/ssb_hard", ("n00005787", "n00288384")),
    "ninco": ("images_largescale/ninco", ("amphiuma_means", "drum")),
    "inaturalist": ("images_largescale/inaturalist", ("images",)),
    "textures": ("images_classic/texture", ("banded", "cloud")),
    "openimage_o": ("images_largescale/openimage_o", ("images",)),
}


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture((seed * 37 % 255, seed * 91 % 255, 120), seed))


def write_openood(root: Path) -> None:
    """As OpenOOD v1.5 lays ImageNet-1k out: the ID test flat, labels in the list, OOD labels -1."""
    lists = root / "benchmark_imglist" / "imagenet"
    lists.mkdir(parents=True)
    lines = []
    for label, colour in enumerate(COLOURS[name] for name in sorted(COLOURS)):
        for i in range(3):
            name = f"imagenet_1k/val/ILSVRC2012_val_{label}{i}.JPEG"
            path = root / "images_largescale" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(colour, 7000 + 10 * label + i))
            lines.append(f"{name} {label}")
    (lists / "test_imagenet.txt").write_text("\n".join(lines))
    (lists / "test_imagenet_r.txt").write_text("\n".join(lines[::-1]))
    for number, (name, (folder, classes)) in enumerate(OOD.items()):
        keys = []
        for j, own in enumerate(classes):
            for i in range(3):
                write(root / folder / own / f"{i}.png", 100 * number + 10 * j + i)
                keys.append(f"{Path(folder).name}/{own}/{i}.png -1")
        (lists / f"test_{name}.txt").write_text("\n".join(keys) + "\n")


def write_four_sets(root: Path, flat: bool) -> None:
    for number, folder in enumerate(
        ("iNaturalist/images", "SUN/images", "Places", "dtd/images/banded", "dtd/images/lined")
    ):
        for i in range(3):
            write(root / folder / f"{i}.png", 100 * number + i)
    lines = []
    for label, name in enumerate(sorted(COLOURS)):
        for i in range(2):
            key = f"{label}_{i}.png" if flat else f"{name}/{i}.png"
            path = root / "imagenet" / "val" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(COLOURS[name], 8000 + 10 * label + i))
            lines.append(f"{key} {label}")
    if flat:
        (root / "imagenet" / "val.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("protocols")
    return make_settings(folder, str(save_tiny_clip(folder / "clip")))


@pytest.fixture(scope="module")
def store(settings: Settings) -> Store:
    return make_run(settings)


def asked(settings: Settings, protocol: str, root: Path) -> Settings:
    wanted = {"protocol": protocol, "root": str(root), "id_test": None, "near": {"x": "/not/asked"}}
    return settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update=wanted)})


def test_the_settings_offer_exactly_the_protocols_of_the_table() -> None:
    assert get_args(ProtocolName) == tuple(PROTOCOLS)


def test_openood_is_read_by_its_lists(store: Store, settings: Settings, tmp_path: Path) -> None:
    write_openood(tmp_path)
    train(store, settings)
    wanted = asked(settings, "openood-v1.5", tmp_path)
    opened = open_sets(wanted, Run.open(store).record)
    ood = ["near/ssb_hard", "near/ninco", "far/inaturalist", "far/textures", "far/openimage_o"]
    assert list(opened) == ["id", *ood, "shifted/imagenet_r"]
    said: list[str] = []
    result = run_evaluation(store, wanted, said.append)
    assert {name: found["used"] for name, found in result["images"].items()} == {
        **{"id": 9, "near/ssb_hard": 6, "near/ninco": 6, "far/inaturalist": 3, "far/textures": 6, "far/openimage_o": 3},
        "shifted/imagenet_r": 9,
    }
    for group, count in (("near", 2), ("far", 3)):
        mean = result["means"][group]
        values = [result["sets"][where]["synood"]["auroc"] for where in mean["sets"]]
        assert len(values) == count and mean["values"]["synood"]["auroc"] == pytest.approx(sum(values) / count)
    shifted = result["shifted"]["shifted/imagenet_r"]["synood"]  # the same images: 95 % of nine are all of them
    assert shifted == {"accuracy": result["id"]["synood"]["accuracy"], "kept": 1.0}
    blind = result["blind"]  # wnids have no name here, flat sets no classes
    assert blind["near/ninco"] == {"classes": 2, "words": ["drum"], "prompts": [], "answers": []}
    assert set(blind) == {"near/ninco", "far/textures"} and blind["far/textures"]["words"] == ["cloud"]
    assert "blind check, near/ninco: of 2 class names 1 in negative labels (such as 'drum'), 0 in prompts" in "\n".join(
        said
    )
    assert not any(note.startswith("ID test:") for note in result["notes"])  # the protocol has one of its own
    text = board_line(result, wanted)
    assert text is not None
    heads, line = csv.reader(text.splitlines())
    assert tuple(heads) == COLUMNS
    row = dict(zip(heads, line, strict=True))
    assert row["Near-OOD_AUROC"] == f"{100 * result['means']['near']['values']['synood']['auroc']:.2f}"
    assert (row["Training"], row["Postprocessor"], row["Outlier_Data"]) == ("SynOOD", "fused", "No")
    assert board_line(result, settings) is None  # not by that protocol


@pytest.mark.parametrize("flat", [False, True])
def test_four_sets_beside_class_folders_or_a_flat_folder_with_its_list(
    store: Store, settings: Settings, tmp_path: Path, flat: bool
) -> None:
    write_four_sets(tmp_path, flat)
    opened = open_sets(asked(settings, "four-sets", tmp_path), Run.open(store).record)
    assert list(opened) == ["id", "far/inaturalist", "far/sun", "far/places", "far/textures"]
    scans = {name: source.scan().images for name, source in opened.items()}
    assert [image.label for image in scans["id"]] == [0, 0, 1, 1, 2, 2]
    assert [image.label for image in scans["far/textures"]] == [0, 0, 0, 1, 1, 1]
    assert {image.label for image in scans["far/sun"] + scans["far/places"] + scans["far/inaturalist"]} == {-1}


def test_what_is_missing_is_told_in_one_line(store: Store, settings: Settings, tmp_path: Path) -> None:
    record = Run.open(store).record

    def refused(message: str, root: str = str(tmp_path), whose: RunRecord = record) -> None:
        with pytest.raises(UserError, match=message) as error:
            open_sets(asked(settings, "openood-v1.5", Path(root)) if root else nameless, whose)
        assert "\n" not in str(error.value)

    nameless = asked(settings, "openood-v1.5", tmp_path)
    nameless.evaluation.root = ""
    refused(r"^evaluation\.root: name the folder that holds the sets of openood-v1\.5", "")
    refused(r"lacks the set id of openood-v1\.5; looked for benchmark_imglist/imagenet/test_imagenet\.txt")
    write_openood(tmp_path)
    shutil.rmtree(tmp_path / "images_classic")
    refused("lacks the set far/textures")
    names = list(imagenet_names().values())
    other = RunRecord(
        **{name: getattr(record, name) for name in record.__dataclass_fields__} | {"classes": names[::-1]}
    )
    refused("ImageNet's classes in another order", whose=other)
