"""CLIP features that stay in the run: whatever needs them again reads them, and no image is encoded twice.

A file's name depends on all that its features depend on, so what is there is right; like all of a run it is created
once. It can be removed at any time: it is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.stores.base import NotFound, Store

if TYPE_CHECKING:
    from torch import Tensor

Features = dict[str, "Tensor"]


class IdentifiedClip(Protocol):
    """The part of `synood_ray.models.clip.ClipModel` that says which model it is."""

    @property
    def identity(self) -> str: ...


def images_key(store: Store, clip: IdentifiedClip) -> str:
    """Where the features of a run's own images are: ``id`` [N, D] and ``calibration`` [H, D], un-normalised."""
    manifests = (layout.ID_MANIFEST, layout.CALIBRATION_MANIFEST)
    return _key("images", clip, [hashlib.sha256(store.get(manifest)).hexdigest() for manifest in manifests])


def samples_key(manifest_digest: str, clip: IdentifiedClip) -> str:
    """Where the features of the samples of that manifest are, un-normalised and in the order of the rows.

    ``ood`` [K, D]: of accepted images; ``companions`` [J, D], and ``companion_sources`` [J] int64: the row of the ID
    manifest that each is made from.
    """
    return _key("samples", clip, [manifest_digest, "with companion_sources"])  # earlier versions kept labels instead


def kept_text(store: Store, clip: IdentifiedClip, what: str, made_of: object, encode: Callable[[], Tensor]) -> Tensor:
    """What `encode` gives of texts, on the CPU: encoded once, then read. made_of: the texts, as JSON has them."""
    key = _key(f"texts-{what}", clip, [hashlib.sha256(json.dumps(made_of).encode()).hexdigest()])
    found = read_features(store, key)
    if found is None:
        found = {what: encode().float().cpu()}
        keep_features(store, key, found)
    return found[what]


def read_features(store: Store, key: str) -> Features | None:
    """The features under a key, None if they are not there. UserError if the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(store.get(key))
    except NotFound:
        return None
    except SafetensorError as error:
        raise UserError(f"{store.uri}/{key}: damaged ({error}); remove it, it is made again") from error


def keep_features(store: Store, key: str, features: Features) -> None:
    """Store them, unless somebody has."""
    from safetensors.torch import save

    store.put_new(key, save({name: values.contiguous() for name, values in features.items()}))


def _key(kind: str, clip: IdentifiedClip, digests: list[str]) -> str:
    made_of = [clip.identity, *digests]
    return f"{layout.FEATURES}{kind}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]}.safetensors"
