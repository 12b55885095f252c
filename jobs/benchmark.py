"""Measure synood_ray and print every figure beside its target."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from synood_ray.commandline import load_arguments, main_guard
from synood_ray.errors import UserError

OPTIONS = {
    "only": "NAMES: benchmarks to run, comma separated: sampling",
    "json": "FILE: write all figures there",
    "samples": "N: samples per recipe of the sampling benchmark (192)",
    "plot": "FILE.png: margin distributions of the sampling benchmark",
}


def main(argv: list[str]) -> int:
    loaded = load_arguments(
        argv, program="jobs/benchmark.py", description=__doc__ or "", require_output=False, extra=OPTIONS
    )
    extra = loaded.extra
    names = extra.get("only", "sampling").split(",")
    unknown = [name for name in names if name not in ("sampling",)]
    if unknown:
        raise UserError(f"--only {unknown[0]!r} is not a benchmark; there is: sampling")

    from synood_ray.benchmarks import sampling
    from synood_ray.benchmarks.targets import Target, print_targets

    figures = {}
    if "sampling" in names:
        figures["sampling"] = sampling.benchmark(loaded.settings, int(extra.get("samples", 192)), extra.get("plot"))
    for name, found in figures.items():
        for recipe, values in found["recipes"].items():
            print(recipe, json.dumps({key: round(value, 4) for key, value in values.items()}))
        print_targets(name, [Target(t["what"], t["value"], t["target"], t["at"]) for t in found["targets"]])
    if "json" in extra:
        Path(extra["json"]).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
