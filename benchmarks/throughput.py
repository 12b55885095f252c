"""Accepted samples per second through the farm, beside the bare refinement loop in one process on the same cores.

The farm: driver, Ray, a describer with stored contexts, storage, and a sampler with one thread for every core. The bare
loop: the same models, boundary and tasks in the driver's own process, torch with as many threads as there are cores,
images read and accepted samples checked by CLIP, nothing stored. The two take turns of some seconds (`Alternation`).
Start, loading of models and calibration are counted on neither side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.alternation import Alternation
from benchmarks.comparison import Comparison, compare
from benchmarks.small_farm import small_farm
from benchmarks.targets import Target
from synood_ray.config.settings import Settings
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Store, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from synood_ray.data.selection import Selection
    from synood_ray.farm.driver import Driver
    from synood_ray.sampling.sample import Refined, RefineTask

CHECK = 32  # accepted samples that CLIP checks at once


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
    from synood_ray.storage.sources import encode_sources

    store = open_store(str(folder))
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(selection.calibration))
    unit_size = settings.farm.unit_size
    wanted = (slices + 2) * (samples + settings.farm.samplers.max * settings.farm.in_flight * unit_size)
    per_image = -(-wanted // len(selection.sources))
    plan = Plan(selection.sources, per_image=per_image, unit_size=unit_size, limit=wanted, seed=settings.seed)
    driver = Driver(settings, store, plan, bare.class_names)
    ours, theirs = Alternation(-(-samples // unit_size), slices, [bare.rate]).run(driver)
    return compare(ours, theirs)


class BareLoop:
    """A run's units through `Refiner` alone, in this process. The models are loaded in the first call."""

    def __init__(self, settings: Settings, class_names: list[str], threads: int) -> None:
        self.settings, self.class_names, self.threads = settings, class_names, threads
        self.loaded = False

    def rate(self, driver: Driver, first: int, units: int) -> float:
        """Accepted samples a second of a driver's units first … first + units - 1, whose prompts are in its store."""
        self._load(driver.store)
        tasks = [task for unit in range(first, first + units) for task in driver.plan.unit(unit)]
        prompts = _prompts(driver.store, range(first, first + units))
        labels = {task.key: task.source.label for task in tasks}
        begin = time.monotonic()
        accepted: list[Refined] = []
        good = 0
        for refined in self.refiner.run(self._work(tasks, prompts)):
            if refined.in_band and refined.key in labels:
                accepted.append(refined)
            if len(accepted) == CHECK:
                good += self._check(accepted, labels)
                accepted = []
        good += self._check(accepted, labels)
        return good / (time.monotonic() - begin)

    def _load(self, store: Store) -> None:
        import torch

        from synood_ray.farm.preparing import boundary, open_scorer
        from synood_ray.models.inpainters import open_inpainter
        from synood_ray.sampling.loader import SourceLoader
        from synood_ray.sampling.refine import Refiner

        if self.loaded:
            return
        self.loaded = True
        torch.set_num_threads(self.threads)
        self.loader = SourceLoader(self.settings)
        self.inpainter = open_inpainter(self.settings.inpainter)
        self.scorer = open_scorer(self.settings, store, self.class_names)
        calibration = boundary(self.settings, store, self.class_names, self.inpainter, self.scorer)
        self.refiner = Refiner(self.inpainter, self.scorer, calibration, self.settings.sampling)

    def _work(self, tasks: Iterable[Any], prompts: dict[str, str]) -> Iterator[RefineTask]:
        """What the sampler makes of tasks: the sample, and its ID companion if the settings ask for it."""
        from synood_ray.farm.actors.sampler import COMPANION
        from synood_ray.models.describers.base import Context, fill_prompt
        from synood_ray.models.images import to_tensor
        from synood_ray.sampling.sample import RefineTask

        side, sampling = self.inpainter.resolution, self.settings.sampling
        for task in tasks:
            image = to_tensor([self.loader.image(task.source)], side)[0]
            mask = self.loader.mask(task.source, side)
            yield RefineTask(task.key, image, mask, prompts[task.key], task.seed)
            if sampling.id_companions and self.refiner.recipe.companions:
                own = fill_prompt(self.settings.describer, Context(task.source.name, ""))
                yield RefineTask(task.key + COMPANION, image, mask, own, task.seed + 1, refine=False)

    def _check(self, accepted: list[Refined], labels: dict[str, int]) -> int:
        """How many of them CLIP lets pass; their negative labels are looked up too."""
        import torch

        from synood_ray.models.scorer import verdicts_of

        if not accepted or not self.settings.sampling.clip_check:
            return len(accepted)
        own = torch.tensor([labels[one.key] for one in accepted])
        _, shows = verdicts_of(torch.stack([one.logits for one in accepted]), own, len(self.class_names))
        return len(accepted) - int(shows.sum())


def _prompts(store: Store, units: Iterable[int]) -> dict[str, str]:
    from synood_ray.storage.parts import decode_prompts

    return {row.key: row.prompt for unit in units for row in decode_prompts(store.get(layout.prompts_key(unit)))}
