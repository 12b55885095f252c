"""One small interface over a local folder and S3, whose only way to write is *create-only*.

Nothing is ever overwritten and nothing half-written is ever seen. So a retry, a zombie process, a second copy of a
slow unit and two drivers on one output are harmless: the first commit of a key wins, and all others are told.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from synood_ray.errors import Unavailable

TEMPORARY = ".tmp"
"""First segment that no key may have: the local store keeps unfinished files there."""


class Put(enum.Enum):
    """What became of a `Store.put_new`."""

    CREATED = "created"  # the key was free and now holds the data
    SAME = "same"  # the key held identical bytes already, perhaps by our own write whose answer was lost
    DIFFERENT = "different"  # the key holds other bytes, which stay: somebody else committed first


class NotFound(KeyError):  # noqa: N818
    """There is no object under this key."""

    def __str__(self) -> str:
        return f"no object {self.args[0]!r}"


class StoreUnavailable(Unavailable):
    """The store did not answer within the time budget."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed object; size in bytes; modified: when it was written, seconds since 1970, where the store tells."""

    key: str
    size: int
    modified: float = field(default=0.0, compare=False)


class Store(ABC):
    """Objects under a root, named by relative keys such as ``parts/part-000007.parquet``.

    Keys are case-sensitive, and none may be the folder of another (``a`` beside ``a/b``). Several threads may use a
    store; to other processes send its `uri`.
    """

    uri: str

    @abstractmethod
    def put_new(self, key: str, data: bytes) -> Put:
        """Create the object, durably and all at once, unless the key is taken."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFound."""

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes [start, start + length), cut at its end. Raises NotFound; ValueError if start is past the end."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key starts with prefix (any string, not only a folder), read page by page.

        Within a folder they come in order of their UTF-8 bytes; servers differ in how they order folders among files.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the key holds an object."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; a missing one is fine. Only for what can be derived again (see `publish`)."""

    def prune(self, prefix: str) -> None:  # noqa: B027 - nothing to do where there are no folders
        """Remove what is left of a prefix below which nothing lies any more: an empty folder, where there are folders.

        Not while anybody may write below it.
        """

    def keep(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The object under a key; if there is none, what make returns is stored first.

        Several processes may do this at once: what was stored first is what all of them return.
        """
        try:
            return self.get(key)
        except NotFound:
            self.put_new(key, make())
            return self.get(key)

    def check_conditions(self) -> None:
        """Raise UserError if it does not honour the condition of a write, or does not let us write; leaves nothing.

        A local folder is asked when it is opened.
        """
        return

    def occupant(self) -> str | None:
        """The name of something that is there, an object or anything else; None if the place is empty.

        The unfinished files of a start of ours that died do not count.
        """
        found = next(iter(self.list()), None)
        return found.key if found else None


def check_key(key: str) -> str:
    """Return the key if every store can hold it as it is; ValueError otherwise (a defect of ours, not the user's)."""
    segments = key.split("/")
    if any(s in ("", ".", "..") for s in segments) or re.search(r"[\x00-\x1f\x7f\\]", key) or segments[0] == TEMPORARY:
        raise ValueError(f"not a valid key: {key!r}")
    encoded = key.encode()  # UnicodeEncodeError, a ValueError, for lone surrogates
    if len(encoded) > 1000 or any(len(s.encode()) > 255 for s in segments):
        raise ValueError(f"key is too long: {key!r}")
    return key
