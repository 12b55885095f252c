"""Say how far a run is: units, samples, whether its shards are published."""

from __future__ import annotations

import json
import sys

from synood_ray.cli.commandline import load_run_arguments, main_guard


def main(argv: list[str]) -> int:
    arguments = load_run_arguments(argv, program="jobs/status.py", description=__doc__ or "", json=True)

    from synood_ray.storage.progress import run_status
    from synood_ray.storage.stores.base import open_store

    status = run_status(open_store(arguments.run, write=False)).asdict()
    if arguments.json:
        print(json.dumps(status))
    else:
        print("\n".join(f"{name:12} {value}" for name, value in status.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
