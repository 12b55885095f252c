"""The public test protocols: which sets they have, and where these lie below the folder ``evaluation.root``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """A folder below the root, of class folders or of images; with a list, of the images that it names below it."""

    folder: str
    list: str | None = None


@dataclass(frozen=True)
class Protocol:
    """about: one line for help and report. id, near, far: where each set may lie, the first place that is there counts.
    shifted: ID images of another kind than those of the run (covariate shift); left out where they are not there."""

    about: str
    id: tuple[Place, ...]
    near: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    far: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    shifted: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)


def _listed(name: str, folder: str = "images_largescale") -> tuple[Place, ...]:
    """A set of OpenOOD's ImageNet-1k benchmark."""
    return (Place(folder, f"benchmark_imglist/imagenet/test_{name}.txt"),)


OPENOOD = "openood-v1.5"

PROTOCOLS: dict[str, Protocol] = {
    OPENOOD: Protocol(
        "ImageNet-1k of OpenOOD v1.5 (Zhang et al., 2023), in its folders benchmark_imglist, images_largescale and "
        "images_classic",
        id=_listed("imagenet"),
        near={name: _listed(name) for name in ("ssb_hard", "ninco")},
        far={
            "inaturalist": _listed("inaturalist"),
            "textures": _listed("textures", "images_classic"),
            "openimage_o": _listed("openimage_o"),
        },
        shifted={name: _listed(name) for name in ("imagenet_v2", "imagenet_r")},
    ),
    "four-sets": Protocol(
        "iNaturalist, SUN, Places and Textures beside ImageNet's validation images (Huang & Li, CVPR 2021), as MCM and "
        "NegLabel lay them out; SUN and Places hold ID images (26 % and 60 % by NINCO's count)",
        id=(
            *(Place(f"{name}/val", f"{name}/val.txt") for name in ("imagenet", "ImageNet", "ILSVRC2012")),
            *(Place(f"{name}/val") for name in ("imagenet", "ImageNet", "ILSVRC2012")),
        ),
        far={
            "inaturalist": (Place("iNaturalist/images"), Place("iNaturalist"), Place("inaturalist")),
            "sun": (Place("SUN/images"), Place("SUN"), Place("sun")),
            "places": (Place("Places/images"), Place("Places"), Place("Places365"), Place("places")),
            "textures": (Place("dtd/images"), Place("Textures"), Place("texture"), Place("textures")),
        },
    ),
}
"""The names of ``evaluation.protocol``."""
