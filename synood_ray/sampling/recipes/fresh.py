"""New noise each round and no gradient: the control that says what steering adds."""

from __future__ import annotations

from synood_ray.sampling.recipes.base import Recipe
from synood_ray.sampling.sample import Due, Sample


class Fresh(Recipe):
    """A full pass from noise of its own, until one happens to end in the band."""

    def move(self, group: list[Sample]) -> None:
        import torch

        for sample in group:
            sample.noise = torch.randn(sample.noise.shape, generator=sample.generator).to(sample.noise.device)
            sample.due = Due.PASS
