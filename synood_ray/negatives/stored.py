"""The negative labels of a run: mined once, then read by everyone. Their file says what they were mined with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

from synood_ray.config.models import TIMM
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.locations import public
from synood_ray.negatives.mining import NegativeLabels, header_length, load_candidates, mine, prompts_of
from synood_ray.storage import layout
from synood_ray.storage.intact import intact
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from torch import Tensor

FIXED = ("candidates", "noun_prompt", "adjective_prompt", "quantile", "keep")
"""Settings of the section `labels` that decide which labels there are."""

_LABELS, _CLIP = "labels", "clip"
"""In the file's header: those settings as JSON, and the CLIP's identity. Files of earlier versions have neither."""
_SAME_MODEL = 0.02
"""Largest distance between a label's feature now and when it was mined (half precision: 0.002)."""


class TextEncoder(Protocol):
    """The part of `synood_ray.models.clip.ClipModel` that mining calls."""

    @property
    def identity(self) -> str: ...

    def encode_text(self, prompts: list[str]) -> Tensor: ...

    def encode_classes(self, names: list[str], templates: list[str]) -> Tensor: ...


def negative_labels(settings: Settings, store: Store, class_names: list[str], clip: TextEncoder) -> NegativeLabels:
    """Read the run's negative labels; if it has none yet, mine and store them create-only.

    Several workers may do this at once: what was stored first is what all of them return. Raises UserError if they
    were mined with other settings, or by another CLIP, as far as their file says so.
    """

    def made() -> bytes:
        features = clip.encode_classes(class_names, settings.clip.templates)
        mined = mine(load_candidates(settings.labels), class_names, features, clip.encode_text, settings.labels)
        return mined.to_bytes({_LABELS: json.dumps(_fixed_of(settings)), _CLIP: clip.identity})

    kept = store.keep(layout.NEGATIVES, made)
    with intact(store, layout.NEGATIVES):
        labels, about = NegativeLabels.from_bytes(kept), _about(kept)
    if _LABELS in about:
        check_labels(json.loads(about[_LABELS]), settings)
    if _CLIP in about and about[_CLIP] != clip.identity and not _gives(labels, settings, clip):
        raise UserError(
            f"{store.uri}/{layout.NEGATIVES}: was made by another CLIP than {settings.clip.model!r}; go on with that "
            "one (detector.model where a classifier scores), or remove the file: it is made anew"
        )
    return labels


def _gives(labels: NegativeLabels, settings: Settings, clip: TextEncoder) -> bool:
    """Whether the CLIP gives what is stored: the same model has another identity in another data type."""
    now, before = clip.encode_text(prompts_of(labels.words[:1], labels.kinds[:1], settings.labels)), labels.features[:1]
    return now.shape == before.shape and float((now.cpu() - before).norm()) <= _SAME_MODEL


def fixed_labels(run: Run) -> dict[str, Any] | None:
    """The settings `FIXED` that the run's negative labels were mined with; None if there are none yet, or if that is
    not known. Only the header of their file is read."""
    if run.has_negatives:
        with intact(run.store, layout.NEGATIVES):
            first = run.store.get_range(layout.NEGATIVES, 0, 8)
            about = _about(first + run.store.get_range(layout.NEGATIVES, 8, header_length(first)))
        if _LABELS in about:
            return json.loads(about[_LABELS])  # type: ignore[no-any-return]
        if not run.config["scorer"]["model"].startswith(TIMM):  # the samplers mined them, with the run's settings
            return {name: value for name, value in run.config["labels"].items() if name in FIXED}
    return None


def check_labels(mined_with: Mapping[str, Any], settings: Settings) -> None:
    """Raise UserError, naming the setting, unless the settings are those that negative labels were mined with.

    A word list may lie in another place by now: relative paths are made absolute for workers, and runs move.
    """
    now = _fixed_of(settings)
    for name, value in mined_with.items():
        moved = name == "candidates" and PurePath(now[name]).name == PurePath(value).name
        if now[name] != value and not moved:
            raise UserError(
                f"labels.{name}: was fixed when the run made its negative labels, as {json.dumps(value)}, not "
                f"{json.dumps(now[name])}; leave it out, or make another run"
            )


def _fixed_of(settings: Settings) -> dict[str, Any]:
    return public(settings.labels.model_dump(mode="json", include=set(FIXED)))  # type: ignore[no-any-return]


def _about(data: bytes) -> dict[str, str]:
    """What the file's header says beside the names and places of its tensors."""
    return json.loads(data[8 : 8 + header_length(data)])["__metadata__"]  # type: ignore[no-any-return]
