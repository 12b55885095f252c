"""Where training scripts keep their curves."""

import json
from pathlib import Path

import pytest

from synood_ray.mini import ROOT, model_path
from tools.mini_world.training import Curve


def test_a_trial_keeps_its_curve_with_its_model_and_goes_on_from_it(tmp_path: Path) -> None:
    curve = Curve("inpainting", tmp_path / "trial")
    assert curve.rows == [] and curve.seconds() == 0
    curve.add(2.04, step=1, loss=0.5)
    assert json.loads((tmp_path / "trial/curves/inpainting.json").read_text()) == [
        {"seconds": 2.0, "step": 1, "loss": 0.5}
    ]
    assert Curve("inpainting", tmp_path / "trial").seconds() == 2.0


def test_shipped_models_have_theirs_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = ROOT / "curves" / "inpainting.json"
    assert Curve("inpainting").path == Curve("inpainting", model_path("inpainting") / "vae").path == shipped
    monkeypatch.chdir(ROOT)  # however the folder is written
    assert Curve("inpainting", Path("models/inpainting")).path == shipped
    assert Curve("inpainting").rows
