"""What the driver costs: units per second of no work through queue and driver, beside bare Ray actor calls.

Both use the same actors, with as many calls in flight, in turn. The bare loop is the least that one can write with
`ray.wait`: each answer sends the next call. It runs twice: with the very messages that the driver sends (tasks there, a
report back), which leaves what queue and driver add, and without any, which is what Ray can do at most. Then the same
driver with metrics and without (`benchmarks.overhead`).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import overhead
from benchmarks.alternation import Alternation
from benchmarks.comparison import compare
from benchmarks.local_cluster import local_cluster
from benchmarks.stub_workers import (
    CLASSES,
    ListedStore,
    StubSampler,
    make_output,
    stub_settings,
    stub_sources,
)
from benchmarks.targets import Target

if TYPE_CHECKING:
    from synood_ray.farm.driver import Driver


def benchmark(
    units: int = 500,
    slices: int = 20,
    workers: int = 8,
    in_flight: int = 2,
    farm: int = 16,
    latency: float = 0.25,
) -> dict[str, Any]:
    """Units and calls a second. units: of one slice. farm: workers that take `latency` seconds a unit, for metrics.

    They are as much to a driver as 64 at a second.
    """
    from synood_ray.farm.actors import Actors
    from synood_ray.farm.driver import Driver
    from synood_ray.farm.plan import Plan

    with tempfile.TemporaryDirectory() as folder, local_cluster():
        planned = (slices + 2) * (units + workers * in_flight)
        store = ListedStore(str(make_output(Path(folder))), planned)
        plan = Plan(stub_sources(planned), unit_size=1)
        settings = stub_settings(workers, in_flight=in_flight)
        driver = Driver(settings, store, plan, CLASSES, actors=Actors(sampler=StubSampler))
        driven, same, idle = Alternation(units, slices, [same_calls, idle_calls]).run(driver)
        metrics = overhead.measure(Path(folder) / "idle", workers, units, slices)
        busy = overhead.measure(Path(folder) / "farm", farm, 4 * farm, slices, latency)
    return {
        "workers": workers,
        "in_flight": in_flight,
        "same_message": compare(driven, same).as_dict(),
        "no_message": compare(driven, idle).as_dict(),
        "metrics": {
            "workers": farm,
            "latency": latency,
            "farm": busy.as_dict(),
            "idle": metrics.as_dict() | {"milliseconds": overhead.milliseconds(metrics)},
        },
    }


def targets(figures: dict[str, Any]) -> list[Target]:
    what = "units per second, driver / bare Ray calls"
    return [
        Target(f"{what} with the same message", figures["same_message"]["ratio"], 0.8),
        Target(f"{what} without a message", figures["no_message"]["ratio"], 0.8),
        *overhead.targets(figures["metrics"]),
    ]


def same_calls(driver: Driver, first: int, units: int) -> float:
    """Calls a second that carry a unit's tasks and bring back its report."""
    return _calls(driver, units, lambda worker, unit: worker.sample.remote(unit, driver.plan.unit(unit), 1, None, 0))


def idle_calls(driver: Driver, first: int, units: int) -> float:
    """Calls a second without argument or answer."""
    return _calls(driver, units, lambda worker, unit: worker.idle.remote())


def _calls(driver: Driver, count: int, call: Any) -> float:
    import ray

    pool = driver.sampling.pool
    workers = [worker.handle for worker in pool.workers.values()]
    left = iter(range(count))
    begin = time.monotonic()
    flying = {
        call(worker, unit): worker for _ in range(pool.slots) for worker, unit in zip(workers, left, strict=False)
    }
    while flying:
        answered, _ = ray.wait(list(flying), num_returns=1)
        for reference in answered:
            worker = flying.pop(reference)
            ray.get(reference)
            unit = next(left, None)
            if unit is not None:
                flying[call(worker, unit)] = worker
    return count / (time.monotonic() - begin)
