"""What does not belong into a test set: ID classes among OOD ones, and copies of the run's own images.

Both are left out, with a line that says how many: a detector would be praised or blamed for what it was shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from synood_ray.config.settings import Settings
from synood_ray.data.class_names import imagenet_names
from synood_ray.data.decode import UnusableImage, decode
from synood_ray.data.images import UNLABELLED, ClassInfo
from synood_ray.data.likeness import thumbnail
from synood_ray.data.names import names_in, some
from synood_ray.data.reader import ImageReader
from synood_ray.detection.kept import keep_features, read_features
from synood_ray.negatives.wordnet import comparable
from synood_ray.records import SourceImage
from synood_ray.storage import layout
from synood_ray.storage.run import Run

if TYPE_CHECKING:
    from synood_ray.data.images import ImageSource

_READERS = 8


def without_id_classes(
    source: ImageSource, images: Sequence[SourceImage], id_names: Iterable[str]
) -> tuple[list[SourceImage], str]:
    """The images of an OOD set that are of no ID class, and a line about the others ("" without any).

    A class is an ID class by its name or wnid, or by the first of the names inside its name.
    """
    known = {form for name in id_names for form in _forms(name)}
    shared = {label for label, info in enumerate(source.classes) if known & _forms(_name(info))}
    kept = [image for image in images if image.label == UNLABELLED or image.label not in shared]
    if len(kept) == len(images):
        return kept, ""
    names = some([_name(source.classes[label]) for label in sorted(shared)])
    return kept, f"{len(images) - len(kept)} images of the ID classes {names}"


def own_thumbnails(run: Run, settings: Settings) -> list[np.ndarray]:
    """Thumbnails (`synood_ray.data.likeness`) of the run's own images, sources and held-out ones, as far as they can
    be read. They stay in the run, as features do."""
    import torch

    manifests = [run.store.get(manifest) for manifest in (layout.ID_MANIFEST, layout.CALIBRATION_MANIFEST)]
    digest = hashlib.sha256(b"".join(manifests)).hexdigest()[:16]
    key = f"{layout.FEATURES}thumbnails-{digest}.safetensors"
    kept = read_features(run.store, key)
    if kept is not None:
        return list(kept["thumbnails"].numpy())
    reader = ImageReader(settings.data)

    def look(image: SourceImage) -> np.ndarray | None:
        try:
            return thumbnail(decode(reader.read(image), settings.data))
        except (UnusableImage, OSError):
            return None

    images = [*run.sources(), *run.held_out()]
    with ThreadPoolExecutor(_READERS) as pool:
        found = [one for one in pool.map(look, images) if one is not None]
    if len(found) == len(images) and found:
        keep_features(run.store, key, {"thumbnails": torch.from_numpy(np.stack(found))})
    return found


def _name(info: ClassInfo) -> str:
    return imagenet_names().get(info.key, info.name)


def _forms(name: str) -> set[str]:
    return {comparable(name), comparable(names_in(name)[0])}
