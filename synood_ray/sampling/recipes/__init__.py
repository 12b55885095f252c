"""The recipes of boundary sampling by name, as `sampling.recipe` has it. None of them imports torch before it works."""

from __future__ import annotations

from synood_ray.sampling.recipes.base import Recipe
from synood_ray.sampling.recipes.fresh import Fresh
from synood_ray.sampling.recipes.newton import Newton
from synood_ray.sampling.recipes.official import Official

RECIPES: dict[str, type[Recipe]] = {
    "newton": Newton,
    "fresh": Fresh,
    "official": Official,
}
