"""synood push: a run as a dataset, and its detector, on the Hugging Face Hub."""

from __future__ import annotations

import re
from functools import partial

from synood_ray.cli.command import RUN, Arguments, Command
from synood_ray.errors import UserError

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def run(arguments: Arguments) -> int:
    options = arguments.options
    repo, licence, real = options["to"], options.get("license", ""), "yes" in options
    if repo.count("/") != 1 or "://" in repo:
        raise UserError(f"--to {repo}: name a repository of the Hub as USER/NAME")
    if licence and not _LICENCE.fullmatch(licence):
        raise UserError(f"--license {licence!r}: give the Hub's name for one, such as cc-by-4.0, apache-2.0 or other")
    if real and not licence:
        raise UserError(
            "--license: say under which licence the images go (cc-by-4.0, other, …); they keep the surroundings of the "
            "ID images, so those images' licences count"
        )

    from synood_ray.storage.hub import dataset_files, hub_errors, push_files, sizes
    from synood_ray.storage.layout import DETECTOR
    from synood_ray.storage.run import Run
    from synood_ray.storage.stores import open_store

    made = Run.open(open_store(options["run"], write=False))
    files = dataset_files(made, licence)
    detector = any(True for _ in made.store.list(DETECTOR))
    seen = "public" if "public" in options else "private"
    print(f"dataset {repo}, {seen}, licence {licence or 'not given yet (--license)'}:", *sizes(files), sep="\n")
    print(f"detector {repo}, {seen}" if detector else "no detector: the run is not fine-tuned")
    if not real:
        print("nothing was sent; --yes sends it")
        return 0
    from huggingface_hub import HfApi

    print("sent:", push_files(repo, files, private=seen == "private", api=HfApi()))
    if detector:
        from synood_ray.detection.detector import Detector

        loaded = Detector.load(options["run"])
        origin = f"Trained on the images of the dataset https://huggingface.co/datasets/{repo}, licence {licence}."
        card = {"repo_id": repo, "notes": [*loaded.description.notes, origin]}
        push = partial(loaded.push_to_hub, repo, private=seen == "private", model_card_kwargs=card)
        print("sent:", hub_errors(repo, lambda: str(push())))
    return 0


COMMAND = Command(
    "push",
    "Put a published run and its detector on the Hugging Face Hub; says what would go, and sends it with --yes.",
    run,
    options={
        **RUN,
        "--to NAME": "USER/NAME of the dataset repository, and of the detector's model repository; made if need be",
        "--license ID": "the Hub's name of the licence of the images, such as cc-by-4.0; stands in the card",
        "--public": "make new repositories public (default: private)",
        "--yes": "send it",
    },
    needs=("run", "to"),
    examples=("--run runs/demo --to me/boundary", "--run runs/demo --to me/boundary --license cc-by-4.0 --yes"),
)
