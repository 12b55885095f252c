"""synood finetune: train the detector of a run."""

from __future__ import annotations

import time

from synood_ray.cli.command import RUN, Arguments, Command


def run(arguments: Arguments) -> int:
    from synood_ray.cli.fixed import settings_for
    from synood_ray.farm.cluster import await_room, connect
    from synood_ray.farm.placement import training_needs
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store
    from synood_ray.training.job import run_finetune

    def say(line: str) -> None:
        print(line, flush=True)

    uri = arguments.options["run"]
    store = open_store(uri)
    made = Run.open(store)
    settings = settings_for(made, arguments)
    begin = time.perf_counter()

    def join() -> None:
        say(connect())
        await_room(training_needs(settings), say)

    result = run_finetune(store, settings, connect=join)
    if not result.fresh:
        print(f"{uri}: the detector is trained already: nothing to do")
        return 0
    if result.rescored is not None:
        print(
            f"detector.score {result.rescored} → {settings.detector.score}: statistics and threshold made anew from "
            "the features that the run keeps; nothing is trained, no image encoded again"
        )
    made.record_timings("finetune", {"finetune": time.perf_counter() - begin})
    images = ", ".join(f"{count} {kind}" for kind, count in result.images.items())
    for warning in result.warnings:
        print(f"warning: {warning}")
    for note in result.notes:
        print(f"note: {note}")
    print(f"detector trained on {images}; threshold {result.threshold:.4f}, in {uri}/detector")
    return 0


COMMAND = Command(
    "finetune",
    "Fine-tune the detector of a run on its published samples.",
    run,
    options=RUN,
    needs=("run",),
    settings=("training", "detector", "labels", "scorer.device", "farm"),
    often=("training.epochs", "training.lr", "detector.score", "training.workers", "training.gpus", "scorer.device"),
    examples=("--run runs/demo", "--run s3://runs/imagenet --training.workers 4 --training.gpus 1"),
)
