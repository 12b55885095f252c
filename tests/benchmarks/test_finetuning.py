"""The controls of fine-tuning, on a small published run and a tiny CLIP."""

from pathlib import Path

import pytest

from benchmarks import finetuning
from synood_ray.detection.evaluate import run_evaluation
from synood_ray.errors import UserError
from synood_ray.training.job import train
from tests.detection.tiny_clip import save_tiny_clip
from tests.training.run_folder import make_run, make_settings


def test_the_accepted_images_row_is_what_the_jobs_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))
    store = make_run(settings)
    found = finetuning.show(finetuning.benchmark(settings, settings.output, seeds=2))
    assert set(found) == {"near/mixed", "far/grey"}
    for scores in found.values():
        assert list(scores) == [settings.detector.score, "neglabel"]
        for variants in scores.values():
            assert list(variants) == ["accepted images", "far outliers only", "ID images only"]
            assert all(len(values) == 2 for metrics in variants.values() for values in metrics.values())
    assert settings.seed == 0
    train(store, settings)
    detector = run_evaluation(store, settings)["sets"]
    for where, scores in found.items():
        for metric, values in scores[settings.detector.score]["accepted images"].items():
            assert values[0] == pytest.approx(detector[where]["synood"][metric], abs=1e-9)
    assert "ID images only" in capsys.readouterr().out


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run here"):
        finetuning.benchmark(make_settings(tmp_path, "unused"), str(tmp_path / "nothing"))
