"""Fine-tune the detector of a run on its published samples, under Ray Train."""

from __future__ import annotations

import sys
import time

from synood_ray.cli.commandline import load_run_arguments, main_guard


def main(argv: list[str]) -> int:
    arguments = load_run_arguments(
        argv,
        program="jobs/finetune.py",
        description=__doc__ or "",
        overrides_of=("training", "labels", "scorer.device", "farm"),
    )

    from synood_ray.farm.cluster import connect
    from synood_ray.storage.run import stored_config
    from synood_ray.storage.stores.base import open_store
    from synood_ray.storage.timings import record_timings
    from synood_ray.training.job import run_finetune

    store = open_store(arguments.run)
    settings = arguments.settings(stored_config(store))
    begin = time.perf_counter()
    result = run_finetune(store, settings, connect=lambda: print(connect(), flush=True))
    if not result.fresh:
        print(f"{arguments.run}: the detector is trained already: nothing to do")
        return 0
    record_timings(store, "finetune", {"finetune": time.perf_counter() - begin})
    images = ", ".join(f"{count} {kind}" for kind, count in result.images.items())
    print(f"detector trained on {images}; threshold {result.threshold:.4f}, in {arguments.run}/detector")
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
