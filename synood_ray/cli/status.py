"""synood status: how far a run is."""

from __future__ import annotations

import json

from synood_ray.cli.command import RUN, Arguments, Command


def run(arguments: Arguments) -> int:
    from synood_ray.storage.progress import run_status
    from synood_ray.storage.stores import open_store

    status = run_status(open_store(arguments.options["run"], write=False)).asdict()
    if "json" in arguments.options:
        print(json.dumps(status))
    else:
        print("\n".join(f"{name:12} {value}" for name, value in status.items()))
    return 0


COMMAND = Command(
    "status",
    "Say how far a run is: units, samples, whether its shards are published.",
    run,
    options={**RUN, "--json": "print one JSON object instead of a table"},
    needs=("run",),
    examples=("--run runs/demo", "--run s3://runs/imagenet --json"),
)
