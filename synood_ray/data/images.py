"""What an image source is: classes, images that can be used, and images that cannot, with the reason."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synood_ray.records import SourceImage

UNLABELLED = -1
"""Label of an image whose class is not known or does not matter (OOD test sets)."""

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One ID class. Its label is its place in the source's list.

    key: what the data call it (folder, wnid, ClassLabel name), unique; name: what people call it, may repeat.
    """

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Skip:
    """An image that cannot be used, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScanResult:
    """Every image of a source, sorted by class and key; sizes come from the headers, no pixel was decoded."""

    images: list[SourceImage]
    skips: list[Skip]


class ImageSource(ABC):
    """A set of images somewhere. ``uri`` is absolute (``mini://`` and ``s3://`` stay as they are).

    notes: lines about what is left out of it as a whole; complete after `scan`.
    """

    uri: str
    classes: list[ClassInfo]
    notes: Sequence[str] = ()

    @abstractmethod
    def scan(self, progress: Progress | None = None) -> ScanResult:
        """List all images with their sizes. Raises UserError if the source as a whole is wrong."""

    def census(self) -> list[int]:
        """Images of every class, by label; where listings or label columns tell, no image is opened, and some may turn
        out to be unusable."""
        counts = Counter(image.label for image in self.scan().images)
        return [counts[label] for label in range(len(self.classes))]

    @abstractmethod
    def listing(self) -> dict[str, int]:
        """Names and sizes of the files that it is made of, as `scan` finds them; no image is opened."""

    @abstractmethod
    def read(self, image: SourceImage) -> bytes:
        """The encoded bytes of one image. Raises OSError if it is gone."""


def display_name(key: str) -> str:
    """A class key as it goes into a prompt: line breaks and runs of blanks become one blank."""
    return " ".join(key.split()) or repr(key)
