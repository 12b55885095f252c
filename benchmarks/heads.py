"""The miniature world's CLIP heads, images that each encodes once, and every score on what a projector sees in them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from torch import Tensor

    from synood_ray.detection.projector import Projector
    from synood_ray.models.clip import ClipModel

HEADS = (0, 1, 2)
"""The first is the one that ships; the others, of other training seeds, lie beside it."""


def open_head(settings: Settings, head: int) -> ClipModel:
    """The settings' CLIP with another of the heads that lie beside it."""
    from safetensors.torch import load_file, save_file

    from synood_ray.locations import resolve
    from synood_ray.models.clip import ClipModel

    if not head:
        return ClipModel(settings.clip)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(resolve(settings.clip.model), folder, dirs_exist_ok=True)
        weights = Path(folder, "open_clip_model.safetensors")
        save_file(load_file(weights) | load_file(Path(folder, f"seed_{head}.safetensors")), weights)
        return ClipModel(settings.clip.model_copy(update={"model": folder}))


class Encoded:
    """Un-normalised features of images, each encoded once."""

    def __init__(self, clip: ClipModel, settings: Settings, images: Iterable[SourceImage]) -> None:
        from synood_ray.detection.features import encode_sources

        distinct = list({(image.uri, image.key): image for image in images}.values())
        self.features, kept, _ = encode_sources(clip, settings.data, distinct)
        self.rows = {(image.uri, image.key): row for row, image in enumerate(kept)}

    def __call__(self, images: list[SourceImage]) -> Tensor:
        return self.features[[self.rows[image.uri, image.key] for image in images]]


def score_functions(
    projector: Projector | None,
    id_text: Tensor,
    negative_text: Tensor,
    own: tuple[Tensor, Tensor, Tensor],
    options: dict[str, Any],
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Every score of the registry: un-normalised features [N, D] -> [N], higher = more ID.

    projector: None for the frozen CLIP. own: features [N, D] and labels [N] of the ID images and features [H, D] of
    held-out ones, which scores learn from. options: temperature and groups.
    """
    import torch
    from torch.nn import functional as F

    from synood_ray.scores import SCORES, IdImages, Need, Score, ScoreInput

    def look(x: Tensor) -> ScoreInput:
        unit = F.normalize(x, dim=-1)
        with torch.inference_mode():
            seen = unit if projector is None else projector(x)
            return ScoreInput.of_features(seen, id_text, negative_text, frozen=unit, **options)

    features, labels, held_out = own
    images = IdImages(F.normalize(features, dim=-1), labels, look(held_out))

    def function(score: Score) -> Callable[[Tensor], Tensor]:
        state = score.learned(images)
        return lambda x: score(replace(look(x), state=state))

    # This world's CLIP has not learned CSP's prompts.
    return {name: function(score) for name, score in SCORES.items() if Need.POOL not in score.needs}
