"""What the scorer in an actor of its own costs: the same units through samplers with and without it, in turn.

The farm's own actors, under Ray, on all cores: a sampler with one thread a core, stored contexts, parts written to a
folder. Start, loading of models and calibration are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.comparison import compare
from benchmarks.small_farm import small_farm
from benchmarks.targets import Target
from synood_ray.config.settings import Settings
from synood_ray.data.selection import Selection


def benchmark(
    settings: Settings, turns: int = 8, units: int = 2, unit_size: int = 32, cores: int | None = None
) -> dict[str, Any]:
    """Accepted samples a second with the scorer as an actor, beside scorers inside the samplers.

    units: of one sampler in a turn; the first turn of each side is thrown away. cores and contexts: see `small_farm`.
    """
    with small_farm(settings, unit_size, cores) as (settings, selection, folder):
        sides = [Side(settings, selection, folder / name, name) for name in ("actor", "local")]
        span = units * settings.farm.samplers.max
        rates = [[side.rate(range(t * span, (t + 1) * span)) for side in sides] for t in range(turns + 1)]
        cores = settings.farm.samplers.max
    return {"cores": cores, "actor_over_local": compare(*zip(*rates[1:], strict=True)).as_dict()}


def target(figures: dict[str, Any]) -> Target:
    found = figures["actor_over_local"]
    ends = 1 - found["high"], 1 - found["low"]
    return Target("throughput lost with the scorer as an actor", 1 - found["ratio"], 0.05, "most", ends)


class Side:
    """The samplers of one placement of the scorer, loaded and with their boundary, and a run folder of their own."""

    def __init__(self, settings: Settings, selection: Selection, folder: Path, placement: str) -> None:
        import ray

        from synood_ray.farm.actors.describer import DescriberActor
        from synood_ray.farm.actors.sampler import SamplerActor
        from synood_ray.farm.actors.scorer import ScorerActor
        from synood_ray.farm.plan import Plan
        from synood_ray.farm.pool import Pool
        from synood_ray.storage import layout
        from synood_ray.storage.record import check_or_create_run
        from synood_ray.storage.sources import encode_sources, sources_digest
        from synood_ray.storage.stores import open_store

        farm, names = settings.farm, [info.name for info in selection.classes]
        output = str(folder)
        store = open_store(output)
        self.plan = Plan(selection.sources, per_image=1000, unit_size=farm.unit_size, seed=settings.seed)
        check_or_create_run(  # workers look for it
            store,
            settings,
            id_manifest_sha256=sources_digest(selection.sources),
            planned=self.plan.samples,
            units=len(self.plan),
            classes=names,
        )
        store.put_new(layout.CALIBRATION_MANIFEST, encode_sources(selection.calibration))
        self.describer = DescriberActor(settings.model_dump(mode="json"), output)
        arguments = settings.model_dump(mode="json"), output, names
        self.pools = [Pool("sampler", SamplerActor, farm.samplers, (*arguments, []), farm.in_flight)]
        if placement == "actor":
            scorers = Pool("scorer", ScorerActor, farm.scorers, arguments, 1)
            handles = [worker.handle for worker in scorers.grow(farm.scorers.max)]
            samplers = Pool("sampler", SamplerActor, farm.samplers, (*arguments, handles), farm.in_flight)
            self.pools = [samplers, scorers]
        self.samplers = [worker.handle for worker in self.pools[0].grow(farm.samplers.max)]
        ray.get([sampler.prepare.remote() for sampler in self.samplers])

    def rate(self, units: Iterable[int]) -> float:
        """Accepted samples a second of some units, shared out among the samplers."""
        import ray

        work = [(unit, self.plan.unit(unit)) for unit in units]
        for unit, tasks in work:
            self.describer.describe(unit, tasks)
        begin = time.monotonic()
        reports = ray.get(
            [
                self.samplers[index % len(self.samplers)].sample.remote(unit, tasks, 1, None)
                for index, (unit, tasks) in enumerate(work)
            ]
        )
        return sum(report.accepted for report in reports) / (time.monotonic() - begin)
