"""Which concepts exist and which split each one belongs to (the contents of world.json, frozen)."""

import json
from dataclasses import dataclass
from functools import lru_cache

from synood_ray.mini import ROOT

TRAINING_STYLES = ("noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat")
VALIDATION_STYLE = "twemoji"
TEST_STYLE = "emojione"
STYLES = (*TRAINING_STYLES, VALIDATION_STYLE, TEST_STYLE)


@dataclass(frozen=True)
class Concept:
    """One drawing subject: its name, its icon's slug, its subgroup and the styles that draw it."""

    name: str
    slug: str
    group: str
    styles: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """The concepts by name, and the splits as lists of names in a fixed order.

    ``id``/``near`` is the main split, ``id_alternative``/``near_alternative`` the one kept for confirmation only.
    ``near`` names never appear as contexts; ``context`` names are in no other list; ``far`` and ``other`` are the
    rest (``other`` only teaches CLIP words).
    """

    concepts: dict[str, Concept]
    id: tuple[str, ...]
    near: tuple[str, ...]
    id_alternative: tuple[str, ...]
    near_alternative: tuple[str, ...]
    far: tuple[str, ...]
    context: tuple[str, ...]
    other: tuple[str, ...]


SPLITS = ("id", "near", "id_alternative", "near_alternative", "far", "context", "other")


@lru_cache(maxsize=1)
def load_world() -> World:
    """The frozen world, read from world.json beside this file."""
    record = json.loads((ROOT / "world.json").read_text(encoding="utf-8"))
    concepts = {
        name: Concept(name, slug, group, tuple(STYLES[i] for i in styles))
        for name, (slug, group, styles) in record["concepts"].items()
    }
    return World(concepts=concepts, **{split: tuple(record[split]) for split in SPLITS})
