"""Measure synood_ray and print every figure beside its target."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from synood_ray.commandline import load_arguments, main_guard
from synood_ray.errors import UserError

NAMES = {
    "sampling": "boundary sampling beside the released recipe and fresh noise",
    "fullsize": "one round at the paper's size, with --random-weights",
    "finetuning": "a run's accepted images beside far outliers alone and ID images alone, three seeds",
    "farm": "accepted samples a second through the farm beside the bare loop, scorer as an actor, 64 stub workers; "
    "needs contexts stored with the images (as in the mini preset) or --describer.contexts, and about 8 GB of memory",
    "dispatch": "units without work a second beside bare Ray calls",
    "plan": "resume of a million units, and a finished run asked again; needs no Ray",
}
OPTIONS = {
    "only": "NAMES: benchmarks to run, comma separated (sampling): "
    + "; ".join(f"{name}: {what}" for name, what in NAMES.items()),
    "json": "FILE: write all figures there",
    "samples": "N: samples per recipe of the sampling benchmark (192)",
    "run": "FOLDER: the run of the finetuning benchmark (runs/demo)",
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
    if "fullsize" in names and "random-weights" not in extra:
        raise UserError("--only fullsize runs with --random-weights only; nothing is downloaded")

    from synood_ray.benchmarks import catalogue

    figures: dict[str, object] = {}
    for name in names:
        figures[name] = catalogue.run(name, loaded.settings, extra, Path(__file__).with_name("synthesize.py"))
        if "json" in extra:  # after each: the next one may take long
            Path(extra["json"]).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
