"""`synood synthesize --dry-run`: what is checked, what is said, and that nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_ray.cli import synthesize as command
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import main_guard
from synood_ray.config.pools import FarmSettings
from synood_ray.farm import cluster
from synood_ray.farm.forecast import Rates, forecast
from synood_ray.farm.placement import Node
from tests.farm.local_ray import make_images, use_local_ray
from tests.farm.stubs import stub_actors


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in cluster.JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    use_local_ray(monkeypatch)
    monkeypatch.setattr(cluster, "this_machine", lambda: Node({"CPU": 2.0, "GPU": 0.0}))
    return make_images(tmp_path / "images", 10)


def run(tmp_path: Path, *more: str) -> int:
    """The command with stub workers."""
    argv = [
        "--data",
        str(tmp_path / "images"),
        "--output",
        str(tmp_path / "run"),
        "--farm.unit_size",
        "4",
        "--sampling.per_image",
        "1",
        *more,
    ]
    return main_guard(lambda argv: command.run(parse(command.COMMAND, argv), actors=stub_actors()), argv)


def test_the_plan_is_said_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "classes (images): a 10, b 10\n" in said
    assert "plan: 20 images, 8 selected, 8 samples in 2 units" in said  # two of a class are held out, four are wanted
    assert (
        "cluster: 1 node, 2 CPU and 0 GPU in all; there is room for a describer (0.2 CPU), a sampler (0.8 CPU)" in said
    )
    assert "no forecast: --probe K" in said
    assert not (tmp_path / "run").exists()


def test_a_rerun_is_counted_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = "key in ('00000000', '00000001', '00000006')"
    assert run(tmp_path) == 0
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert run(tmp_path, "--dry-run", "--rerun", where) == 0
    said = capsys.readouterr().out
    assert "to be drawn anew: 3 of 8 samples, in 2 units: 3 accepted; 2 a, 1 b\n" in said
    assert sorted(tmp_path.rglob("*")) == before
    assert run(tmp_path, "--rerun", where) == 0
    capsys.readouterr()
    assert run(tmp_path, "--dry-run", "--rerun", where) == 0
    assert "rerun 1 (key in ('00000000', '00000001', '00000006')): 0 of 3 samples are still" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--rerun", "reson = 'x'"), "--rerun: no column 'reson'; there are reason, class, "),
        (("--rerun", "failed", "--retry-failed"), "--rerun: not together with --retry-failed"),
        (("--rerun", "failed", "--rerun-seed", "0"), "--rerun-seed: must be a whole number from 1, not '0'"),
        (("--rerun-seed", "2"), "--rerun-seed: goes with --rerun"),
        (("--rerun", "failed"), "no run here"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_wrong_rerun_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], line: str, dry: tuple[str, ...]
) -> None:
    assert run(tmp_path, *dry, *more) == 2
    told = capsys.readouterr()
    assert line in told.err and told.err.count("\n") == 1 and not told.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "more, line",
    [
        (("--probe", "4"), "--probe: goes with --dry-run"),
        (("--like", "elsewhere"), "--like: goes with --dry-run"),
        (("--price", "2"), "--price: goes with --dry-run"),
        (("--dry-run", "--retry-failed"), "--dry-run: not together with --retry-failed"),
    ],
)
def test_no_run_begins_where_only_its_plan_was_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], line: str
) -> None:
    assert run(tmp_path, *more) == 2
    assert line in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_hub_that_is_not_reached_is_no_reason_to_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi, constants, errors

    def unreached(*arguments: object, **named: object) -> None:
        raise errors.HTTPError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", unreached)
    assert run(tmp_path, "--dry-run", "--inpainter.model", "someone/something") == 0
    assert "inpainter.model: someone/something was not found, here or on the Hub" in capsys.readouterr().out


def test_a_probe_measures_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--dry-run", "--probe", "4", "--price", "2.5", "--farm.samplers.gpus", "0") == 0
    said = capsys.readouterr().out
    assert "rates of " in said and "in all: about " in said and "at 2.5 a GPU-hour" in said
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_begun_is_counted_and_gives_the_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for unit in (tmp_path / "run/parts").glob("part-000001*"):
        unit.unlink()
        del before[unit]
    before[tmp_path / "run/parts"] = (tmp_path / "run/parts").stat().st_mtime_ns
    capsys.readouterr()
    assert run(tmp_path, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "holds this run, and can be written" in said
    assert "plan: 8 samples in 2 units; 4 are there, 4 to make" in said and "in all: about" in said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert run(tmp_path, "--dry-run", "--sampling.band", "0.5") == 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--farm.samplers.gpus", "1"), "farm.samplers: a sampler needs 1 GPU, 0.8 CPU, and no node has that"),
        (("--inpainter.model", "./nothing/here"), "inpainter.model: there is no folder ./nothing/here"),
        (("--labels.candidates", "nothing.txt"), "nothing.txt"),
        (("--price", "free"), "price: must be a number above 0, not 'free'"),
        (("--probe", "0"), "probe: must be a number above 0, not '0'"),
        (("--like", "nothing"), "nothing here"),
    ],
)
def test_what_would_be_refused_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], told: str
) -> None:
    assert run(tmp_path, "--dry-run", *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and not (tmp_path / "run").exists()


def test_workers_of_several_kinds_are_counted_as_the_preferred() -> None:
    kinds = {"spot": "gpus=2 market=spot", "rest": "gpus=1"}
    farm = FarmSettings.model_validate({"samplers": {"max": 4, "gpus": 0.5, "kinds": kinds}})
    found = forecast(36_000, 0, farm, Rates({"sample": 2.0}, 250_000))
    assert str(found.work[0]) == "samplers: 20.0 h of work, 5.0 h with 4 (kind spot), 40 GPU-hours"


def test_the_arithmetic() -> None:
    farm = FarmSettings.model_validate({"describers": {"max": 1, "gpus": 1}, "samplers": {"max": 4, "gpus": 0.5}})
    found = forecast(36_000, 18_000, farm, Rates({"describe": 0.1, "sample": 2.0}, 250_000))
    assert found.lines(3.0) == [
        "describers: 30 min of work, 30 min with 1, 0.5 GPU-hours",
        "samplers: 20.0 h of work, 5.0 h with 4, 10 GPU-hours",
        "in all: about 5.0 h without start-up, 10.5 GPU-hours, 31.50 at 3 a GPU-hour, 18 GB of storage",
    ]
