"""Measure a run's detector against the baselines; writes evaluation.json and report/index.html."""

from __future__ import annotations

import sys
import time

from synood_ray.cli.commandline import load_run_arguments, main_guard


def main(argv: list[str]) -> int:
    arguments = load_run_arguments(
        argv,
        program="jobs/evaluate.py",
        description=__doc__ or "",
        overrides_of=("evaluation", "labels", "scorer.device"),
    )

    from synood_ray.detection.evaluate import run_evaluation
    from synood_ray.report.page import write_report
    from synood_ray.report.table import print_summary
    from synood_ray.storage import layout
    from synood_ray.storage.progress import run_status
    from synood_ray.storage.run import read_run, stored_config
    from synood_ray.storage.stores.base import open_store
    from synood_ray.storage.timings import read_timings, record_timings

    store = open_store(arguments.run)
    settings = arguments.settings(stored_config(store))
    begin = time.perf_counter()
    evaluation = run_evaluation(store, settings, say=lambda line: print(line, flush=True))
    if not store.exists(layout.REPORT_PAGE):
        write_report(store, settings, evaluation)
    record_timings(store, "evaluate", {"evaluate": time.perf_counter() - begin})
    record = read_run(store)
    assert record is not None
    report = f"{arguments.run}/{layout.REPORT_PAGE}"
    print_summary(run_status(store), record.planned, read_timings(store), evaluation, report)
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
