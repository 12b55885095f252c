"""The benchmarks by name: check what was asked for, run one, print its targets, return its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.heads import HEADS
from benchmarks.targets import Target, print_targets
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from tools.browser import find_chromium

NAMES = {
    "sampling": "boundary sampling beside the released recipe and fresh noise; semantic check; scorer as an actor",
    "fullsize": "the models of --preset imagenet at their real size, one round, with --random-weights",
    "finetuning": "a run's accepted images beside far outliers alone and ID images alone, three seeds",
    "detector": "every OOD score in the miniature world's three regimes, frozen and fine-tuned; three heads and seeds",
    "teaching": "what images of every policy teach beside the released recipe, real near images and no generator",
    "farm": "accepted samples per second through the farm beside the bare loop, scorer as an actor, 64 stub workers; "
    "needs contexts stored with the images (as in the mini preset) or --describer.contexts, and about 8 GB of memory",
    "serving": "the online detector of a run under load, forms and single images, beside calls in process",
    "dispatch": "units without work per second beside bare Ray calls; what metrics cost",
    "report": "the page of 100,000 samples: size, and how soon Chromium shows it; needs chromium",
    "plan": "resume of a million units, a finished run asked again, a dry run on a million images; needs no Ray",
}
FULL_SIZE = ("sd2", "sdxl")
SAMPLES = 460
MOST_SEEDS = 99
MINI = "mini://data/"


def check(names: list[str], settings: Settings, options: Mapping[str, str]) -> None:
    """Raise UserError for whatever `run` could not do with these options; nothing is loaded."""
    for name in names:
        if name not in NAMES:
            raise UserError(f"--only {name!r} is not a benchmark; there are {', '.join(NAMES)}")
        if name == "fullsize" and "random-weights" not in options:
            raise UserError("--only fullsize runs with --random-weights only; nothing is downloaded")
        if name == "report" and find_chromium() is None:
            raise UserError("--only report needs chromium (Debian package chromium)")
        if name in ("sampling", "farm", "report", "serving") and not settings.data.uri:
            raise UserError(f"data.uri: --only {name} needs images; give --data, or --preset mini, which has some")
        if name in ("teaching", "detector") and not settings.data.uri.startswith(MINI):
            raise UserError(f"data.uri: --only {name} measures in the miniature world; give --preset mini")
    for model in _models(options):
        if model not in FULL_SIZE:
            raise UserError(f"--models {model!r} is not a full-size model; there are {', '.join(FULL_SIZE)}")
    _samples(options)
    _count(options, "heads", len(HEADS))
    _count(options, "seeds", MOST_SEEDS)
    for option in ("json", "plot"):
        if option in options and not Path(options[option]).absolute().parent.is_dir():
            raise UserError(f"--{option} {options[option]}: its folder does not exist")


def run(name: str, settings: Settings, options: Mapping[str, str]) -> dict[str, Any]:
    """One of the benchmarks of `synood benchmark`, whose options these are."""
    if name == "sampling":
        from benchmarks import sampling

        return _with_targets(name, *sampling.benchmark(settings, _samples(options), options.get("plot")))
    if name == "fullsize":
        from benchmarks import fullsize

        found = fullsize.benchmark(settings, _models(options))
        print(json.dumps(found, indent=1))
        return found
    if name == "finetuning":
        from benchmarks import finetuning

        made = options.get("run", "runs/demo")
        taught = finetuning.show(finetuning.benchmark(settings, made))
        seconds = finetuning.again(made)
        return _with_targets(name, {"taught": taught, "again": seconds}, finetuning.targets(seconds))
    if name == "detector":
        from benchmarks import detector

        heads, seeds = range(_count(options, "heads", len(HEADS))), _count(options, "seeds", MOST_SEEDS)
        measured = detector.show(detector.benchmark(settings, "test" in options, heads, seeds))
        return _with_targets(name, measured, detector.targets(measured, settings.detector.score))
    if name == "teaching":
        from benchmarks import teaching

        samples = _samples(options) if "samples" in options else None
        found = teaching.benchmark(settings, samples, test="test" in options)
        return teaching.show(found, settings.detector.score)
    if name == "farm":
        from benchmarks import busy, placement, throughput

        found, scorer, share = throughput.benchmark(settings), placement.benchmark(settings), busy.benchmark()
        targets = [*throughput.targets(found), placement.target(scorer), *busy.targets(share)]
        return _with_targets(name, found | {"scorer": scorer, "busy": share}, targets)
    if name == "serving":
        from benchmarks import serving

        found = serving.benchmark(settings, options.get("run", "runs/demo"))
        serving.show(found)
        return _with_targets(name, found, serving.targets(found))
    if name == "dispatch":
        from benchmarks import dispatch

        found = dispatch.benchmark()
        return _with_targets(name, found, dispatch.targets(found))
    if name == "report":
        from benchmarks import reporting

        found = reporting.benchmark(settings)
        return _with_targets(name, found, reporting.targets(found))
    from benchmarks import rehearsing, resuming

    found, dry = resuming.benchmark(), rehearsing.benchmark()
    return _with_targets(name, found | {"dry": dry}, [*resuming.targets(found), *rehearsing.targets(dry)])


def _samples(options: Mapping[str, str]) -> int:
    text = options.get("samples", str(SAMPLES))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= SAMPLES):
        raise UserError(f"--samples {text!r}: give 1 to {SAMPLES}, which is four of an image of every class")
    return int(text)


def _count(options: Mapping[str, str], name: str, most: int) -> int:
    text = options.get(name, "3")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise UserError(f"--{name} {text!r}: give 1 to {most}")
    return int(text)


def _models(options: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(options.get("models", FULL_SIZE[0]).split(","))


def _with_targets(name: str, figures: dict[str, Any], targets: list[Target]) -> dict[str, Any]:
    print_targets(name, targets)
    return {**figures, "targets": [target.as_dict() for target in targets]}
