"""synood benchmark: the measurements behind the figures; they are in the checkout, not in the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from synood_ray.cli.command import ALL, START, Arguments, Command
from synood_ray.errors import UserError

_CHECKOUT = Path(__file__).resolve().parents[2]


def run(arguments: Arguments) -> int:
    if not (_CHECKOUT / "benchmarks" / "catalogue.py").is_file():
        raise UserError("benchmark: works in a checkout of the repository only, with pip install -e")
    sys.path.insert(0, str(_CHECKOUT))
    from benchmarks import catalogue

    options = arguments.options
    if "list" in options:
        print("\n".join(f"{name:12}{what}" for name, what in catalogue.NAMES.items()))
        return 0
    names = options.get("only", "sampling").split(",")
    catalogue.check(names, arguments.settings, options)
    figures: dict[str, object] = {}
    for name in names:
        figures[name] = catalogue.run(name, arguments.settings, options)
        if "json" in options:  # after each: the next one may take long
            Path(options["json"]).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


COMMAND = Command(
    "benchmark",
    "Measure synood_ray and print every figure beside its target; works in a checkout.",
    run,
    options={
        "--list": "say what there is to measure",
        "--only NAMES": "benchmarks to run, comma separated (default: sampling)",
        "--json FILE": "write all figures there",
        "--samples N": "samples per recipe (sampling) or set of images (teaching); default: all, four a class",
        "--heads N": "detector: how many CLIP heads (default: all three)",
        "--seeds N": "detector: how often each head is trained (default: 3)",
        "--test": "teaching, detector: read the test sets, once settings are chosen; every reading is written down",
        "--run FOLDER": "the run of finetuning and serving (default: runs/demo)",
        "--plot FILE.png": "margin distributions of the sampling benchmark",
        "--models NAMES": "models of the fullsize benchmark, of sd2, sdxl (default: sd2)",
        "--random-weights": "fullsize: build the models from their configurations, with no download",
        **START,
    },
    settings=ALL,
    examples=("", "--only sampling,farm --json figures.json", "--only fullsize --random-weights"),
)
