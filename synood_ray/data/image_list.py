"""Images named by a list, a line each: ``path label``, as the lists of OpenOOD and ILSVRC's val.txt have them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from synood_ray.config.settings import DataSettings
from synood_ray.data import files
from synood_ray.data.decode import UnusableImage
from synood_ray.data.folder import THREADS, measure
from synood_ray.data.images import UNLABELLED, ClassInfo, ImageSource, Progress, ScanResult, Skip, display_name
from synood_ray.errors import UserError
from synood_ray.records import SourceImage

_BATCH = 1024


class ImageListSource(ImageSource):
    """The images of a list whose paths are relative to a folder.

    classes: what the labels count, from 0. None, for OOD sets, whose labels in the list are all -1: an image's class is
    then the folder that it lies in, or `UNLABELLED` where all lie in one.
    Raises UserError, naming the line, for what is no such list, for a path that leads out of the folder, and for labels
    that the classes do not have.
    """

    def __init__(
        self, address: str, folder: str, data: DataSettings, classes: Sequence[ClassInfo] | None, setting: str
    ) -> None:
        self.uri, self._folder, self._data = address, folder, data
        self._lines = _read(address, setting, None if classes is None else len(classes))
        if classes is not None:
            self.classes = list(classes)
        else:
            places = [str(PurePosixPath(key).parent) for key, _ in self._lines]
            order = {place: label for label, place in enumerate(sorted(set(places)))}
            several = len(order) > 1
            names = [PurePosixPath(place).name for place in order]
            self.classes = [ClassInfo(name, display_name(name)) for name in names] if several else []
            self._lines = [
                (key, order[place] if several else UNLABELLED)
                for (key, _), place in zip(self._lines, places, strict=True)
            ]

    def scan(self, progress: Progress | None = None) -> ScanResult:
        images: list[SourceImage] = []
        skips: list[Skip] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(self._lines), _BATCH):
                for found in pool.map(self._look_at, self._lines[start : start + _BATCH]):
                    (images if isinstance(found, SourceImage) else skips).append(found)  # type: ignore[arg-type]
                if progress:
                    progress(len(images) + len(skips), len(self._lines))
        return ScanResult(sorted(images, key=lambda image: (image.label, image.key)), skips)

    def listing(self) -> dict[str, int]:
        above = os.path.commonpath([PurePosixPath(key).parent for key, _ in self._lines])
        found = files.sizes(files.join(self._folder, above))
        return {
            f"{key} {label}": found.get(str(PurePosixPath(key).relative_to(above)), -1) for key, label in self._lines
        }

    def read(self, image: SourceImage) -> bytes:
        return files.read_bytes(image.uri)

    def _look_at(self, line: tuple[str, int]) -> SourceImage | Skip:
        key, label = line
        address = files.join(self._folder, key)
        try:
            n_bytes, (width, height) = measure(address, None, self._data)
        except UnusableImage as error:
            return Skip(key, str(error))
        except OSError as error:
            return Skip(key, f"cannot be read: {error.strerror or error}")
        name = self.classes[label].name if label != UNLABELLED else ""
        return SourceImage(key, label, name, address, n_bytes, width, height)


def _read(address: str, setting: str, classes: int | None) -> list[tuple[str, int]]:
    """(path, label) of every line; labels below ``classes``, if there are such. A path may hold blanks; the label is
    behind the last one."""
    try:
        lines = files.read_bytes(address).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{setting}: cannot read {address}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, _, label = line.strip().rpartition(" ")
        key = key.strip()
        try:
            found.append((key, int(label)))
        except ValueError as error:
            raise UserError(f'{setting}: {address}: line {number}: not "path label": {line[:80]!r}') from error
        if not key or key.startswith("/") or ".." in PurePosixPath(key).parts:
            raise UserError(f"{setting}: {address}: line {number}: not a path below the data folder: {line[:80]!r}")
        if classes is not None and not 0 <= int(label) < classes:
            raise UserError(
                f"{setting}: {address}: line {number}: label {int(label)}, but the run has {classes} classes, "
                f"0 to {classes - 1}"
            )
    if not found:
        raise UserError(f"{setting}: {address} names no image")
    return found
