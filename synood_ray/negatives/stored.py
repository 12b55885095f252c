"""The negative labels of a run: mined once, then read by everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from synood_ray.config.settings import Settings
from synood_ray.negatives.mining import NegativeLabels, load_candidates, mine
from synood_ray.storage import layout
from synood_ray.storage.intact import intact
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from torch import Tensor


class TextEncoder(Protocol):
    """The part of `synood_ray.models.clip.ClipModel` that mining calls."""

    def encode_text(self, prompts: list[str]) -> Tensor: ...

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor: ...


def negative_labels(settings: Settings, store: Store, class_names: list[str], clip: TextEncoder) -> NegativeLabels:
    """Read the run's negative labels; if it has none yet, mine and store them create-only.

    Several workers may do this at once: what was stored first is what all of them return.
    """

    def made() -> bytes:
        features = clip.encode_classes(class_names, settings.clip.templates)
        return mine(
            load_candidates(settings.labels), class_names, features, clip.encode_text, settings.labels
        ).to_bytes()

    kept = store.keep(layout.NEGATIVES, made)
    with intact(store, layout.NEGATIVES):
        return NegativeLabels.from_bytes(kept)
