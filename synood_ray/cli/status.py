"""synood status: how far a run is."""

from __future__ import annotations

import json

from synood_ray.cli.command import RUN, Arguments, Command
from synood_ray.errors import printable


def run(arguments: Arguments) -> int:
    from synood_ray.storage.distinct import least_distance
    from synood_ray.storage.parts import unique_names
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    store = open_store(arguments.options["run"], write=False)
    if "watch" in arguments.options:
        from synood_ray.cli.watch import watch
        from synood_ray.storage.watch import Watch

        watch(Watch(store))
        return 0
    made = Run.open(store)
    status = made.status()
    if "json" in arguments.options:
        print(json.dumps(status.asdict()))
        return 0
    print(f"{made.uri}: {status.headline()}")
    tables = {"units": status.units(), "samples": status.samples()}
    if status.again:
        tables["samples run again"] = status.again._asdict()
    for what, counts in tables.items():
        print(f"\n{what}")
        for name, count in counts.items():
            print(f"  {name:11} {count:>9}")
    if status.diversity:
        print(f"\n{status.diversity}")
        if alike := status.diversity.most_alike(unique_names(made.classes)):
            print(f"least diverse classes: {printable(alike)}")
    elif not status.published and least_distance(made.config):
        print("\nnear-duplicates: still among the accepted, rejected when the run is published")
    return 0


COMMAND = Command(
    "status",
    "Say how far a run is: units, samples, whether its shards are published.",
    run,
    options={
        **RUN,
        "--json": "print one JSON object instead of two tables",
        "--watch": "go on showing it, from any machine, until it is published: state, rate, time left, errors by "
        "cause with the cure",
    },
    needs=("run",),
    examples=("--run runs/demo", "--run s3://runs/imagenet --json", "--run s3://runs/imagenet --watch"),
)
