"""Published shards, as the manifest names them: nothing is read that is not what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.stored_json import load_json
from synood_ray.storage.stores.base import NotFound, Store

_SHARD = {"path": str, "bytes": int, "sha256": str, "rows": int}


def read_manifest(store: Store) -> dict[str, Any] | None:
    """The manifest of a published run, or None. UserError if it is none of ours."""
    manifest = load_json(store, layout.MANIFEST)
    if manifest is None or _is_manifest(manifest):
        return manifest
    raise UserError(
        f"{store.uri}/{layout.MANIFEST}: not a manifest of this version of synood_ray; if this is a run, move that "
        "file elsewhere and run the command that made the run again"
    )


def manifest_digest(store: Store, prefix: str = "") -> str | None:
    """Hex sha256 of the manifest (of a run below prefix): which samples are published. None if none are.

    What is derived from a run's samples keeps it, and so can tell when a retry has changed them.
    """
    try:
        return hashlib.sha256(store.get(prefix + layout.MANIFEST)).hexdigest()
    except NotFound:
        return None


def read_shard(store: Store, shard: Mapping[str, Any]) -> bytes:
    """A shard, given by its entry in the manifest. UserError if it is gone or has other bytes than were published."""
    try:
        data = store.get(shard["path"])
    except NotFound:
        raise changed_shard(store, shard, "it is gone") from None
    if len(data) != shard["bytes"]:
        raise changed_shard(store, shard, f"it has {len(data)} bytes, not {shard['bytes']}")
    if hashlib.sha256(data).hexdigest() != shard["sha256"]:
        raise changed_shard(store, shard, "its SHA-256 differs")
    return data


def absent_shards(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Keys of shards that the manifest names and that are gone. Raises UserError if one has another size.

    One listing; nothing is opened.
    """
    found = {entry.key: entry.size for entry in store.list(layout.DATA)}
    for shard in manifest["shards"]:
        if found.get(shard["path"], shard["bytes"]) != shard["bytes"]:
            raise changed_shard(store, shard, f"it has {found[shard['path']]} bytes, not {shard['bytes']}")
    return [shard["path"] for shard in manifest["shards"] if shard["path"] not in found]


def check_shards(store: Store, manifest: Mapping[str, Any]) -> None:
    """Raise UserError if a shard is gone or has another size, before anything that takes long begins."""
    gone = set(absent_shards(store, manifest))
    for shard in manifest["shards"]:
        if shard["path"] in gone:
            raise changed_shard(store, shard, "it is gone")


def changed_shard(store: Store, shard: Mapping[str, Any], why: str) -> UserError:
    """What to tell a user whose shard is not the one that was published, and why that is known."""
    return UserError(
        f"{store.uri}/{shard['path']}: not what {layout.MANIFEST} says, {why}; move it elsewhere and run the command "
        "that made the run again: the shard is made anew from the parts"
    )


def _is_manifest(found: Any) -> bool:
    shards = found.get("shards") if isinstance(found, dict) and found.get("format") == 1 else None
    return isinstance(shards, list) and all(
        isinstance(shard, dict) and all(isinstance(shard.get(name), kind) for name, kind in _SHARD.items())
        for shard in shards
    )
