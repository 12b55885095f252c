"""synood evaluate: measure the detector of a run."""

from __future__ import annotations

import time

from synood_ray.cli.command import RUN, Arguments, Command


def run(arguments: Arguments) -> int:
    from synood_ray.detection.evaluate import run_evaluation
    from synood_ray.report.page import write_report
    from synood_ray.report.table import print_summary
    from synood_ray.storage import layout
    from synood_ray.storage.progress import run_status
    from synood_ray.storage.run import read_run, stored_config
    from synood_ray.storage.stores.base import open_store
    from synood_ray.storage.timings import read_timings, record_timings

    uri = arguments.options["run"]
    store = open_store(uri)
    settings = arguments.over(stored_config(store))
    begin = time.perf_counter()
    evaluation = run_evaluation(store, settings, say=lambda line: print(line, flush=True))
    if not store.exists(layout.REPORT_PAGE):
        write_report(store, settings, evaluation)
    record_timings(store, "evaluate", {"evaluate": time.perf_counter() - begin})
    record = read_run(store)
    assert record is not None
    print_summary(run_status(store), record.planned, read_timings(store), evaluation, f"{uri}/{layout.REPORT_PAGE}")
    return 0


COMMAND = Command(
    "evaluate",
    "Measure a run's detector against the baselines; writes evaluation.json and report/index.html.",
    run,
    options=RUN,
    needs=("run",),
    settings=("evaluation", "labels", "scorer.device"),
    often=("evaluation.id_test", "evaluation.near", "evaluation.far", "evaluation.bootstrap", "scorer.device"),
    examples=("--run runs/demo", "--run s3://runs/imagenet --evaluation.near.mine photos/near"),
)
