"""docs/extending.md, "A sampling recipe", to the letter."""

from pathlib import Path

import pytest

from tests.extending.pages import follow, run

pytestmark = pytest.mark.slow

USE = """
from typing import get_args

import torch

from benchmarks.sampling import RECIPES as measured
from synood_ray.config.sampling import RecipeName
from synood_ray.sampling.recipes import RECIPES
from tests.sampling.test_refine import refiner, task

assert get_args(RecipeName) == tuple(RECIPES) and "descent" in measured
tasks = [task(str(i), level=0.1 * i, seed=i) for i in range(10)]
loops = [refiner(tau=6.0, recipe="descent", rounds=40, max_step=0.03, batch_size=size) for size in (1, 4)]
results = [{one.key: one for one in loop.run(tasks)} for loop in loops]
for key, alone in results[0].items():
    assert alone.in_band and alone.rounds > 1
    steps = torch.tensor(alone.score_trace).diff().abs()
    assert torch.allclose(steps, torch.full_like(steps, 0.3), atol=0.25)  # 10 times the mean, and a little noise
    assert torch.allclose(results[1][key].image, alone.image, atol=1e-6)
print("in the band")
"""


def test_the_page_adds_a_recipe_to_settings_loop_and_benchmark(tmp_path: Path) -> None:
    folder = follow("A sampling recipe", tmp_path / "copy")
    assert run(folder, "-c", USE).strip() == "in the band"
    assert "descent" in run(folder, "-m", "synood_ray", "synthesize", "--help", "sampling.recipe")
