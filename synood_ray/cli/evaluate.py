"""synood evaluate: measure the detector of a run."""

from __future__ import annotations

import time

from synood_ray.cli.command import RUN, Arguments, Command


def run(arguments: Arguments) -> int:
    from synood_ray.cli.fixed import settings_for
    from synood_ray.detection.evaluate import run_evaluation
    from synood_ray.errors import printable
    from synood_ray.locations import run_name
    from synood_ray.report.board import board_line
    from synood_ray.report.markdown import as_markdown
    from synood_ray.report.page import write_report
    from synood_ray.report.table import print_summary
    from synood_ray.storage import layout
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    uri = arguments.options["run"]
    store = open_store(uri)
    made = Run.open(store)
    settings = settings_for(made, arguments)
    begin = time.perf_counter()
    controls = None
    if "controls" in arguments.options:
        from synood_ray.training.controls import control_methods

        controls = control_methods

    evaluation = run_evaluation(store, settings, say=lambda line: print(printable(line), flush=True), controls=controls)
    if not store.exists(layout.REPORT_TEXT):
        store.put_new(layout.REPORT_TEXT, as_markdown(evaluation, run_name(uri)).encode())
    board = board_line(evaluation, settings)
    if board and not store.exists(layout.REPORT_BOARD):
        store.put_new(layout.REPORT_BOARD, board.encode())
    if not store.exists(layout.REPORT_PAGE):
        write_report(store, settings, evaluation)
    made.record_timings("evaluate", {"evaluate": time.perf_counter() - begin})
    print_summary(made.status(), made.record.planned, made.timings(), evaluation, f"{uri}/{layout.REPORT_PAGE}")
    return 0


COMMAND = Command(
    "evaluate",
    "Measure a run's detector against the baselines; writes evaluation.json and report/index.html.",
    run,
    options=RUN
    | {
        "--controls": "also train what the detector must beat, from the features that the run keeps: on ID images "
        "alone, with far outliers, with mixtures of ID images, and not at all; see evaluation.seeds"
    },
    needs=("run",),
    settings=("evaluation", "labels", "scorer.device", "detector.model", "detector.pretrained"),
    often=("evaluation.id_test", "evaluation.near", "evaluation.far", "evaluation.bootstrap", "scorer.device"),
    examples=(
        "--run runs/demo --controls",
        "--run runs/imagenet --evaluation.protocol openood-v1.5 --evaluation.root data",
        "--run s3://runs/imagenet --evaluation.near.mine photos/near",
    ),
)
