"""Published shards, as the manifest names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Store


def absent_shards(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Keys of shards that the manifest names and that are gone. Raises UserError if one has another size.

    One listing; nothing is opened.
    """
    found = {entry.key: entry.size for entry in store.list(layout.DATA)}
    for shard in manifest["shards"]:
        if found.get(shard["path"], shard["bytes"]) != shard["bytes"]:
            raise _changed(store, shard, f"it has {found[shard['path']]} bytes, not {shard['bytes']}")
    return [shard["path"] for shard in manifest["shards"] if shard["path"] not in found]


def _changed(store: Store, shard: Mapping[str, Any], why: str) -> UserError:
    return UserError(
        f"{store.uri}/{shard['path']}: not what {layout.MANIFEST} says, {why}; remove it and run the command that made "
        "the run again: it is made anew from the parts"
    )
