"""Measure synood_ray and print every figure beside its target."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the measurements are in the checkout, not in the package

from benchmarks import catalogue
from synood_ray.cli.commandline import load_arguments, main_guard

OPTIONS = {
    "only": "NAMES: benchmarks to run, comma separated (sampling): "
    + "; ".join(f"{name}: {what}" for name, what in catalogue.NAMES.items()),
    "json": "FILE: write all figures there",
    "samples": f"N: samples per recipe of the sampling benchmark ({catalogue.SAMPLES})",
    "run": "FOLDER: the run of the finetuning benchmark (runs/demo)",
    "plot": "FILE.png: margin distributions of the sampling benchmark",
    "models": f"NAMES: models of the fullsize benchmark, of {', '.join(catalogue.FULL_SIZE)} (sd2)",
}
FLAGS = {"random-weights": "fullsize: build the models from their configurations, with no download"}


def main(argv: list[str]) -> int:
    loaded = load_arguments(
        argv,
        program="jobs/benchmark.py",
        description=__doc__ or "",
        require_data=False,
        require_output=False,
        extra=OPTIONS,
        flags=FLAGS,
    )
    extra = loaded.extra
    names = extra.get("only", "sampling").split(",")
    catalogue.check(names, loaded.settings, extra)
    figures: dict[str, object] = {}
    for name in names:
        figures[name] = catalogue.run(name, loaded.settings, extra, Path(__file__).with_name("synthesize.py"))
        if "json" in extra:  # after each: the next one may take long
            Path(extra["json"]).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
