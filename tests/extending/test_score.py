"""docs/extending.md, "An OOD score", to the letter."""

from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

USE = """
import sys
from pathlib import Path
from typing import get_args

import torch

from synood_ray import Detector
from synood_ray.config.models import ScoreName
from synood_ray.detection.evaluate import run_evaluation
from synood_ray.models.scorer import Scorer
from synood_ray.report.page import write_report
from synood_ray.scores import SCORES
from synood_ray.training.job import train
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import COLOURS, make_run, make_settings

assert get_args(ScoreName) == tuple(SCORES)
folder = Path(sys.argv[1])
settings = make_settings(folder, str(save_tiny_clip(folder / "clip")))
scorer = Scorer(settings.scorer.model_copy(update={"score": "lead"}), sorted(COLOURS))
images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
score, logits, _ = scorer.judge(images)
ranked = logits.sort(descending=True).values
assert torch.allclose(score, ranked[:, 0] - ranked[:, 1])
again, gradient = scorer.score_and_gradient(images)
assert torch.allclose(again, score, atol=1e-4) and gradient.abs().sum() > 0

store = make_run(settings)
settings.evaluation.scores, settings.detector.score = ["mcm", "lead"], "lead"
train(store, settings)
answers = Detector.load(settings.output)(images).score
assert ((answers > 0) & (answers < 1)).all()
found = run_evaluation(store, settings)
assert list(found["id"]) == ["mcm", "lead", "synood"] and found["sets"]["near/mixed"]["lead"]["auroc"] >= 0
assert "lead of the nearest ID class over the second" in store.get(write_report(store, settings, found)).decode()
print("used everywhere")
"""


def test_the_page_adds_a_score_to_scorer_evaluation_report_and_help(tmp_path: Path) -> None:
    folder = follow("An OOD score", tmp_path / "copy")
    assert run(folder, "-c", USE, str(tmp_path)).strip() == "used everywhere"
    shown = " ".join(run(folder, "-m", "synood_ray", "synthesize", "--help", "scorer.score").split())
    assert (
        "one of lead, mcm," in shown and "lead: lead of the nearest ID class over the second (this page, 2026)" in shown
    )
