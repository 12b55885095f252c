"""What the teaching benchmark works on: the miniature world's images, and the two halves of its near classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from synood_ray.config.settings import Settings
from synood_ray.mini.world import load_world
from synood_ray.models.describers.base import Context
from synood_ray.records import SourceImage

FOLDER = "mini://data/"


@dataclass(frozen=True)
class Split:
    """Images that detectors are measured on: ID, near-OOD of half B, far-OOD."""

    known: list[SourceImage]
    near: list[SourceImage]
    far: list[SourceImage]

    def images(self) -> Iterator[SourceImage]:
        for part in (self.known, self.near, self.far):
            yield from part


@dataclass(frozen=True)
class World:
    """classes: the ID names by label; sources: the ID images, with their contexts by key; taken: rows of those that
    images are made from; held_out: those that boundary and thresholds are set on; oracle: real near-OOD images of half
    A; splits: ``validation``, and ``test`` if it is read."""

    classes: list[str]
    sources: list[SourceImage]
    contexts: dict[str, Context]
    taken: list[int]
    held_out: list[SourceImage]
    oracle: list[SourceImage]
    splits: dict[str, Split]

    def made_from(self) -> list[SourceImage]:
        """The sources that images are made from."""
        return [self.sources[i] for i in self.taken]

    def images(self) -> Iterator[SourceImage]:
        for part in (self.sources, self.held_out, self.oracle):
            yield from part
        for split in self.splits.values():
            yield from split.images()


def halves() -> tuple[frozenset[str], frozenset[str]]:
    """Names of the near classes, halved: A, which methods may learn from, and B, which every figure is read on.

    A is what a permutation by torch's generator with seed 0 puts on the lower half of the positions, in the order of
    the world's list of near names: the halves of the world's own oracle check (`tools.mini_world.check_clip`).
    """
    import torch

    names = load_world().near
    first = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)) < len(names) // 2
    return (
        frozenset(name for name, own in zip(names, first.tolist(), strict=True) if own),
        frozenset(name for name, own in zip(names, first.tolist(), strict=True) if not own),
    )


def open_world(settings: Settings, samples: int | None, test: bool) -> World:
    """The world as the settings select its sources. Raises UserError if ``data.uri`` has no contexts beside its images.

    samples: how many sources images are made from, spread over all; None: all of them. test: whether the test split is
    read. Validation measures on the images that thresholds are set on.
    """
    from synood_ray.data.selection import select
    from synood_ray.data.source import open_source

    selection = select(open_source(settings.data.uri, settings.data), settings.data)

    def read(name: str, labelled_as_id: bool = False) -> list[SourceImage]:
        classes = selection.classes if labelled_as_id else None
        return open_source(f"{FOLDER}{name}.parquet", settings.data, classes=classes).scan().images

    half_a, half_b = halves()
    near_val = read("near_val")
    splits = {"validation": Split(read("id_val", True), _of(near_val, half_b), read("far_val"))}
    if test:
        splits["test"] = Split(read("id_test", True), _of(read("near_test"), half_b), read("far_test"))
    sources = list(selection.sources)
    count = min(samples or len(sources), len(sources))
    return World(
        [info.name for info in selection.classes],
        sources,
        contexts(settings, sources),
        [i * len(sources) // count for i in range(count)],
        list(selection.calibration),
        _of(near_val, half_a),
        splits,
    )


def _of(images: list[SourceImage], names: frozenset[str]) -> list[SourceImage]:
    return [image for image in images if image.name in names]


def contexts(settings: Settings, sources: list[SourceImage]) -> dict[str, Context]:
    """What every source shows beside its subject, by its key, as it is written beside the image."""
    import pyarrow.parquet as pq

    from synood_ray.locations import resolve

    words = pq.read_table(resolve(settings.data.uri), columns=["context"])["context"].to_pylist()
    texts = {source.key: ", ".join(words[int(source.key.rpartition("#")[2])]) for source in sources}
    return {key: Context(text, text) for key, text in texts.items()}
