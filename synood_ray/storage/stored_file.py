"""A stored object that reads like a file."""

from __future__ import annotations

import errno
import io
from typing import Any

from synood_ray.storage.stores.base import Store


class StoredFile(io.RawIOBase):
    """An object as a seekable file: every read is one ranged get, so that a reader fetches only what it needs."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._store, self._key, self._size, self._at = store, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        try:
            data = self._store.get_range(self._key, self._at, wanted)
        except KeyError as error:
            raise FileNotFoundError(errno.ENOENT, "no such object", self._key) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
