"""Which ID images are synthesized from: per class those with the most information; and a share to calibrate on.

Information is measured as in SynOOD (arXiv 2507.10225), by the size of the encoded file per pixel.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import UnusableImage, decode
from synood_ray.data.folder import THREADS
from synood_ray.data.images import ClassInfo, ImageSource, Progress, Skip
from synood_ray.data.likeness import copies, is_blank, thumbnail
from synood_ray.data.names import coinciding, some
from synood_ray.data.source import open_source
from synood_ray.errors import UserError
from synood_ray.records import SourceImage

_COPY = "the same picture as "
_SHOWN = 10  # classes named in a line

if TYPE_CHECKING:
    import numpy as np

StageProgress = Callable[[str, int, int], None]
"""Called with (what is being done, done, in all)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The ID images of a run. Everything named here was decoded in full once.

    sources: class by class in label order, the most informative image first, at most data.per_class a class.
    calibration: the images that the boundary is calibrated on; no image is in both. counts: usable images a class.
    notes: what was left out as a whole, a line each.
    """

    sources: list[SourceImage]
    calibration: list[SourceImage]
    skips: list[Skip]
    classes: list[ClassInfo]
    counts: list[int]
    notes: list[str] = field(default_factory=list)

    def about_classes(self) -> list[str]:
        """Lines that show what was taken for classes: names with counts, and names that are the same text."""
        shown = [f"{known.name} {count}" for known, count in zip(self.classes, self.counts, strict=True)]
        if len(shown) > _SHOWN:
            ends = f"{min(self.counts)} to {max(self.counts)} images each"
            shown = [*shown[:_SHOWN], f"… {len(self.classes)} classes, {ends}"]
        lines = [f"classes (images): {', '.join(shown)}"]
        for group in coinciding(known.name for known in self.classes)[:_SHOWN]:
            keys = some([self.classes[place].key for place in group])
            lines.append(
                f"warning: {len(group)} classes have the name {self.classes[group[0]].name!r} ({keys}): nothing that "
                "goes by text tells them apart; data.class_names can give them other names"
            )
        return lines


def select(source: ImageSource, data: DataSettings, progress: StageProgress | None = None) -> Selection:
    """Scan a labelled source and pick its images; the same data and settings give the same selection.

    A picked image that cannot be decoded becomes a skip and the next best takes its place.
    Raises UserError naming a class that is left without an image.
    """
    scan = source.scan(_stage(progress, "scan"))
    skips = list(scan.skips)
    by_class: list[list[SourceImage]] = [[] for _ in source.classes]
    for image in scan.images:
        by_class[image.label].append(image)
    _require(source, [bool(images) for images in by_class], skips)
    counts = [len(images) for images in by_class]

    look = _Look(source, data)
    calibration: list[SourceImage] = []
    if data.calibration is None:
        shares = [held_out_of(len(images), data) for images in by_class]
        drawn = [sorted(images, key=_draw) for images in by_class]
        held_out, bad = look.take(drawn, shares, _stage(progress, "hold out"))
        skips += bad
        calibration = [image for images in held_out for image in images]
        gone = {image.key for image in calibration} | {skip.key for skip in bad}
        by_class = [[image for image in images if image.key not in gone] for images in by_class]

    ranked = [sorted(images, key=_rank) for images in by_class]
    wanted = [data.per_class] * len(ranked)
    chosen, bad = look.take(ranked, wanted, _stage(progress, "select"), unlike=calibration)
    skips += bad
    _require(source, [bool(images) for images in chosen], skips, held_out=bool(calibration))
    sources = [image for images in chosen for image in images]

    if data.calibration is not None:
        other = open_source(data.calibration, data, classes=source.classes, setting="data.calibration")
        scan = other.scan(_stage(progress, "scan"))
        shared = {_place(image) for image in sources} & {_place(image) for image in scan.images}
        if shared:
            raise UserError(
                f"data.calibration: {data.calibration} shares {len(shared)} selected images with data.uri; "
                "give other images, or null to hold out a share"
            )
        found = look.of(other).take([scan.images], [len(scan.images)], _stage(progress, "calibration images"), sources)
        (calibration,), bad = found
        skips += [*scan.skips, *bad]
        if not calibration:
            raise UserError(f"data.calibration: {other.uri} holds no usable image{_first([*scan.skips, *bad])}")
    notes = [f"{source.uri}: {note}" for note in source.notes]
    copied = sum(skip.reason.startswith(_COPY) for skip in skips)
    if copied:
        notes.append(f"{copied} images are left out: copies of those that are used otherwise, selected or held out")
    return Selection(sources, calibration, skips, list(source.classes), counts, notes)


def held_out_of(images: int, data: DataSettings) -> int:
    """How many of a class with so many images are held out for the boundary; 0 where others are given for that."""
    return 0 if data.calibration is not None else min(data.per_class, max(1, round(data.holdout * images)))


def bytes_per_pixel(image: SourceImage) -> float:
    """Encoded size over area: how much there is to see in an image."""
    return image.n_bytes / (image.width * image.height)


def _rank(image: SourceImage) -> tuple[float, str]:
    return -bytes_per_pixel(image), image.key


def _draw(image: SourceImage) -> bytes:
    """Order of the held-out draw: by a hash of the key, so it depends on nothing else."""
    return hashlib.sha256(image.key.encode()).digest()


def _place(image: SourceImage) -> tuple[str, str]:
    return image.uri, image.key.rpartition("#")[2] if image.uri.endswith(".parquet") else ""


class _Look:
    """Looks at images in full, and remembers what those that it took look like, by their keys."""

    def __init__(self, source: ImageSource, data: DataSettings, seen: dict[str, np.ndarray] | None = None) -> None:
        self.source, self.data = source, data
        self.seen: dict[str, np.ndarray] = {} if seen is None else seen

    def of(self, source: ImageSource) -> _Look:
        """Looks at another source, and remembers what this one has seen."""
        return _Look(source, self.data, dict(self.seen))

    def take(
        self,
        ranked: Sequence[Iterable[SourceImage]],
        wanted: Sequence[int],
        progress: Progress | None,
        unlike: Sequence[SourceImage] = (),
    ) -> tuple[list[list[SourceImage]], list[Skip]]:
        """From each list the first ``wanted`` images that decode, in order, and those on the way that do not.

        unlike: images taken before, of which a copy is not taken. Works in rounds over all lists at once, each in the
        order in which the images are stored: a row group is read once.
        """
        queues = [iter(images) for images in ranked]
        taken: list[list[SourceImage]] = [[] for _ in queues]
        skips: list[Skip] = []
        others = [self.seen[image.key] for image in unlike]
        total, done = 0, 0
        with ThreadPoolExecutor(THREADS) as pool:
            while True:
                batch = [
                    (at, rank, image)
                    for at, queue in enumerate(queues)
                    for rank, image in enumerate(islice(queue, wanted[at] - len(taken[at])))
                ]
                if not batch:
                    return taken, skips
                total += len(batch)
                batch.sort(key=lambda item: _storage_order(item[2]))
                looks: list[str | np.ndarray] = []
                for look in pool.map(lambda item: self._at(item[2]), batch):
                    looks.append(look)
                    done += 1
                    if progress:
                        progress(done, total)
                for place, other in _copies(looks, others).items():
                    looks[place] = f"{_COPY}{unlike[other].key!r}"
                good: dict[int, list[tuple[int, SourceImage]]] = defaultdict(list)
                for (at, rank, image), look in zip(batch, looks, strict=True):
                    if isinstance(look, str):
                        skips.append(Skip(image.key, look))
                    else:
                        self.seen[image.key] = look
                        good[at].append((rank, image))
                for at, found in good.items():
                    taken[at] += [image for _, image in sorted(found, key=lambda pair: pair[0])]

    def _at(self, image: SourceImage) -> str | np.ndarray:
        """What an image looks like; if it cannot be used, why."""
        try:
            look = thumbnail(decode(self.source.read(image), self.data))
        except UnusableImage as error:
            return str(error)
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return "shows one colour and nothing else (what is transparent is laid on white)" if is_blank(look) else look


def _copies(looks: Sequence[str | np.ndarray], others: Sequence[np.ndarray]) -> dict[int, int]:
    """Place of each that shows what one of the others does -> the other's place."""
    places = [place for place, look in enumerate(looks) if not isinstance(look, str)]
    found = copies([look for look in looks if not isinstance(look, str)], others)
    return {places[at]: other for at, other in found.items()}


def _storage_order(image: SourceImage) -> tuple[str, int]:
    return image.uri, int(image.key.rpartition("#")[2]) if image.uri.endswith(".parquet") else 0


def _require(source: ImageSource, present: Sequence[bool], skips: Sequence[Skip], held_out: bool = False) -> None:
    empty = [source.classes[label].key for label, there in enumerate(present) if not there]
    if not empty:
        return
    rest = " beyond the held-out one" if held_out else ""
    cure = "add images, or name calibration images with data.calibration" if held_out else "add images or remove it"
    raise UserError(f"data.uri: {source.uri} has no usable image{rest} of class {some(empty)}; {cure}{_first(skips)}")


def _first(skips: Sequence[Skip]) -> str:
    if not skips:
        return ""
    return f" ({len(skips)} images were skipped, the first is {skips[0].key!r}: {skips[0].reason})"


def _stage(progress: StageProgress | None, what: str) -> Progress | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
