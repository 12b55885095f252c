"""What a detector says about itself: detector.json, everything about it but its weights. Loads no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from synood_ray.errors import UserError
from synood_ray.scores import SCORES
from synood_ray.storage.shards import manifest_digest
from synood_ray.storage.stored_json import load_json
from synood_ray.storage.stores.base import Store

FORMAT = 1
FOLDER = "detector/"
DESCRIPTION = "detector.json"


@dataclass(frozen=True)
class DetectorDescription:
    """Everything about a detector but its weights; stored as detector.json.

    class_names are in order of their labels (names may repeat, labels do not); negative_words and negative_kinds in
    order of the negative features. model, pretrained, revision, templates name the CLIP, as in the settings
    ``scorer.*``.
    threshold: scores below it are OOD. training: the settings it was trained with; data: how many images.
    weights: the name of the safetensors file beside it, filled in when the detector is saved.
    score: its OOD score, of `synood_ray.scores.SCORES`; groups and temperature are the score's. offset: length of the
    domain offset that accepted images were moved by in training, over the mean length of ID images' features; 0: they
    were not. notes: what a user of the detector should know.
    """

    recipe: str
    class_names: list[str]
    negative_words: list[str]
    negative_kinds: list[str]
    groups: int
    threshold: float
    model: str
    pretrained: str | None
    templates: list[str]
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, int] = field(default_factory=dict)
    weights: str = ""
    format: int = FORMAT
    score: str = "neglabel"  # what detectors had that do not name it
    temperature: float = 1.0
    offset: float = 0.0
    notes: list[str] = field(default_factory=list)
    revision: str | None = None

    @property
    def summary(self) -> str:
        """How it was trained and what it answers with, as in "training recipe synood, score fused"."""
        offset = f", domain offset {self.offset:.3f}" if self.offset else ""
        return f"training recipe {self.recipe}{offset}, score {self.score}"

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> DetectorDescription:
        values = json.loads(data)
        if values.get("format") != FORMAT:
            raise UserError(f"{DESCRIPTION} has format {values.get('format')!r}; this version reads format {FORMAT}")
        if values.get("score", cls.score) not in SCORES:
            raise UserError(f"{DESCRIPTION} has the score {values['score']!r}, which this version does not know")
        return cls(**values)


TRAIN_AGAIN = "remove the detector's folder and fine-tune again"


def read_description(store: Store, prefix: str = FOLDER) -> dict[str, Any] | None:
    """The description as it is stored, None if there is no detector. UserError if it is none."""
    found = load_json(store, prefix + DESCRIPTION)
    if found is None and not store.exists(prefix + DESCRIPTION):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("training"), dict):
        raise UserError(f"{store.uri}/{prefix}{DESCRIPTION}: no description of a detector; {TRAIN_AGAIN}")
    return found


def is_stale(store: Store, prefix: str = FOLDER) -> bool:
    """Whether the detector in this folder of a run was trained on samples that a retry has changed since."""
    found, now = read_description(store, prefix), manifest_digest(store, prefix.removesuffix(FOLDER))
    return found is not None and now is not None and found["training"].get("samples", now) != now
