"""The recipes of fine-tuning, by the names of ``training.recipe``."""

from __future__ import annotations

from synood_ray.training.recipes import official, synood
from synood_ray.training.recipes.base import SOME_NEGATIVE, Curriculum, Examples, Recipe, TrainingData

__all__ = ["RECIPES", "SOME_NEGATIVE", "Curriculum", "Examples", "Recipe", "TrainingData"]

RECIPES: dict[str, Recipe] = {"synood": synood.curriculum, "official": official.curriculum}
