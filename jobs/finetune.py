"""Fine-tune the detector of a run on its published samples, under Ray Train."""

from __future__ import annotations

import sys

from synood_ray.commandline import load_run_arguments, main_guard


def main(argv: list[str]) -> int:
    arguments = load_run_arguments(
        argv,
        program="jobs/finetune.py",
        description=__doc__ or "",
        overrides_of=("training", "labels", "scorer.device", "farm"),
    )

    from synood_ray.farm.cluster import connect
    from synood_ray.storage.run import stored_config
    from synood_ray.storage.store import open_store
    from synood_ray.training.job import run_finetune

    store = open_store(arguments.run)
    settings = arguments.settings(stored_config(store))
    print(connect(), flush=True)
    run_finetune(store, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
