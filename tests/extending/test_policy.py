"""docs/extending.md, "A prompt policy", to the letter."""

from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

USE = """
import sys
from pathlib import Path
from typing import get_args

import torch
from PIL import Image

from synood_ray.config.sampling import PolicyName
from synood_ray.config.settings import Settings
from synood_ray.models.describers.base import Context
from synood_ray.models.inpainters.base import Prompts
from synood_ray.records import SampleTask, SourceImage
from synood_ray.sampling.produce import Models, produce
from synood_ray.sampling.prompts import POLICIES
from synood_ray.sampling.relatives import Relatives
from tests.sampling.worlds import LinearInpainter, LinearScorer, calibration

assert get_args(PolicyName) == tuple(POLICIES)
sampling = {"id_companions": False, "clip_check": False}
settings = Settings.model_validate({"prompts": {"policy": "halves"}, "sampling": sampling})
path = Path(sys.argv[1]) / "fox.png"
Image.new("RGB", (16, 16)).save(path)
source = SourceImage("fox.png", 1, "fox", str(path), 100, 16, 16)
classes = ["owl", "fox", "newt"]
policy = POLICIES["halves"](settings, Relatives())
paintings = [policy.paint(source, Context("reeds", ""), classes, seed) for seed in range(20)]
assert paintings == [policy.paint(source, Context("reeds", ""), classes, seed) for seed in range(20)]
assert {one.prompt for one in paintings} == {"half fox, half owl", "half fox, half newt"}

TEXTS = {"A photo of fox.": 0.0, "A photo of owl.": 1.0, "A photo of newt.": 3.0}

def encode(prompt):
    return Prompts(torch.full((1, 2, 3), TEXTS[prompt]), torch.full((1, 5), -TEXTS[prompt]))

for one in paintings:
    level = 0.5 if one.prompt.endswith("owl") else 1.5
    found = one.condition(encode)
    assert (found.embeds == level).all() and (found.pooled == -level).all() and found.embeds.shape == (1, 2, 3)

class Inpainter(LinearInpainter):
    def encode_prompt(self, prompt):
        return encode(prompt)

    def denoise(self, one):
        assert set(one.prompts.embeds[:, 0, 0].tolist()) <= {0.5, 1.5}
        return super().denoise(one)

tasks = [SampleTask(str(seed), 0, source, seed, seed) for seed in range(4)]
models = Models(settings, classes, Inpainter(), LinearScorer(), calibration())
rows = produce(tasks, {task.key: Context("reeds", "") for task in tasks}, models)
assert [row.prompt for row in rows] == [one.prompt for one in paintings[:4]]
assert all(row.accepted for row in rows)
print("painted")
"""


def test_the_page_adds_a_policy_to_settings_and_rows(tmp_path: Path) -> None:
    folder = follow("A prompt policy", tmp_path / "copy")
    assert run(folder, "-c", USE, str(tmp_path)).strip() == "painted"
    assert "halves" in run(folder, "-m", "synood_ray", "synthesize", "--help", "prompts.policy")
