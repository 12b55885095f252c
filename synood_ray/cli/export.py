"""synood export: the accepted samples of a run as WebDataset shards."""

from __future__ import annotations

from synood_ray.cli.command import RUN, Arguments, Command
from synood_ray.errors import UserError


def run(arguments: Arguments) -> int:

    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store
    from synood_ray.storage.webdataset import export

    source, target = Run.open(open_store(arguments.options["run"], write=False)), arguments.options["to"]
    source.published()  # before anything is made
    try:
        keys = export(source, open_store(target))
    except FileExistsError as error:
        raise UserError(f"{error}; choose another --to") from error
    print(f"exported {len(keys)} tar file{'s' * (len(keys) != 1)} to {target}")
    return 0


COMMAND = Command(
    "export",
    "Write the accepted samples of a published run as WebDataset tar files, one per shard.",
    run,
    options={**RUN, "--to URI": "where the tar files go, a folder or s3:// location; the same command again resumes"},
    needs=("run", "to"),
    examples=("--run runs/demo --to tars", "--run s3://runs/imagenet --to s3://tars/imagenet"),
)
