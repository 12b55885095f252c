"""synood push: a run as a dataset, and its detector, on the Hugging Face Hub."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from synood_ray.cli.command import RUN, Arguments, Command
from synood_ray.errors import UserError, counted

if TYPE_CHECKING:
    from synood_ray.data.left_out import LeftOut
    from synood_ray.storage.run import Run

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
    left = _left_out(made, options)
    files, stay = dataset_files(made, licence, left.keys)
    detector = any(True for _ in made.store.list(DETECTOR))
    if left.keys or left.unmatched:
        print(f"{left}; {counted(stay, 'sample')} of {made.record.planned:,} stay here")
    seen = "public" if "public" in options else "private"
    print(f"dataset {repo}, {seen}, licence {licence or 'not given yet (--license)'}:", *sizes(files), sep="\n")
    if detector and left.listed:
        print("no detector: it was trained on samples of sources that the list leaves out")
        detector = False
    else:
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


def _left_out(run: Run, options: dict[str, str]) -> LeftOut:
    """What of the run does not go. Raises UserError."""
    from synood_ray.config.settings import from_stored
    from synood_ray.data.left_out import LeftOut, alike, listed, read_list
    from synood_ray.data.reader import ImageReader

    out, near, unmatched = frozenset[str](), frozenset[str](), tuple[str, ...]()
    if "leave-out" in options:
        lines = read_list(options["leave-out"])
        out, unmatched = listed(run.sources(), lines, ImageReader(from_stored(run.config).data).read)
    if "distinct-sources" in options:
        near = alike(run, _distance(options["distinct-sources"]), out)
    return LeftOut(out, near, unmatched)


def _distance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise UserError(f"--distinct-sources: must be a CLIP distance between 0 and 1, such as 0.02, not {text!r}")
    return value


COMMAND = Command(
    "push",
    "Put a published run and its detector on the Hugging Face Hub; says what would go, and sends it with --yes.",
    run,
    options={
        **RUN,
        "--to NAME": "USER/NAME of the dataset repository, and of the detector's model repository; made if need be",
        "--license ID": "the Hub's name of the licence of the images, such as cc-by-4.0; stands in the card",
        "--public": "make new repositories public (default: private)",
        "--leave-out FILE": "leave out the samples of sources that a text file names: a key (dog/3.jpg), a pattern "
        "(dog/*) or a SHA-256 of the image file a line; a detector that was trained on them stays too",
        "--distinct-sources D": "leave out the samples of sources nearer than this CLIP distance to another of their "
        "class, such as 0.02 (of a fine-tuned run)",
        "--yes": "send it",
    },
    needs=("run", "to"),
    examples=("--run runs/demo --to me/boundary", "--run runs/demo --to me/boundary --license cc-by-4.0 --yes"),
)
