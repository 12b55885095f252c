"""The benchmarks by name: run one, print its targets, return its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synood_ray.benchmarks.targets import Target, print_targets
from synood_ray.config import Settings


def run(name: str, settings: Settings, options: Mapping[str, str], job: Path) -> dict[str, Any]:
    """One of the benchmarks of `jobs/benchmark.py`, whose options these are. job: jobs/synthesize.py."""
    if name == "sampling":
        from synood_ray.benchmarks import sampling

        return sampling.show(sampling.benchmark(settings, int(options.get("samples", 192)), options.get("plot")))
    if name == "fullsize":
        from synood_ray.benchmarks import fullsize

        found = fullsize.benchmark(tuple(options.get("models", "sd2").split(",")))
        print(json.dumps(found, indent=1))
        return found
    if name == "finetuning":
        from synood_ray.benchmarks import finetuning

        return finetuning.show(finetuning.benchmark(settings, options.get("run", "runs/demo")))
    if name == "farm":
        from synood_ray.benchmarks import busy, throughput

        found, share = throughput.benchmark(settings), busy.benchmark()
        return _with_targets(name, found | {"busy": share}, throughput.targets(found) + busy.targets(share))
    if name == "dispatch":
        from synood_ray.benchmarks import dispatch

        found = dispatch.benchmark()
        return _with_targets(name, found, dispatch.targets(found))
    from synood_ray.benchmarks import resuming

    found = resuming.benchmark(job)
    return _with_targets(name, found, resuming.targets(found))


def _with_targets(name: str, figures: dict[str, Any], targets: list[Target]) -> dict[str, Any]:
    print_targets(name, targets)
    return {**figures, "targets": [target.as_dict() for target in targets]}
