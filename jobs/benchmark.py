"""Measure synood_ray and print every figure beside its target."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from synood_ray.commandline import load_arguments, main_guard
from synood_ray.errors import UserError

NAMES = ("sampling", "fullsize")
OPTIONS = {
    "only": f"NAMES: benchmarks to run, comma separated, of {', '.join(NAMES)} (sampling)",
    "json": "FILE: write all figures there",
    "samples": "N: samples per recipe of the sampling benchmark (192)",
    "plot": "FILE.png: margin distributions of the sampling benchmark",
    "models": "NAMES: models of the fullsize benchmark, of sd2, sdxl (sd2)",
}
FLAGS = {"random-weights": "fullsize: build the models from their configurations, with no download"}


def main(argv: list[str]) -> int:
    loaded = load_arguments(
        argv,
        program="jobs/benchmark.py",
        description=__doc__ or "",
        require_output=False,
        extra=OPTIONS,
        flags=FLAGS,
    )
    extra = loaded.extra
    names = extra.get("only", "sampling").split(",")
    for name in names:
        if name not in NAMES:
            raise UserError(f"--only {name!r} is not a benchmark; there are {', '.join(NAMES)}")

    from synood_ray.benchmarks import fullsize, sampling

    figures: dict[str, object] = {}
    if "sampling" in names:
        found = sampling.benchmark(loaded.settings, int(extra.get("samples", 192)), extra.get("plot"))
        figures["sampling"] = sampling.show(found)
    if "fullsize" in names:
        if "random-weights" not in extra:
            raise UserError("--only fullsize runs with --random-weights only; nothing is downloaded")
        figures["fullsize"] = fullsize.benchmark(tuple(extra.get("models", "sd2").split(",")))
        print(json.dumps(figures["fullsize"], indent=1))
    if "json" in extra:
        Path(extra["json"]).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
