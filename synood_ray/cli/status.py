"""synood status: how far a run is."""

from __future__ import annotations

import json

from synood_ray.cli.command import RUN, Arguments, Command


def run(arguments: Arguments) -> int:
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    made = Run.open(open_store(arguments.options["run"], write=False))
    status = made.status()
    if "json" in arguments.options:
        print(json.dumps(status.asdict()))
        return 0
    print(f"{made.uri}: {status.headline()}")
    for what, counts in (("units", status.units()), ("samples", status.samples())):
        print(f"\n{what}")
        for name, count in counts.items():
            print(f"  {name:11} {count:>9}")
    return 0


COMMAND = Command(
    "status",
    "Say how far a run is: units, samples, whether its shards are published.",
    run,
    options={**RUN, "--json": "print one JSON object instead of two tables"},
    needs=("run",),
    examples=("--run runs/demo", "--run s3://runs/imagenet --json"),
)
