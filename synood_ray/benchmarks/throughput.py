"""Accepted samples per second through the farm, beside the bare refinement loop in one process on the same cores.

The farm: driver, Ray, a describer with stored contexts, storage, and a sampler with one thread for every core. The bare
loop: the same models, boundary and tasks in the driver's own process, torch with as many threads as there are cores,
images read and accepted samples checked by CLIP, nothing stored. The two take turns of some seconds (`Alternation`).
Start, loading of models and calibration are counted on neither side.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synood_ray.benchmarks.alternation import Alternation
from synood_ray.benchmarks.comparison import Comparison, compare
from synood_ray.benchmarks.local_cluster import LOGICAL_CPUS, local_cluster
from synood_ray.benchmarks.targets import Target
from synood_ray.config import Settings
from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.store import Store, open_store

if TYPE_CHECKING:
    from synood_ray.data.selection import Selection
    from synood_ray.farm.driver import Driver
    from synood_ray.sampling.refine import Refined, RefineTask

POOL = {"min": 1, "max": 1, "cpus": 0.2}
CHECK = 32  # accepted samples that CLIP checks at once


def benchmark(
    settings: Settings, samples: int = 192, slices: int = 8, unit_size: int = 16, cores: int | None = None
) -> dict[str, Any]:
    """The farm with the scorers in the samplers, then with the scorer as an actor.

    samples: of one slice. cores: how many this process may use, unless it is told otherwise.
    Needs contexts for the images: `describer.contexts`, or a `context` column beside them as in the mini world's.
    """
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source

    cores = cores or available_cores()
    selection = select(open_source(settings.data.uri, settings.data), settings.data)
    with tempfile.TemporaryDirectory() as folder:
        contexts = settings.describer.contexts or write_contexts(settings.data.uri, selection, Path(folder))
        settings = farm_settings(settings, contexts, unit_size, cores)
        with local_cluster(max(LOGICAL_CPUS, cores)):
            bare = BareLoop(settings, [info.name for info in selection.classes], cores)
            found = {
                placement: _compare(settings, selection, Path(folder) / placement, placement, bare, samples, slices)
                for placement in ("local", "actor")
            }
    lost = 1 - found["actor"].ratio / found["local"].ratio
    return {
        "samples": samples,
        "cores": cores,
        "farm": found["local"].as_dict(),
        "farm_with_scorer_actor": found["actor"].as_dict(),
        "lost_with_scorer_actor": lost,
    }


def targets(figures: dict[str, Any]) -> list[Target]:
    return [
        Target("accepted samples per second, farm / bare loop", figures["farm"]["ratio"], 0.95),
        Target("share lost with the scorer as an actor", figures["lost_with_scorer_actor"], 0.05, "most"),
    ]


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def farm_settings(settings: Settings, contexts: str, unit_size: int, cores: int) -> Settings:
    """A sampler for every core, and nothing of the farm that needs a multimodal model."""
    changed = settings.model_copy(deep=True)
    changed.describer.contexts = contexts
    changed.sampling.mllm_check = False  # stored contexts know nothing about new images
    samplers = POOL | {"min": cores, "max": cores}
    farm = {"unit_size": unit_size, "describers": POOL, "samplers": samplers, "scorers": POOL}
    changed.farm = type(changed.farm).model_validate({**changed.farm.model_dump(), **farm})
    return changed


def write_contexts(uri: str, selection: Selection, folder: Path) -> str:
    """The `context` column of a Parquet file as the JSONL that stored contexts are read from. Raises UserError."""
    import pyarrow.parquet as pq

    from synood_ray.locations import resolve

    path = resolve(uri)
    if not Path(path).is_file() or not path.endswith(".parquet") or "context" not in pq.read_schema(path).names:
        raise UserError(
            "describer.contexts: --only farm needs stored contexts of the images, as JSONL or prompts folder"
        )
    words = pq.read_table(path, columns=["context"])["context"].to_pylist()
    rows = {source.key: int(source.key.rpartition("#")[2]) for source in selection.sources}
    target = folder / "contexts.jsonl"
    target.write_text("".join(json.dumps({key: ", ".join(words[row])}) + "\n" for key, row in rows.items()))
    return str(target)


def _compare(
    settings: Settings, selection: Selection, folder: Path, placement: str, bare: BareLoop, samples: int, slices: int
) -> Comparison:
    from synood_ray.farm.driver import Driver
    from synood_ray.farm.plan import Plan
    from synood_ray.storage.sources import encode_sources

    settings = settings.model_copy(deep=True)
    settings.scorer.placement = placement  # type: ignore[assignment]
    store = open_store(str(folder))
    store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(selection.calibration))
    unit_size = settings.farm.unit_size
    wanted = (slices + 2) * (samples + settings.farm.samplers.max * settings.farm.in_flight * unit_size)
    per_image = -(-wanted // len(selection.sources))
    plan = Plan(selection.sources, per_image=per_image, unit_size=unit_size, limit=wanted, seed=settings.seed)
    driver = Driver(settings, store, plan, bare.class_names, say=lambda line: None)
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
            if refined.accepted and refined.key in labels:
                accepted.append(refined)
            if len(accepted) == CHECK:
                good += self._check(accepted, labels)
                accepted = []
        good += self._check(accepted, labels)
        return good / (time.monotonic() - begin)

    def _load(self, store: Store) -> None:
        import torch

        from synood_ray.farm.images import SourceLoader
        from synood_ray.farm.preparing import boundary, open_scorer
        from synood_ray.models.inpainter import Inpainter
        from synood_ray.sampling.refine import Refiner

        if self.loaded:
            return
        self.loaded = True
        torch.set_num_threads(self.threads)
        self.loader = SourceLoader(self.settings)
        self.inpainter = Inpainter(self.settings.inpainter)
        self.scorer = open_scorer(self.settings, store, self.class_names)
        calibration = boundary(self.settings, store, self.class_names, self.inpainter, self.scorer)
        self.refiner = Refiner(self.inpainter, self.scorer, calibration, self.settings.sampling)

    def _work(self, tasks: Iterable[Any], prompts: dict[str, str]) -> Iterator[RefineTask]:
        """What the sampler makes of tasks: the sample, and its ID companion if the settings ask for it."""
        from synood_ray.farm.sampler import COMPANION
        from synood_ray.models.describer import Context, fill_prompt
        from synood_ray.models.images import to_tensor
        from synood_ray.sampling.refine import RefineTask

        side, sampling = self.inpainter.resolution, self.settings.sampling
        for task in tasks:
            image = to_tensor([self.loader.image(task.source)], side)[0]
            mask = self.loader.mask(task.source, side)
            yield RefineTask(task.key, image, mask, prompts[task.key], task.seed)
            if sampling.id_companions and sampling.recipe != "official":
                own = fill_prompt(self.settings.describer, Context(task.source.name, ""))
                yield RefineTask(task.key + COMPANION, image, mask, own, task.seed + 1, refine=False)

    def _check(self, accepted: list[Refined], labels: dict[str, int]) -> int:
        """How many of them CLIP lets pass; their negative labels are looked up too."""
        import torch

        if not accepted:
            return 0
        images = torch.stack([refined.image for refined in accepted])
        _, shows = self.scorer.verdicts(images, torch.tensor([labels[refined.key] for refined in accepted]))
        if not self.settings.sampling.clip_check:
            return len(accepted)
        return len(accepted) - int(shows.sum())


def _prompts(store: Store, units: Iterable[int]) -> dict[str, str]:
    from synood_ray.storage.parts import decode_prompts

    return {row.key: row.prompt for unit in units for row in decode_prompts(store.get(layout.prompts_key(unit)))}
