"""docs/extending.md, "An observer", to the letter: the driver's own loop, with workers that need no models."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

USE = """
import sys
from pathlib import Path

import pytest
from journal import Journal

from synood_ray.config.settings import Settings
from synood_ray.pipeline import synthesize
from tests.farm.local_ray import make_images, use_local_ray
from tests.farm.stubs import stub_actors

folder = Path(sys.argv[1])
data = {"uri": str(make_images(folder / "images", 10)), "per_class": 100}
settings = Settings.model_validate({"data": data, "output": str(folder / "run"), "farm": {"unit_size": 4}})
with pytest.MonkeyPatch.context() as patch:
    use_local_ray(patch)
    synthesize(settings, actors=stub_actors("once-1 error-2"), observers=[Journal(folder / "journal.jsonl")])
"""
UNITS = 4


def test_the_page_keeps_a_journal_of_a_run(tmp_path: Path) -> None:
    run(follow("An observer", tmp_path / "copy"), "-c", USE, str(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    done = Counter((line["stage"], line["unit"]) for line in lines if line["event"] == "UnitDone")
    assert done == Counter([("describe", unit) for unit in range(UNITS)] + [("sample", unit) for unit in (0, 1, 3)])
    failed = [(line["unit"], line["attempt"], line["error"]) for line in lines if line["event"] == "UnitFailed"]
    assert sorted(failed) == [(1, 1, "ValueError: unit 1 does not work")] + [
        (2, attempt, "ValueError: unit 2 does not work") for attempt in (1, 2, 3)
    ]
    assert [line["unit"] for line in lines if line["event"] == "UnitQuarantined"] == [2]
    workers = [line["worker"] for line in lines if line["event"] == "WorkerReady"]
    assert {worker.partition("-")[0] for worker in workers} == {"describer", "sampler"}
    assert [line["stage"] for line in lines if line["event"] == "StageBegan"] == ["describe", "sample"]
    assert sorted(line["stage"] for line in lines if line["event"] == "StageEnded") == ["describe", "sample"]
