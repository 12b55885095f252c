"""The farm benchmarks end to end at tiny sizes: that they measure what they say, not how fast it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from synood_ray.benchmarks import busy, dispatch, resuming, throughput
from synood_ray.commandline import load_settings
from synood_ray.config import Settings
from synood_ray.errors import UserError
from tests.jobs.conftest import ROOT, run

pytestmark = pytest.mark.real


def mini() -> Settings:
    return load_settings(["--preset", "mini"], program="", description="", require_output=False)


def test_plan() -> None:
    found = resuming.benchmark(ROOT / "jobs" / "synthesize.py", units=300, committed=270, repetitions=1)
    assert found["resume"]["tasks_left"] == 30 * resuming.UNIT_SIZE
    assert found["finished"]["code"] == 0 and found["finished"]["loaded"] == []
    assert resuming.targets(found)[-1].met


def test_a_job_that_imports_ray_is_seen(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text("import ray, sys\nsys.exit(3)\n")
    found = resuming.timed([sys.executable, "-c", resuming.ASK, str(job)])
    assert found["code"] == 3 and found["loaded"] == ["ray"]


def test_dispatch_and_busy_share() -> None:
    found = dispatch.benchmark(units=20, slices=2, workers=2)
    assert all(len(found[side]["ours"]) == 2 and found[side]["ratio"] > 0 for side in ("same_message", "no_message"))
    share = busy.benchmark(workers=2, latency=0.02, units_each=10)
    assert 0 < share["busy"] <= 1 and share["seconds"] >= 0.15


def test_farm_and_bare_loop_on_the_small_models() -> None:
    settings = mini()
    settings.sampling.steps = settings.sampling.rounds = 2
    settings.sampling.band = 100.0  # whatever comes out is accepted: rates that are not zero
    found = throughput.benchmark(settings, samples=4, slices=1, unit_size=2, cores=1)
    assert found["farm"]["ratio"] > 0 and found["farm_with_scorer_actor"]["ratio"] > 0
    assert len(throughput.targets(found)) == 2


def test_farm_needs_contexts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"describer\.contexts"):
        throughput.write_contexts(str(tmp_path), None, tmp_path)  # type: ignore[arg-type]


def test_wrong_names_are_told_before_anything_runs() -> None:
    refused = run("benchmark", "--only", "plan,fram", code=2)
    assert "'fram'" in refused.stderr and "dispatch" in refused.stderr
    assert "--random-weights" in run("benchmark", "--only", "plan,fullsize", code=2).stderr
