import json

import numpy as np
import pytest
import torch

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.sampling.calibration import Calibration, calibrate
from tests.sampling.worlds import LinearInpainter, LinearScorer, calibration


class Identity(LinearInpainter):
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images


def test_tau_keeps_95_percent_and_sigma_is_the_standard_deviation() -> None:
    levels = torch.rand(200, generator=torch.Generator().manual_seed(0))
    batches = levels.view(10, 20, 1, 1, 1).expand(10, 20, 3, 4, 4)
    found = calibrate(batches, Identity(), LinearScorer(), Settings(), ["a", "b"])  # type: ignore[arg-type]
    scores = 10 * levels.numpy()
    assert found.tau == pytest.approx(np.quantile(scores, 0.05), rel=1e-5)
    assert (scores >= found.tau).mean() == pytest.approx(0.95, abs=0.006)
    assert found.sigma == pytest.approx(scores.std(ddof=1), rel=1e-5)
    assert found.margin(found.tau + 2 * found.sigma) == pytest.approx(2)
    assert Calibration.from_json(found.to_json()) == found


def test_how_sure_the_scorer_is_of_most_held_out_images() -> None:
    """By hand: 20 images whose logits over two classes and three negative labels are 0 but for one class's."""
    lead = torch.linspace(0.0, 3.0, 20)
    images = torch.zeros(20, 3, 4, 4)
    images[::2, 0, 0, 0], images[1::2, 0, 0, 1] = lead[::2], lead[1::2]  # LinearScorer's first logits, either class
    found = calibrate([images + 0.01], Identity(), LinearScorer(), Settings(), ["a", "b"])  # type: ignore[arg-type]
    probabilities = np.exp(lead.double().numpy()) / (np.exp(lead.double().numpy()) + 4)
    assert found.sure == pytest.approx(np.quantile(probabilities, 0.15), rel=1e-4)
    assert (probabilities >= found.sure).mean() == pytest.approx(0.85)


def test_a_run_of_before_takes_the_nearest_class_for_shown() -> None:
    stored = json.loads(calibration().to_json())
    del stored["sure"]
    assert Calibration.from_json(json.dumps(stored).encode()).sure == 0.0


def test_a_calibration_of_other_classes_or_score_is_refused() -> None:
    batches = [torch.rand(8, 3, 4, 4)]
    found = calibrate(batches, Identity(), LinearScorer(), Settings(), ["a", "b"])  # type: ignore[arg-type]
    found.check(Settings(), ["a", "b"])
    with pytest.raises(UserError, match="classes"):
        found.check(Settings(), ["b", "a"])
    with pytest.raises(UserError, match="msp"):
        found.check(Settings.model_validate({"scorer": {"score": "msp"}}), ["a", "b"])


def test_no_images_and_no_spread_are_the_users_to_mend() -> None:
    with pytest.raises(UserError, match=r"data\.calibration"):
        calibrate([], Identity(), LinearScorer(), Settings(), ["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no boundary"):
        calibrate([torch.ones(8, 3, 4, 4)], Identity(), LinearScorer(), Settings(), ["a", "b"])  # type: ignore[arg-type]
