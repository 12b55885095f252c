"""The test sets of an evaluation: opened before any model loads, then encoded once for all methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synood_ray.config import DataSettings, Settings
from synood_ray.data import files
from synood_ray.data.class_names import BY_KEY, imagenet_names
from synood_ray.data.image_list import ImageListSource
from synood_ray.data.images import UNLABELLED, ClassInfo, display_name
from synood_ray.data.likeness import copies, thumbnail
from synood_ray.data.source import open_source
from synood_ray.detection.contamination import own_thumbnails, without_id_classes
from synood_ray.detection.protocols import PROTOCOLS, Place
from synood_ray.detection.run_images import Encoded, RunImages
from synood_ray.errors import UserError
from synood_ray.storage.record import RunRecord

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TestSet:
    """Un-normalised CLIP features [N, D] of a test set's images and their classes (None: not known); skipped images.

    notes: what was left out, a line each.
    """

    __test__ = False  # not a test, whatever its name

    features: Tensor
    classes: np.ndarray | None
    skipped: int = 0
    notes: tuple[str, ...] = ()


def open_sets(settings: Settings, record: RunRecord) -> dict[str, Any]:
    """Every test set as an open source: ``id`` (if one is set), ``near/…``, ``far/…`` and, of ID images, ``shifted/…``.

    They are those of ``evaluation.protocol``, if there is one. Raises UserError for one that is not there.
    """
    wanted = settings.evaluation
    if wanted.protocol is not None:
        return _of_protocol(wanted.protocol, settings, record)
    sources: dict[str, Any] = {}
    if wanted.id_test is not None:
        sources["id"] = _open_id(wanted.id_test, settings, record, "evaluation.id_test")
    for group, sets in (("near", wanted.near), ("far", wanted.far)):
        for name, uri in sets.items():
            sources[f"{group}/{name}"] = _open_ood(uri, settings, f"evaluation.{group}.{name}")
    return sources


def _open_id(uri: str, settings: Settings, record: RunRecord, setting: str) -> Any:
    """Test images of the run's classes, matched by the keys that these have in data.uri."""
    classes: list[ClassInfo] = open_source(settings.data.uri, settings.data).classes
    as_before = [display_name(info.key) for info in classes]  # how a run of an earlier version has them
    if record.classes not in ([info.name for info in classes], as_before):
        raise UserError(f"data.uri has other classes than the run; {setting} cannot be matched with them")
    return open_source(uri, _of_tests(settings), classes=classes, setting=setting)


def _of_protocol(name: str, settings: Settings, record: RunRecord) -> dict[str, Any]:
    """The sets of a public protocol, from its folders below ``evaluation.root``."""
    root, protocol = settings.evaluation.root, PROTOCOLS[name]
    if not root:
        raise UserError(f"evaluation.root: name the folder that holds the sets of {name}: {protocol.about}")
    root = files.absolute(root)
    known = list(imagenet_names().values())
    if sorted(record.classes) == sorted(known) and record.classes != known:
        raise UserError(f"the run has ImageNet's classes in another order than the lists of {name} count them")

    def opened(place: Place, known: bool, setting: str) -> Any:
        folder = files.join(root, place.folder)
        if place.list is not None:
            classes = [ClassInfo(name, name) for name in record.classes] if known else None
            return ImageListSource(files.join(root, place.list), folder, _of_tests(settings), classes, setting)
        return _open_id(folder, settings, record, setting) if known else _open_ood(folder, settings, setting)

    groups = {"near": protocol.near, "far": protocol.far, "shifted": protocol.shifted}
    wanted = {"id": protocol.id} | {
        f"{group}/{one}": places for group, its in groups.items() for one, places in its.items()
    }
    sources = {}
    for where, places in wanted.items():
        there = next((place for place in places if _is_there(root, place)), None)
        if there is None and where.startswith("shifted/"):
            continue
        if there is None:
            looked = ", ".join(place.list or place.folder for place in places)
            raise UserError(f"evaluation.root: {root} lacks the set {where} of {name}; looked for {looked}")
        known_classes = where == "id" or where.startswith("shifted/")
        sources[where] = opened(there, known_classes, f"evaluation.protocol {name}, {where}")
    return sources


def _is_there(root: str, place: Place) -> bool:
    listed = place.list is None or files.is_file(files.join(root, place.list))
    return listed and files.is_folder(files.join(root, place.folder))


def _open_ood(uri: str, settings: Settings, setting: str) -> Any:
    """An OOD set with its classes, which the intervals are drawn over; or without, and its notes say why."""
    data = _of_tests(settings).model_copy(update={"class_names": BY_KEY})  # other classes than the names are for
    try:
        return open_source(uri, data, setting=setting)
    except UserError as error:
        why = f"no classes are known: {str(error).removeprefix(f'{setting}: ')}; intervals are over images"
        return open_source(uri, data, labelled=False, setting=setting, notes=[why])


def _of_tests(settings: Settings) -> DataSettings:
    """How test sets are read: as the ID images, but for their own choice of rows."""
    return settings.data.model_copy(update={"where": settings.evaluation.where})


def encode_sets(own: RunImages, sources: Mapping[str, Any]) -> tuple[TestSet, dict[str, TestSet]]:
    """The features of `open_sets`: the ID test (the calibration images if none is set), and the others by name."""
    thumbnails = own_thumbnails(own.run, own.settings) if sources else []
    sets = {name: _encode(own, name, source, thumbnails) for name, source in sources.items()}
    id_set = sets.pop("id", None)
    return id_set or _of_calibration(own.calibration), sets


def _encode(own: RunImages, name: str, source: Any, own_thumbnails: list[np.ndarray]) -> TestSet:
    """own_thumbnails: of the run's images, which are no test images.

    A protocol's sets stay whole, so that its figures can be compared: what does not belong into them is only told.
    """
    from synood_ray.detection.features import encode_sources

    settings, say, scan = own.settings, own.say, source.scan()
    whole = settings.evaluation.protocol is not None
    fate = "stay, as the protocol has them" if whole else "are left out"
    images, notes = scan.images, [f"{name}: {note}" for note in source.notes]
    if name.startswith(("near/", "far/")):
        foreign, note = without_id_classes(source, images, own.run.classes)
        notes += [f"{name}: {note} {fate}"] if note else []
        images = images if whole else foreign
    say(f"{name}: encoding {len(images)} images")
    thumbnails: list[np.ndarray] = []
    features, kept, _ = encode_sources(
        own.clip, settings.data, images, seen=lambda picture: thumbnails.append(thumbnail(picture))
    )
    copied = copies(thumbnails, own_thumbnails)
    if copied:
        notes.append(f"{name}: {len(copied)} images that are copies of the run's own {fate}")
        keep = [place for place in range(len(kept)) if whole or place not in copied]
        features, kept = features[keep], [kept[place] for place in keep]
    for note in notes:
        say(f"warning: {note}")
    if not kept:
        why = f" ({'; '.join(notes)})" if notes else ""
        raise UserError(f"evaluation set {name}: {source.uri} holds no usable image{why}")
    labels = np.array([image.label for image in kept])
    classes = None if (labels == UNLABELLED).any() else labels
    return TestSet(features, classes, len(scan.images) - len(kept) + len(scan.skips), tuple(notes))


def _of_calibration(images: Encoded) -> TestSet:
    if not len(images.labels):
        raise UserError("evaluation.id_test is not set and the run's calibration images are gone; name a test set")
    return TestSet(images.features, images.labels, images.skipped)
