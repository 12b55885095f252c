"""The farm benchmarks end to end at tiny sizes: that they measure what they say, not how fast it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import (
    busy,
    catalogue,
    dispatch,
    fullsize,
    placement,
    rehearsing,
    reporting,
    resuming,
    sampling,
    small_farm,
    throughput,
)
from synood_ray.cli.layers import load_preset, resolve
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from tests.jobs.conftest import run
from tools.browser import find_chromium

pytestmark = pytest.mark.real


def mini() -> Settings:
    return resolve([load_preset("mini")])[0]


def test_plan() -> None:
    found = resuming.benchmark(units=300, committed=270, repetitions=1)
    assert found["resume"]["tasks_left"] == 30 * resuming.UNIT_SIZE
    assert found["finished"]["code"] == 0 and found["finished"]["loaded"] == []
    assert resuming.targets(found)[-1].met
    dry = rehearsing.benchmark(images=600)
    assert dry["parquet"]["code"] == dry["folder"]["code"] == 0 and len(rehearsing.targets(dry)) == 4


@pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed (Debian package chromium)")
def test_report() -> None:
    found = reporting.benchmark(mini(), samples=1200, repetitions=1)
    assert found["open"] > 0 and found["search"] > 0
    assert reporting.targets(found)[0].met


def test_a_job_that_imports_ray_is_seen(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text("import ray, sys\nsys.exit(3)\n")
    found = resuming.timed([sys.executable, "-c", resuming.ASK, str(job)])
    assert found["code"] == 3 and found["loaded"] == ["ray"]


def test_dispatch_and_busy_share() -> None:
    found = dispatch.benchmark(units=20, slices=2, workers=2, farm=2, latency=0.02)
    assert all(len(found[side]["ours"]) == 2 and found[side]["ratio"] > 0 for side in ("same_message", "no_message"))
    farm, idle = found["metrics"]["farm"], found["metrics"]["idle"]
    assert len(farm["ours"]) == len(idle["bare"]) == 2 and farm["ratio"] > 0
    assert [target.at for target in dispatch.targets(found)] == ["least", "least", "least", "most"]
    share = busy.benchmark(workers=2, latency=0.02, units_each=10)
    assert 0 < share["busy"] <= 1 and share["seconds"] >= 0.15


def test_farm_and_bare_loop_on_the_small_models() -> None:
    settings = mini()
    settings.sampling.steps = settings.sampling.rounds = 2
    settings.sampling.band = 100.0  # whatever comes out is accepted: rates that are not zero
    found = throughput.benchmark(settings, samples=4, slices=1, unit_size=2, cores=1)
    assert found["farm"]["ratio"] > 0 and len(throughput.targets(found)) == 1
    scorer = placement.benchmark(settings, turns=1, units=1, unit_size=2, cores=1)
    assert all(len(scorer["actor_over_local"][side]) == 1 for side in ("ours", "bare"))
    assert placement.target(scorer).value == 1 - scorer["actor_over_local"]["ratio"]


def test_recipes_on_the_small_models(tmp_path: Path) -> None:
    settings = mini()
    settings.sampling.band = 1.0
    figures, targets = sampling.compare_recipes(settings, 10, str(tmp_path / "margins.png"))
    assert list(figures) == ["newton", "fresh", "official"]
    for rows in figures.values():
        assert rows["samples"] == (10, None)
        value, ends = rows["acceptance"]
        assert ends is not None and ends[0] <= value <= ends[1] and value > 0
    assert figures["official"]["rounds"][0] == 3 and figures["newton"]["rounds"][0] <= 6
    calls = figures["official"]["denoiser_calls_per_accepted"][0] * figures["official"]["acceptance"][0]
    assert calls == pytest.approx(3 * 12 * 2)  # rounds, 0.6 of 20 solver steps, guidance
    assert len(targets) == 6
    assert (tmp_path / "margins.png").stat().st_size > 10_000


def test_farm_needs_contexts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"describer\.contexts"):
        small_farm.write_contexts(str(tmp_path), None, tmp_path)  # type: ignore[arg-type]


def test_wrong_names_are_told_before_anything_runs() -> None:
    refused = run("benchmark", "--only", "plan,fram", code=2)
    assert "'fram'" in refused.stderr and "dispatch" in refused.stderr
    assert "--random-weights" in run("benchmark", "--only", "plan,fullsize", code=2).stderr
    assert "data.uri" in run("benchmark", "--only", "farm", "--preset", "imagenet", code=2).stderr
    for options in (
        ["--samples", "many"],
        ["--samples", "0"],
        ["--samples", "461"],
        ["--models", "sd3"],
        ["--plot", "no/such/place.png"],
    ):
        refused = run("benchmark", *options, code=2)
        assert options[0] in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


def test_every_full_size_model_can_be_asked_for() -> None:
    assert tuple(fullsize.BUILDERS) == catalogue.FULL_SIZE
