"""The artefact measure: how often ID images count as OOD because a generator has made them.

A detector that is trained on generated OOD images may learn to tell generated from real images instead. Held-out ID
images, regenerated with their own names by the run's inpainter, show it: no training has seen them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from synood_ray.detection.methods import Method
from synood_ray.detection.metrics import threshold_at
from synood_ray.detection.run_images import RunImages
from synood_ray.errors import UserError
from synood_ray.sampling.recipes import RECIPES

if TYPE_CHECKING:
    from torch import Tensor


def measure_artefacts(own: RunImages, methods: Mapping[str, Method]) -> tuple[dict[str, Any] | None, str]:
    """``evaluation.artefacts`` held-out images of the run, regenerated: ``images``, how many, and ``called_ood``, the
    share of them that each method takes for OOD. None, and why in words, if the inpainter cannot be had.

    A method's threshold is its own, or the one that keeps 95 % of the real held-out images.
    """
    recipe = own.settings.sampling.recipe
    if not RECIPES[recipe].companions:
        return None, f"artefacts: not measured (recipe {recipe} regenerates no ID images)"
    try:
        made = _regenerated(own)
    except UserError as error:
        return None, f"artefacts: not measured ({error})"
    if not len(made):
        return None, "artefacts: not measured (no held-out image, or mask of one, can be read)"
    shares = {}
    for name, method in methods.items():
        threshold = method.threshold
        if threshold is None:
            threshold = threshold_at(method.score(own.held_out()).cpu().numpy())
        shares[name] = float((method.score(made) < threshold).double().mean())
    return {"images": len(made), "called_ood": shares}, ""


def _regenerated(own: RunImages) -> Tensor:
    """Un-normalised features [N, D] of regenerated held-out images, which are spread evenly over all there are."""
    from synood_ray.detection.features import encode_pictures
    from synood_ray.models.images import from_png, to_png
    from synood_ray.models.inpainters import open_inpainter
    from synood_ray.sampling.companions import regenerate

    settings, held_out = own.settings, own.run.held_out()
    count = min(settings.evaluation.artefacts, len(held_out))
    positions = np.linspace(0, len(held_out), count, endpoint=False).astype(int).tolist()
    own.say(f"artefacts: regenerating {count} held-out images with {settings.inpainter.model}")
    images = regenerate([held_out[i] for i in positions], settings, open_inpainter(settings.inpainter))
    pictures = (from_png(to_png(image)) for image in images)  # as the run's own went into the parts
    return encode_pictures(own.clip, pictures)
