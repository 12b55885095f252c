"""Accepted samples per second through the farm, beside the bare refinement loop in one process on the same cores.

The farm: driver, Ray, a describer with stored contexts, storage, and a sampler with one thread for every core. The bare
loop: the same models, boundary and tasks in the driver's own process, torch with as many threads as there are cores,
images read, samples checked by CLIP and made into rows, nothing stored. The two take turns of some seconds
(`Alternation`). Start, loading of models and calibration are counted on neither side.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.alternation import Alternation
from benchmarks.comparison import Comparison, compare
from benchmarks.small_farm import small_farm
from benchmarks.targets import Target
from synood_ray.config.settings import Settings
from synood_ray.storage import layout
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store

if TYPE_CHECKING:
    from pathlib import Path

    from synood_ray.data.selection import Selection
    from synood_ray.farm.driver import Driver
    from synood_ray.models.describers.base import Context


def benchmark(
    settings: Settings, samples: int = 192, slices: int = 8, unit_size: int = 16, cores: int | None = None
) -> dict[str, Any]:
    """Accepted samples a second, farm beside bare loop. samples: of one slice; cores and contexts: see `small_farm`."""
    with small_farm(settings, unit_size, cores) as (settings, selection, folder):
        bare = BareLoop(settings, [info.name for info in selection.classes], settings.farm.samplers.max)
        found = _compare(settings, selection, folder / "run", bare, samples, slices)
    return {"samples": samples, "cores": settings.farm.samplers.max, "farm": found.as_dict()}


def targets(figures: dict[str, Any]) -> list[Target]:
    farm = figures["farm"]
    what = "accepted samples per second, farm / bare loop"
    return [Target(what, farm["ratio"], 0.95, interval=(farm["low"], farm["high"]))]


def _compare(
    settings: Settings, selection: Selection, folder: Path, bare: BareLoop, samples: int, slices: int
) -> Comparison:
    from synood_ray.farm.driver import Driver
    from synood_ray.farm.plan import Plan
    from synood_ray.storage.record import check_or_create_run
    from synood_ray.storage.sources import encode_sources, sources_digest

    store = open_store(str(folder))
    unit_size = settings.farm.unit_size
    wanted = (slices + 2) * (samples + settings.farm.samplers.max * settings.farm.in_flight * unit_size)
    per_image = -(-wanted // len(selection.sources))
    plan = Plan(selection.sources, per_image=per_image, unit_size=unit_size, limit=wanted, seed=settings.seed)
    check_or_create_run(  # workers look for it
        store,
        settings,
        id_manifest_sha256=sources_digest(selection.sources),
        planned=plan.samples,
        units=len(plan),
        classes=bare.class_names,
    )
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(selection.calibration))
    driver = Driver(settings, store, plan, bare.class_names)
    ours, theirs = Alternation(-(-samples // unit_size), slices, [bare.rate]).run(driver)
    return compare(ours, theirs)


class BareLoop:
    """A run's units through `produce` alone, in this process. The models are loaded in the first call."""

    def __init__(self, settings: Settings, class_names: list[str], threads: int) -> None:
        self.settings, self.class_names, self.threads = settings, class_names, threads
        self.loaded = False

    def rate(self, driver: Driver, first: int, count: int) -> float:
        """Accepted samples a second of a driver's units first … first + count - 1, whose prompts are in its store."""
        from synood_ray.sampling.produce import produce

        self._load(driver.store)
        units = range(first, first + count)
        tasks = [task for unit in units for task in driver.plan.unit(unit)]
        contexts = {key: context for unit in units for key, context in _contexts(driver.store, unit).items()}
        begin = time.monotonic()
        accepted = sum(row.accepted for row in produce(tasks, contexts, self.models))
        return accepted / (time.monotonic() - begin)

    def _load(self, store: Store) -> None:
        import torch

        from synood_ray.farm.preparing import boundary, open_scorer, relatives
        from synood_ray.models.inpainters import open_inpainter
        from synood_ray.sampling.produce import Models

        if self.loaded:
            return
        self.loaded = True
        torch.set_num_threads(self.threads)
        inpainter = open_inpainter(self.settings.inpainter)
        scorer = open_scorer(self.settings, store, self.class_names)
        calibration = boundary(self.settings, store, self.class_names, inpainter, scorer)
        related = relatives(self.settings, store, self.class_names, scorer)
        self.models = Models(self.settings, self.class_names, inpainter, scorer, calibration, relatives=related)


def _contexts(store: Store, unit: int) -> dict[str, Context]:
    from synood_ray.models.describers.base import Context
    from synood_ray.storage.parts import read_prompts

    return {key: Context(row.context, row.raw, row.error) for key, row in read_prompts(store, unit).items()}
