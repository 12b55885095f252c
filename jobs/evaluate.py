"""Measure a run's detector against the baselines; writes evaluation.json and report/index.html."""

from __future__ import annotations

import sys

from synood_ray.commandline import load_run_arguments, main_guard


def main(argv: list[str]) -> int:
    arguments = load_run_arguments(
        argv,
        program="jobs/evaluate.py",
        description=__doc__ or "",
        overrides_of=("evaluation", "labels", "scorer.device"),
    )

    from synood_ray.detection.evaluate import run_evaluation
    from synood_ray.storage.run import stored_config
    from synood_ray.storage.store import open_store

    store = open_store(arguments.run)
    run_evaluation(store, arguments.settings(stored_config(store)))
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
