"""Files by address, read only: a local path, ``mini://…`` (bundled) or ``s3://bucket/key``.

Local folders are walked with symbolic links followed (sets made of links are common); names that start with a dot
are left out, as every file browser does.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

from synood_ray.errors import UserError
from synood_ray.locations import MINI, resolve
from synood_ray.storage.stored_file import StoredFile
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store

S3 = "s3://"
_RANGE = 65536  # bytes a small read fetches at least: most image headers fit


def absolute(uri: str) -> str:
    """The same place, named so that another process finds it: relative local paths become absolute."""
    if uri.startswith((S3, MINI)):
        return uri.rstrip("/")
    if "://" in uri:
        raise UserError(f"{uri}: only local paths, {S3} and {MINI} can be read")
    return str(Path(uri).expanduser().absolute())


def join(folder: str, key: str) -> str:
    """Address of the file ``key`` (relative, with slashes) in a folder."""
    return f"{folder}/{key}" if key else folder


class Folder:
    """A folder at an address. On S3 it is listed once, at the first question."""

    def __init__(self, address: str) -> None:
        self.address = address

    def files(self) -> list[tuple[str, int | None]]:
        """(key relative to the folder, size in bytes where the listing tells it) of all files below, sorted by key."""
        if self.address.startswith(S3):
            return self._objects
        return sorted(((key, None) for key in _walk(resolve(self.address))), key=lambda found: os.fsencode(found[0]))

    def files_inside(self, folder: str = "") -> list[str]:
        """Keys of the files directly inside (or inside a direct sub-folder), sorted."""
        prefix = f"{folder}/" if folder else ""
        if self.address.startswith(S3):
            inside = [key for key, _ in self._objects if key.startswith(prefix) and "/" not in key[len(prefix) :]]
        else:
            inside = [prefix + entry.name for entry in _entries(join(self.address, folder)) if not entry.is_dir()]
        return sorted(inside)

    def folders(self) -> list[str]:
        """Names of the folders directly inside, sorted."""
        if self.address.startswith(S3):
            return sorted({key.split("/")[0] for key, _ in self._objects if "/" in key})
        return sorted(entry.name for entry in _entries(self.address) if entry.is_dir())

    @cached_property
    def _objects(self) -> list[tuple[str, int | None]]:
        bucket, prefix = _split(self.address)
        prefix = f"{prefix}/" if prefix else ""
        listed = [(entry.key.removeprefix(prefix), entry.size) for entry in _bucket(bucket).list(prefix)]
        return [(key, size) for key, size in listed if all(part and part[0] != "." for part in key.split("/"))]


def is_file(uri: str) -> bool:
    """Whether the address is a file (on S3: an object of exactly this key)."""
    if not uri.startswith(S3):
        return Path(resolve(uri)).is_file()
    bucket, key = _split(uri)
    return bool(key) and _bucket(bucket).exists(key)


def is_folder(uri: str) -> bool:
    """Whether the address is a folder (on S3: whether there is anything below it)."""
    if not uri.startswith(S3):
        return Path(resolve(uri)).is_dir()
    bucket, key = _split(uri)
    return next(_bucket(bucket).list(f"{key}/" if key else ""), None) is not None


def read_bytes(uri: str) -> bytes:
    """The whole file. Raises OSError if it cannot be read."""
    if not uri.startswith(S3):
        return Path(resolve(uri)).read_bytes()
    bucket, key = _split(uri)
    try:
        return bytes(_bucket(bucket).get(key))
    except KeyError as error:
        raise FileNotFoundError(errno.ENOENT, "no such object", uri) from error


def open_file(uri: str, size: int | None = None) -> BinaryIO:
    """A seekable binary file. On S3 only the ranges that are read are fetched; ``size`` saves asking for it."""
    if not uri.startswith(S3):
        return Path(resolve(uri)).open("rb")
    bucket, key = _split(uri)
    store = _bucket(bucket)
    if size is None:
        size = next((entry.size for entry in store.list(key) if entry.key == key), None)
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", uri)
    return io.BufferedReader(StoredFile(store, key, size), buffer_size=_RANGE)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(resolve(folder)) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _walk(root: str) -> Iterator[str]:
    """Relative paths of all files below a local folder; a folder that links back to one above it is entered once."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_complain):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(folder, root)
        for name in files:
            if not name.startswith("."):
                yield name if inside == "." else f"{inside}/{name}"


def _complain(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not bucket:
        raise UserError(f"{uri}: names no bucket (s3://bucket/key)")
    return bucket, key.strip("/")


@lru_cache(maxsize=16)
def _bucket(name: str) -> Store:
    return open_store(f"{S3}{name}", write=False)
