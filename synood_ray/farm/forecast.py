"""What a run will take: hours of workers and GPUs, storage and money, from rates that another run measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from synood_ray.config.pools import FarmSettings, PoolSettings
from synood_ray.farm.observers import StageName


@dataclass(frozen=True, slots=True)
class Rates:
    """seconds: that one worker takes for a sample, by stage; size: bytes of a sample in a part."""

    seconds: Mapping[str, float]
    size: float


@dataclass(frozen=True, slots=True)
class Work:
    """One stage of a forecast, in hours: of workers together, by the clock with all of them at work, and of GPUs.

    kind: of the workers, the preferred of `PoolSettings.kinds`; "" where none are named.
    """

    role: str
    workers: int
    total: float
    clock: float
    gpus: float
    kind: str = ""

    def __str__(self) -> str:
        words = f"{self.role}s: {_hours(self.total)} of work, {_hours(self.clock)} with {self.workers}"
        words += f" (kind {self.kind})" if self.kind else ""
        return words + (f", {self.gpus:.3g} GPU-hours" if self.gpus else "")


@dataclass(frozen=True, slots=True)
class Forecast:
    """stored: bytes that the samples will take, as parts and again in shards."""

    work: tuple[Work, ...]
    stored: float

    @property
    def gpu_hours(self) -> float:
        return sum(work.gpus for work in self.work)

    def lines(self, price: float | None) -> list[str]:
        """In words. price: of a GPU-hour, in whatever money."""
        clock = max((work.clock for work in self.work), default=0.0)
        whole = f"in all: about {_hours(clock)} without start-up, {self.gpu_hours:.3g} GPU-hours"
        if price is not None:
            whole += f", {price * self.gpu_hours:,.2f} at {price:g} a GPU-hour"
        return [*map(str, self.work), f"{whole}, {_size(self.stored)} of storage"]


def forecast(samples: int, describing: int, farm: FarmSettings, rates: Rates) -> Forecast:
    """samples, describing: how many are still to be sampled and described. Stages without a rate are left out."""
    stages: list[tuple[StageName, str, PoolSettings, int]] = [
        ("describe", "describer", farm.describers, describing),
        ("sample", "sampler", farm.samplers, samples),
    ]
    work = []
    for stage, role, pool, count in stages:
        if stage in rates.seconds:
            total = count * rates.seconds[stage] / 3600
            workers = max(1, pool.max)
            kind, needs = next(iter(pool.of_kinds().items()))
            work.append(Work(role, workers, total, total / workers, total * needs.gpus, kind))
    return Forecast(tuple(work), 2 * samples * rates.size)


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:,.1f} h"


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
