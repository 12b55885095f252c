"""A store that counts what is asked of it, for metrics; `open_store` puts it around every other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synood_ray import used
from synood_ray.errors import Unavailable, UserError
from synood_ray.storage.stores.base import Entry, Put, Store


class CountedStore(Store):
    """Does what `inner` does, and adds operations, errors and bytes to `used`."""

    def __init__(self, inner: Store) -> None:
        self.inner, self.uri = inner, inner.uri

    def put_new(self, key: str, data: bytes) -> Put:
        with _counted("write"):
            put = self.inner.put_new(key, data)
        used.add("synood_store_bytes", "written", len(data))
        return put

    def get(self, key: str) -> bytes:
        with _counted("read"):
            data = self.inner.get(key)
        used.add("synood_store_bytes", "read", len(data))
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with _counted("read"):
            data = self.inner.get_range(key, start, length)
        used.add("synood_store_bytes", "read", len(data))
        return data

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with _counted("list"):
            yield from self.inner.list(prefix)

    def exists(self, key: str) -> bool:
        with _counted("look up"):
            return self.inner.exists(key)

    def delete(self, key: str) -> None:
        with _counted("delete"):
            self.inner.delete(key)

    def prune(self, prefix: str) -> None:
        self.inner.prune(prefix)

    def check_conditions(self) -> None:
        self.inner.check_conditions()

    def occupant(self) -> str | None:
        return self.inner.occupant()


@contextmanager
def _counted(operation: str) -> Iterator[None]:
    used.add("synood_store_operations", operation)
    try:
        yield
    except (Unavailable, UserError, OSError):  # as stores fail; `NotFound` is an answer, and anything else a defect
        used.add("synood_store_errors", operation)
        raise
