"""Stored JSON objects."""

from __future__ import annotations

import json
from typing import Any

from synood_ray.errors import UserError
from synood_ray.storage.stores.base import NotFound, Put, Store


def put_json(store: Store, key: str, value: Any) -> Put:
    """Create a JSON object; equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    return store.put_new(key, f"{text}\n".encode())


def load_json(store: Store, key: str) -> Any | None:
    """A JSON object, or None where there is none. UserError if it is not JSON."""
    try:
        return json.loads(store.get(key))
    except NotFound:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{store.uri}/{key}: not readable as JSON ({error}); was it edited?") from error
