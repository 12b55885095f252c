"""A run folder that version 0.1.0 wrote (commit 30a4f5a) works with every command of today's version.

Made by `jobs/synthesize.py --preset mini --limit 8 --farm.unit_size 4 --labels.keep 0.05`, `jobs/finetune.py
--training.epochs 2` and `jobs/evaluate.py --evaluation.bootstrap 50`; its report and checkpoints are left out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from synood_ray import Detector
from synood_ray.config.settings import from_stored
from synood_ray.storage.publish import publish
from synood_ray.storage.stores import open_store
from synood_ray.training.job import train
from tests.jobs.conftest import run, status

OLD = Path(__file__).with_name("0.1.0")
AS_THEN = (
    *("--prompts.policy", "context", "--prompts.across", "0"),
    *("--prompts.groups", "none", "--sampling.per_image", "1", "--sampling.band", "0.25", "--sampling.mask", "box"),
    *("--sampling.structure", "0", "--sampling.distinct", "0", "--sampling.gain", "8"),
)
"""What has another default today."""
COMMAND = ("--preset", "mini", "--limit", "8", "--farm.unit_size", "4", "--labels.keep", "0.05")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_status(old: Path) -> None:
    found = status(old)
    assert found["published"] is True
    assert {name: found[name] for name in ("planned", "committed", "quarantined")} == {
        "planned": 2,
        "committed": 2,
        "quarantined": 0,
    }
    assert {name: found[name] for name in ("accepted", "rejected", "failed")} == {
        "accepted": 8,
        "rejected": 0,
        "failed": 0,
    }


def test_the_command_of_then_names_the_defaults_that_have_changed(old: Path) -> None:
    refused = run("synthesize", *COMMAND, "--output", old, code=2).stderr
    assert refused.count("\n") == 1
    named = {one.split(":")[0] for one in refused[refused.rindex("(") + 1 :].split("; ")}
    assert named == {name.removeprefix("--") for name in AS_THEN[::2]}


def test_the_same_settings_find_it_finished(old: Path) -> None:
    assert "finished already" in run("synthesize", *COMMAND, *AS_THEN, "--output", old).stdout


def test_its_shards_are_made_anew_with_equal_rows(old: Path) -> None:
    written = {path.name: pq.read_table(path) for path in (old / "data").iterdir()}
    shutil.rmtree(old / "data")
    publish(open_store(str(old)))
    again = {path.name: pq.read_table(path) for path in (old / "data").iterdir()}
    assert {name: table.select(written[name].column_names) for name, table in again.items()} == written
    assert {name for table in again.values() for name in table.column_names} >= {"policy", "names"}


def test_its_detector_judges_as_it_did(old: Path) -> None:
    detector = Detector.load(old)
    assert detector.description.recipe == "synood"
    assert len(detector.description.class_names) == 115
    black, white = (Image.new("RGB", (64, 64), colour) for colour in ("black", "white"))
    assert detector([black, white]).score.tolist() == pytest.approx([0.46544, 0.42476], abs=2e-4)


def test_it_can_be_trained_on_again(old: Path) -> None:
    shutil.rmtree(old / "detector")
    store = open_store(str(old))
    settings = from_stored(json.loads((old / "run.json").read_text())["config"])
    settings.output = str(old)
    train(store, settings)
    assert Detector.load(old).description.data["accepted"] == 8


@pytest.mark.real
def test_it_is_evaluated_and_reported_again(old: Path) -> None:
    before = json.loads((old / "evaluation.json").read_text())
    run("evaluate", "--run", old, "--evaluation.bootstrap", "0")
    after = json.loads((old / "evaluation.json").read_text())
    for name in ("near/mini", "far/mini"):
        for method, metrics in before["sets"][name].items():
            assert after["sets"][name][method] == pytest.approx(metrics, abs=2e-3), (name, method)
    assert (old / "report" / "index.html").stat().st_size > 10_000
