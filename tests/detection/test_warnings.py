"""Where a result is worth little, it is said."""

from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.data.images import SourceImage
from synood_ray.detection.warnings import result_warnings, run_warnings
from synood_ray.storage import layout
from synood_ray.storage.record import RunRecord
from synood_ray.storage.run import Run
from synood_ray.storage.sources import encode_sources
from synood_ray.storage.stores import open_store


def sources(labels: list[int]) -> list[SourceImage]:
    return [SourceImage(f"{i}.png", label, f"c{label}", f"/{i}.png", 9, 8, 8, None) for i, label in enumerate(labels)]


def make(folder: Path, labels: list[int], held_out: int) -> Run:
    store = open_store(str(folder))
    store.put_new(layout.ID_MANIFEST, encode_sources(sources(labels)))
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(sources([0] * held_out)))
    return Run(store, RunRecord({}, "", "", 0, 0, [], {}))


def settings(model: str, data: str) -> Settings:
    return Settings.model_validate({"scorer": {"model": model}, "data": {"uri": data}})


BUNDLED, OWN = ("mini://models/clip", "mini://data/id_train.parquet"), ("ViT-B-16", "photos")


@pytest.mark.parametrize(
    ("labels", "held_out", "of", "told"),
    [
        ([0, 0, 1, 1], 100, BUNDLED, []),
        ([0, 0, 1, 1], 100, OWN, []),
        ([0, 0, 1, 1], 99, OWN, ["only 99 held-out ID images"]),
        ([0, 0, 1], 100, OWN, ["1 of 2 classes have one ID image"]),
        ([0, 0, 1, 1], 100, (BUNDLED[0], "photos"), ["mini://models/clip is a bundled miniature model"]),
    ],
)
def test_of_a_run(tmp_path: Path, labels: list[int], held_out: int, of: tuple[str, str], told: list[str]) -> None:
    found = run_warnings(make(tmp_path, labels, held_out), settings(*of))
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


def test_of_figures() -> None:
    good = {"id": {"mcm": {"accuracy": 0.5}}, "sets": {"near/x": {"mcm": {"auroc": 0.5}}}}
    assert result_warnings(good) == []
    bad = {
        "id": {"mcm": {"accuracy": 0.49}, "synood": {"accuracy": 0.3}},
        "sets": {"near/x": {"mcm": {"auroc": 0.49}, "synood": {"auroc": 0.6}}, "far/y": {"mcm": {"auroc": 0.9}}},
    }
    first, second = result_warnings(bad)
    assert first.startswith("synood names the class of 30 % of the ID test images")
    assert second == "near/x: AUROC under 50 %, worse than chance, of mcm"
