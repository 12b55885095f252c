"""The pictures of the report's gallery: thumbnails inside the page, or larger ones in a folder beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage
from synood_ray.errors import UserError
from synood_ray.models.images import from_png, to_square
from synood_ray.records import SourceImage
from synood_ray.report.rows import Samples
from synood_ray.sampling.loader import SourceLoader
from synood_ray.storage.stores.base import Put, Store

SIZES: tuple[tuple[int, bool], ...] = ((192, True), (128, True), (96, True), (96, False), (64, False))
"""Side of thumbnails in pixels, and whether companions are among them: the first with which all samples fit."""

FOLDER_SIDE = 384
"""Side in pixels of the pictures in the folder; smaller images stay as they are."""

FOLDER = "images/"
"""Name of the folder, beside the page."""

_GROUPS = 32
"""Row groups (of about 100 samples) that thumbnails are taken from, however large the run."""

_PROBED_GROUPS = 4
"""Row groups that are read first, all of their samples, to find out how large thumbnails may be."""
_PROBE = 24
"""Samples among them whose thumbnails are made in each size that is tried."""
_QUALITY = 82
_MASK_SIDE = 32
_WRITERS = 8
_NOTHING = (128, 128, 128)


@dataclass
class Pictures:
    """Base64 of WebP files: results and companions by the sample's key, sources by theirs.

    masks: of sources, what is repainted, as rectangles [x, y, width, height] in percent of the picture.
    gone: sources that are not where they were.
    """

    results: dict[str, str] = field(default_factory=dict)
    companions: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    masks: dict[str, list[list[float]]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(len(text) for texts in (self.results, self.companions, self.sources) for text in texts.values())


class Squares(NamedTuple):
    """What there is of a sample, as decoded, at the largest size of thumbnails."""

    position: int
    result: Image.Image | None
    companion: Image.Image | None


class Gallery:
    """Pictures of a run's samples, as they are asked for. sources: the run's ID images, which may be gone by now."""

    def __init__(self, samples: Samples, sources: Iterable[SourceImage], settings: Settings) -> None:
        self.samples = samples
        self._sources = {source.key: source for source in sources}
        self._loader = SourceLoader(settings)
        self._keys = samples.table.column("key").to_pylist()
        self._source_keys = samples.table.column("source_key").to_pylist()

    def embedded(self, positions: np.ndarray, budget: int) -> Pictures:
        """Thumbnails of these samples, as large and as many as fit into so many bytes of base64.

        No picture is read or decoded twice: those that tell what fits are kept, and go into the page as well.
        """
        order = self.samples.mixed()
        order = order[np.isin(order, positions) & ~self.samples.column("failed")[order]]
        order = self.samples.near_each_other(order, _GROUPS)
        early = self.samples.near_each_other(order, _PROBED_GROUPS)
        kept = {one.position: one for one in self._squares(early)}
        sources = {key: self._source_square(key) for key in {self._source_keys[position] for position in early}}
        probe = [kept[position] for position in early[:_PROBE].tolist()]
        for side, companions in SIZES:
            tried = self._thumbnails(probe, sources, side, companions)
            fit = int(budget / max(1, tried.size) * len(tried.results))
            if fit >= len(order):
                break
        chosen = order[:fit]
        here = [kept[position] for position in chosen.tolist() if position in kept]
        rest = self._squares(chosen[~np.isin(chosen, early)])
        found = self._thumbnails(chain(here, rest), sources, side, companions)
        for position in chosen[::-1].tolist():
            if found.size <= budget:
                break
            found.results.pop(self._keys[position], None)
            found.companions.pop(self._keys[position], None)
        return found

    def _squares(self, positions: np.ndarray) -> Iterator[Squares]:
        for position, image, companion in self.samples.pictures(positions):
            result, other = (None if png is None else _square(from_png(png), SIZES[0][0]) for png in (image, companion))
            yield Squares(position, result, other)

    def _source_square(self, key: str) -> Image.Image | None:
        source = self._source(key)
        return None if source is None else _square(source, SIZES[0][0])

    def _thumbnails(
        self, squares: Iterable[Squares], sources: Mapping[str, Image.Image | None], side: int, companions: bool
    ) -> Pictures:
        """sources: those that are decoded already."""
        found = Pictures()
        for position, result, companion in squares:
            if result is not None:
                found.results[self._keys[position]] = _base64(_webp(_square(result, side)))
            if companion is not None and companions:
                found.companions[self._keys[position]] = _base64(_webp(_square(companion, side)))
            key = self._source_keys[position]
            if key in found.sources or key in found.gone:
                continue
            source = sources[key] if key in sources else self._source_square(key)
            if source is None:
                found.gone.add(key)
            else:
                found.sources[key] = _base64(_webp(_square(source, side)))
                found.masks[key] = self._mask(key)
        return found

    def write_folder(self, store: Store) -> Pictures:
        """A picture of every sample in `FOLDER`: source, companion and result side by side, in place of older ones.

        Returns what goes into the page: the masks.
        """

        def write(sample: tuple[int, bytes | None, bytes | None]) -> str:
            position, image, companion = sample
            source = self._source(self._source_keys[position])
            panels = [source, *(None if png is None else from_png(png) for png in (companion, image))]
            name, data = picture_name(self._keys[position]), _webp(_strip(panels))
            while store.put_new(name, data) is Put.DIFFERENT:
                store.delete(name)
            return name

        written: set[str] = set()
        with ThreadPoolExecutor(_WRITERS) as writers:
            samples = self.samples.pictures(np.flatnonzero(~self.samples.column("failed")))
            while some := list(islice(samples, 100)):  # so that no more are held
                written.update(writers.map(write, some))
        for name in [entry.key for entry in store.list(FOLDER) if entry.key not in written]:
            store.delete(name)
        return Pictures(masks={key: self._mask(key) for key in dict.fromkeys(self._source_keys)})

    def _source(self, key: str) -> Image.Image | None:
        try:
            return self._loader.image(self._sources[key])
        except (OSError, UnusableImage, KeyError):
            return None  # the images may have moved since; the report is no reason to fail

    def _mask(self, key: str) -> list[list[float]]:
        """Rows of the mask that are alike are one rectangle: a box is one, any other shape a few dozen."""
        try:
            mask = self._loader.mask(self._sources[key], _MASK_SIDE)[0].numpy() >= 0.5
        except (OSError, UnusableImage, UserError, KeyError):
            return []
        found: list[list[int]] = []
        for y, row in enumerate(mask):
            edges = np.flatnonzero(np.diff(row.astype(int), prepend=0, append=0))
            for x0, x1 in edges.reshape(-1, 2).tolist():
                above = next(
                    (one for one in found if one[0] == x0 and one[2] == x1 - x0 and one[1] + one[3] == y), None
                )
                if above:
                    above[3] += 1
                else:
                    found.append([x0, y, x1 - x0, 1])
        return [[round(100 * value / _MASK_SIDE, 1) for value in rectangle] for rectangle in found]


def picture_name(key: str) -> str:
    """Where a sample's picture lies beside the page; a folder holds a thousand."""
    return f"{FOLDER}{key[:-3]}/{key}.webp"


def _strip(panels: Sequence[Image.Image | None]) -> Image.Image:
    """Square pictures side by side, grey where there is none."""
    side = min(FOLDER_SIDE, *(min(panel.size) for panel in panels if panel is not None))
    strip = Image.new("RGB", (side * len(panels), side), _NOTHING)
    for place, panel in enumerate(panels):
        if panel is not None:
            strip.paste(_square(panel, side), (place * side, 0))
    return strip


def _square(image: Image.Image, side: int) -> Image.Image:
    """The centre square, made smaller if it is larger than side."""
    return to_square(image.convert("RGB"), min(side, *image.size))


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
