"""The miniature world's three regimes: what of it a run is made from, what it is measured on, and images made of it.

A regime is what a preset (`REGIMES`) says of ``data.where`` and ``evaluation.where``; all else is the settings'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.heads import Encoded, open_head
from benchmarks.teaching.images import RELEASED, ImageSet, Maker, changed
from benchmarks.teaching.methods import Seen, see
from benchmarks.teaching.world import FOLDER, World, contexts
from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from torch import Tensor

REGIMES = {"same drawings": "mini", "sibling drawings": "mini-sibling", "new family": "mini-new-family"}
SETS = ("near", "far")


@dataclass(frozen=True)
class Regime:
    """settings: with the regime's choice of drawings; world: what a run is made from; tests: ``id``, ``near``, ``far``
    of the validation or the test split."""

    settings: Settings
    world: World
    tests: dict[str, list[SourceImage]]

    def images(self) -> Iterator[SourceImage]:
        for part in (self.world.sources, self.world.held_out, *self.tests.values()):
            yield from part


def open_regime(settings: Settings, preset: str, split: str) -> Regime:
    """split: ``val`` or ``test``."""
    from synood_ray.cli.layers import load_preset, resolve
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source

    of_preset, _ = resolve([load_preset(preset)])
    wanted = settings.model_copy(deep=True)
    wanted.data.where, wanted.evaluation.where = of_preset.data.where, of_preset.evaluation.where
    selection = select(open_source(wanted.data.uri, wanted.data), wanted.data)
    sources = list(selection.sources)
    names = [info.name for info in selection.classes]
    world = World(
        names, sources, contexts(wanted, sources), list(range(len(sources))), list(selection.calibration), [], {}
    )
    tests = wanted.data.model_copy(update={"where": wanted.evaluation.where})

    def read(name: str) -> list[SourceImage]:
        classes = selection.classes if name == "id" else None
        return open_source(f"{FOLDER}{name}_{split}.parquet", tests, classes=classes).scan().images

    return Regime(wanted, world, {name: read(name) for name in ("id", *SETS)})


def make_images(regime: Regime) -> dict[str, ImageSet]:
    """One sample of every source by the settings' policy, and one by the released recipe, kept as the teaching
    benchmark keeps them; and the companions."""
    maker, settings = Maker(regime.world), regime.settings
    policy = settings.prompts.policy
    made: dict[str, ImageSet] = {policy: maker.make(policy, changed(settings, policy))}
    made[RELEASED] = maker.make(RELEASED, changed(settings, "official", recipe="official"))
    return made | {"companions": maker.companions(changed(settings, policy))}


def look(regime: Regime, made: dict[str, ImageSet], head: int) -> tuple[Seen, dict[str, Tensor]]:
    """What a head sees of a regime's own and made images, and un-normalised features of its test sets."""
    import torch

    clip = open_head(regime.settings, head)
    encoded = Encoded(clip, regime.settings, regime.images())
    real = {name: encoded(getattr(regime.world, name)) for name in ("sources", "held_out")}
    labels = torch.tensor([source.label for source in regime.world.sources])
    none = real["sources"][:0]
    seen = see(clip, regime.settings, regime.world.classes, real | {"oracle": none}, labels, made)
    return seen, {name: encoded(images) for name, images in regime.tests.items()}
