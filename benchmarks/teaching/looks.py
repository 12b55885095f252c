"""What the kept images of a set look like, in three figures: structure, a referee's word, margins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.teaching.images import ImageSet

if TYPE_CHECKING:
    from torch import Tensor

SURE = 0.9
"""The probability from which the referee counts as sure."""


def looks(made: Mapping[str, ImageSet], real: Tensor) -> dict[str, dict[str, Any]]:
    """Of every set: ``structure``, the median over images of the mean absolute Laplacian in the central half, over that
    of real scenes (uint8 [N, 3, H, W]); ``sure_of_an_id_name``, the share on which the referee is; ``margins``:
    quartiles, in ID standard deviations."""
    from tools.mini_world.check_inpainting import load_referee

    referee, _ = load_referee()
    of_real = structure(real)
    found = {"real sources": {"structure": 1.0, "sure_of_an_id_name": sure(referee, real), "margins": None}}
    for name, one in made.items():
        if len(one):
            found[name] = {
                "structure": structure(one.images) / of_real,
                "sure_of_an_id_name": sure(referee, one.images),
                "margins": np.quantile(one.margins.numpy(), (0.25, 0.5, 0.75)).tolist() if one.tried else None,
            }
    return found


def structure(images: Tensor) -> float:
    """Median over images of `tools.mini_world.check_inpainting.structure`."""
    from tools.mini_world import check_inpainting

    return float(np.median([check_inpainting.structure(image[None]) for image in images]))


def sure(referee: Any, images: Tensor) -> float:
    """Share of uint8 images that the referee gives an ID name at least `SURE`; its names are ID, then near."""
    import torch

    from synood_ray.mini.world import load_world

    count = len(load_world().id)
    with torch.inference_mode():
        logits = torch.cat([referee.look(part.float() / 255).id_logits for part in images.split(128)])
    return float((logits.softmax(dim=-1)[:, :count].amax(dim=-1) >= SURE).double().mean())
