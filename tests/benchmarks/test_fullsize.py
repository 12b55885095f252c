"""The full-size round, with models of the miniature world's size: random ones are taken as they are built."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest

from benchmarks import fullsize
from synood_ray.cli.layers import load_preset, resolve
from synood_ray.config.models import InpainterSettings
from synood_ray.models.inpainters import open_inpainter
from tests.detection.tiny_clip import TINY


def test_a_round_of_models_that_are_built_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = resolve([load_preset(fullsize.PRESET)])
    assert settings.scorer.pretrained == "openai"  # an architecture whose trained weights nobody fetches here
    settings.scorer.device = settings.inpainter.device = "cpu"
    settings.scorer.model = "tiny-of-test-fullsize"
    text = {**TINY["text_cfg"], "context_length": 77}
    (tmp_path / f"{settings.scorer.model}.json").write_text(json.dumps({**TINY, "text_cfg": text}))
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(fullsize, "CLASSES", ["fox", "bus", "frog"])
    pipe = open_inpainter(InpainterSettings(model="mini://models/inpainting", device="cpu")).pipe
    found = fullsize.one_round(pipe, fullsize.clip_model(settings.scorer), settings, 64)
    assert all(found["checks"].values()), found["checks"]
    assert found["denoiser_calls"] > 0 and found["seconds"]["score and gradient"] > 0
