"""Images in folders: ``class name/image.jpg``, nested as deep as one likes below the class."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from synood_ray.config.settings import DataSettings
from synood_ray.data import files
from synood_ray.data.class_names import name_classes
from synood_ray.data.decode import UnusableImage, read_header
from synood_ray.data.images import UNLABELLED, ClassInfo, ImageSource, Progress, ScanResult, Skip
from synood_ray.data.names import some
from synood_ray.errors import UserError
from synood_ray.locations import resolve
from synood_ray.records import SourceImage

THREADS = min(16, 2 * (os.cpu_count() or 4))
_BATCH = 128  # files a thread takes at once


class FolderSource(ImageSource):
    """A folder of class folders; not ``labelled``: any folder of images. See `synood_ray.data.source.open_source`."""

    def __init__(
        self,
        folder: files.Folder,
        data: DataSettings,
        classes: Sequence[ClassInfo] | None,
        labelled: bool,
        setting: str,
        notes: Sequence[str] = (),
    ) -> None:
        self.uri = folder.address
        self.notes = self._notes = notes
        self._folder = folder
        self._data = data
        self._labels: dict[str, int] | None = None
        self.classes = []
        if labelled:
            keys = [name for name in folder.folders() if _is_text(name)]
            if not keys:
                raise UserError(f"{setting}: {self.uri} has no class folders; images must lie in <class name>/<image>")
            self.classes = (
                list(classes) if classes is not None else name_classes(keys, data.class_names, self.uri, setting)
            )
            self._labels = {known.key: label for label, known in enumerate(self.classes)}
            unknown = [key for key in keys if key not in self._labels]
            if unknown:
                raise UserError(f"{setting}: {self.uri} has class folders that data.uri lacks: {some(unknown)}")

    def scan(self, progress: Progress | None = None) -> ScanResult:
        found = self._folder.files()
        batches = [found[at : at + _BATCH] for at in range(0, len(found), _BATCH)]
        images: list[SourceImage] = []
        skips: list[Skip] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for batch in pool.map(self._look_at_all, batches):
                images += (item for item in batch if isinstance(item, SourceImage))
                skips += (item for item in batch if isinstance(item, Skip))
                if progress:
                    progress(len(images) + len(skips), len(found))
        hidden = self._folder.hidden
        if hidden:
            shown = ", ".join(f"{name} {count}" for name, count in hidden.most_common(3))
            self.notes = [*self._notes, f"{hidden.total()} hidden files are left out ({shown})"]
        return ScanResult(sorted(images, key=lambda image: (image.label, image.key)), skips)

    def census(self) -> list[int]:
        labels = self._labels or {}
        counts = Counter(key.partition("/")[0] for key, _ in self._folder.files() if "/" in key)
        return [counts[key] for key in labels]

    def listing(self) -> dict[str, int]:
        return self._folder.sizes()

    def read(self, image: SourceImage) -> bytes:
        return files.read_bytes(image.uri)

    def _look_at_all(self, found: Sequence[tuple[str, int | None]]) -> list[SourceImage | Skip]:
        return [self._look_at(key, size) for key, size in found]

    def _look_at(self, key: str, size: int | None) -> SourceImage | Skip:
        if not _is_text(key):
            return Skip(ascii(key), "the file's name is not valid UTF-8")
        if self.uri.startswith(files.S3) and (wrong := files.wrong_key(key)):
            return Skip(key, wrong)
        label, name = UNLABELLED, ""
        if self._labels is not None:
            folder, slash, _ = key.partition("/")
            if not slash:
                return Skip(key, "not in a class folder")
            label = self._labels.get(folder, UNLABELLED)
            if label == UNLABELLED:
                return Skip(key, "its class folder appeared during the scan")
            name = self.classes[label].name
        address = files.join(self.uri, key)
        try:
            n_bytes, (width, height) = measure(address, size, self._data)
        except UnusableImage as error:
            return Skip(key, str(error))
        except OSError as error:
            return Skip(key, f"cannot be read: {error.strerror or error}")
        return SourceImage(key, label, name, address, n_bytes, width, height)


def measure(address: str, size: int | None, data: DataSettings) -> tuple[int, tuple[int, int]]:
    """Bytes of an image file, and (width, height) in pixels, by its header.

    Raises UnusableImage if it is none, OSError if it cannot be read.
    """
    if not address.startswith(files.S3) and not stat.S_ISREG(Path(resolve(address)).stat().st_mode):
        raise UnusableImage("not a regular file")  # opening a pipe would wait for ever
    with files.open_file(address, size) as file:
        pixels = read_header(file, data)
        return file.seek(0, os.SEEK_END), pixels


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
