"""What OOD images of every kind teach: fine-tuned on each, measured on near classes that no method knows anything of.

Near classes are halved (`world.halves`): whatever names or real near images a method may use come from half A, every
figure is read on half B. A gain is over fine-tuning on the ID images alone (their companions too), mean of three CLIP
heads and the training seeds, with 95 % intervals over classes. Settings are chosen on the validation sets; the test
sets are read with ``--test`` only, and every reading is written into `READS`.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.heads import HEADS, Encoded, open_head
from benchmarks.teaching.images import OURS, RELEASED, ImageSet, Maker, wanted
from benchmarks.teaching.looks import looks
from benchmarks.teaching.measure import Figures, Key, Tests, as_json, gain, measure
from benchmarks.teaching.methods import MIXUP, MIXUP_NEAR, ORACLE, Seen, see, trainees
from benchmarks.teaching.tables import PAPER, show
from benchmarks.teaching.world import Split, World, open_world
from synood_ray.config.settings import Settings

SEEDS = 3
READS = Path(__file__).with_name("test_reads.tsv")
MIXUPS = (MIXUP, MIXUP_NEAR)


def benchmark(settings: Settings, samples: int | None = None, test: bool = False, seeds: int = SEEDS) -> dict[str, Any]:
    """samples: sources that images are made from, spread over all; None: all that the settings select.

    Returns ``methods``: method -> split -> score -> gain and figures; ``images``: set -> what it cost and looks like;
    ``chosen``: the policy that taught best on validation, by the paper's score; ``test_reads``, how often the test
    sets were read.
    """
    reads = note_reading() if test else count_reads()
    world = open_world(settings, samples, test)
    made = make_images(world, settings)
    print(f"{len(made)} sets of images; encoding for {len(HEADS)} heads", flush=True)
    prepared = [prepare(head, world, settings, made) for head in HEADS]
    figures = train_all(prepared, settings, seeds)
    return summarise(figures, made, looks(made, sources_as_images(world, settings))) | {"test_reads": reads}


# -- the images --------------------------------------------------------------------------------------------------------


def make_images(world: World, settings: Settings) -> dict[str, ImageSet]:
    """Every set of images, ``companions`` and ``regenerated`` among them; a process for each core makes what is not
    there."""
    sets = wanted(settings)
    jobs: list[tuple[Callable[..., ImageSet], tuple[Any, ...]]] = [(_companions, (world, settings, True))]
    jobs += [(_companions, (world, settings, False))]
    jobs += [(_make, (world, name, sets[name])) for name in sorted(sets, key=lambda name: name != RELEASED)]
    names = ["companions", "regenerated", *sorted(sets, key=lambda name: name != RELEASED)]
    found = {}
    for place, one in _together(jobs):
        found[names[place]] = one
        cost = f"{one.seconds:.0f} core-seconds, {one.calls} denoiser calls" if one.tried else "regenerated"
        print(f"images: {names[place]}: {len(one)} kept of {one.tried or len(one)} ({cost})", flush=True)
    return {name: found[name] for name in ("companions", "regenerated", *sets)}


_makers: dict[str, Maker] = {}


def _maker(world: World) -> Maker:
    return _makers.setdefault("one", Maker(world))


def _make(world: World, name: str, settings: Settings) -> ImageSet:
    return _maker(world).make(name, settings)


def _companions(world: World, settings: Settings, of_sources: bool) -> ImageSet:
    maker = _maker(world)
    return maker.companions(settings) if of_sources else maker.regenerated(settings)


def sources_as_images(world: World, settings: Settings) -> Any:
    """The real sources, uint8 [N, 3, H, W]."""
    import torch

    from synood_ray.models.images import to_tensor
    from synood_ray.sampling.loader import SourceLoader

    loader = SourceLoader(settings)
    pictures = [loader.image(source) for source in world.sources]
    return (to_tensor(pictures, min(pictures[0].size)) * 255).round().to(torch.uint8)


# -- the trainings -----------------------------------------------------------------------------------------------------


def prepare(head: int, world: World, settings: Settings, made: dict[str, ImageSet]) -> tuple[Seen, dict[str, Tests]]:
    """What a head sees of everything."""
    import numpy as np
    import torch

    clip = open_head(settings, head)
    encoded = Encoded(clip, settings, world.images())
    real = {name: encoded(getattr(world, name)) for name in ("sources", "held_out", "oracle")}
    labels = torch.tensor([source.label for source in world.sources])
    seen = see(clip, settings, world.classes, real, labels, made)

    def tests(split: Split) -> Tests:
        known, near = (np.array([image.label for image in part]) for part in (split.known, split.near))
        return Tests(encoded(split.known), known, encoded(split.near), near, encoded(split.far))

    return seen, {name: tests(split) for name, split in world.splits.items()}


def train_all(prepared: Sequence[tuple[Seen, dict[str, Tests]]], settings: Settings, seeds: int) -> dict[Key, Figures]:
    """Means over heads and seeds; a process for each core."""
    jobs = [(_train, (seen, tests, settings, seed)) for seen, tests in prepared for seed in range(seeds)]
    total: dict[Key, Figures] = {}
    for done, (_, found) in enumerate(_together(jobs), 1):
        total = {key: total[key] + one for key, one in found.items()} if total else found
        print(f"trainings: {done} of {len(jobs)} heads and seeds", flush=True)
    return {key: one.over(len(jobs)) for key, one in total.items()}


def _train(seen: Seen, tests: dict[str, Tests], settings: Settings, seed: int) -> dict[Key, Figures]:
    return measure(seen, trainees(seen, settings, seed), tests, settings, seed)


def _together(jobs: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> Iterator[tuple[int, Any]]:
    """(position, result) of every job as it is done, by a process for each core that this one may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores, len(jobs)), mp_context=context, initializer=_one_thread) as pool:
        futures = {pool.submit(function, *arguments): i for i, (function, arguments) in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


# -- what comes of it --------------------------------------------------------------------------------------------------


def summarise(
    figures: dict[Key, Figures], made: dict[str, ImageSet], seen: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The figures as JSON's types; see `benchmark`."""
    methods: dict[str, Any] = {}
    for split, method, score in figures:
        key = split, method, score
        row = as_json(figures[key]) | {"gain": gain(figures, key)}
        best = max(MIXUPS, key=lambda name: figures[split, name, score].near["auroc"][0])
        row["over_mixup"] = gain(figures, key, best)["auroc"]
        of_oracle = gain(figures, (split, ORACLE, score))["auroc"]["value"]
        row["share_of_oracle"] = row["gain"]["auroc"]["value"] / of_oracle if of_oracle else float("nan")
        methods.setdefault(method, {}).setdefault(split, {})[score] = row
    images = {name: cost(one) | seen.get(name, {}) for name, one in made.items()}
    generated = [name for name in methods if name.split(",")[0] in OURS]
    chosen = max(generated, key=lambda name: methods[name]["validation"][PAPER]["gain"]["auroc"]["value"])
    return {"methods": methods, "images": images, "chosen": chosen, "real": seen["real sources"]}


def cost(one: ImageSet) -> dict[str, Any]:
    """What a kept image took; nothing of sets whose making was not measured."""
    if not one.tried:
        return {"kept": len(one)}
    kept = max(len(one), 1)
    return {
        "kept": len(one),
        "tried": one.tried,
        "denoiser_calls_per_image": one.calls / kept,
        "core_seconds_per_image": one.seconds / kept,
        "core_minutes": one.seconds / 60,
    }


def note_reading() -> int:
    """Write down that the test sets are read; returns how often they were, this time included."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=READS.parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    with READS.open("a", encoding="utf-8") as file:
        file.write(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M}\t{commit or 'no commit'}\n")
    return count_reads()


def count_reads() -> int:
    """How often the test sets were read so far."""
    return len(READS.read_text(encoding="utf-8").splitlines()) - 1


__all__ = ["benchmark", "show"]
