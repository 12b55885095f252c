import subprocess
import sys
from typing import get_args

from synood_ray.config.sampling import RecipeName
from synood_ray.sampling.recipes import RECIPES


def test_the_setting_offers_every_recipe_of_the_table() -> None:
    assert get_args(RecipeName) == tuple(RECIPES)


def test_the_table_is_light() -> None:
    command = "import sys, synood_ray.sampling.recipes; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
