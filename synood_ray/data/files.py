"""Files by address, read only: a local path, ``mini://…`` (bundled) or ``s3://bucket/key``.

Local folders are walked with symbolic links followed (sets made of links are common). What is hidden is left out and
counted: names that start with a dot, as in every file browser, and what file servers and archives put beside files.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

from synood_ray.errors import UserError
from synood_ray.locations import MINI, resolve
from synood_ray.storage.stored_file import StoredFile
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store, check_key

S3 = "s3://"
HIDDEN = frozenset(
    (
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx"),
        *("system volume information", "lost+found", "thumbs.db", "desktop.ini"),
    )
)
"""Names, in lower case, of what Synology, QNAP, Windows, macOS and file systems put beside people's files."""
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
    """A folder at an address. On S3 it is listed once, at the first question.

    hidden: files that are left out because they or a folder of theirs is hidden, by the name that hides them; complete
    once `files` was asked for.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.hidden: Counter[str] = Counter()

    def files(self) -> list[tuple[str, int | None]]:
        """(key relative to the folder, size in bytes where the listing tells it) of all files below, sorted by key."""
        if self.address.startswith(S3):
            return self._objects
        self.hidden.clear()
        found = _walk(resolve(self.address), self.hidden)
        return sorted(((key, None) for key in found), key=lambda file: os.fsencode(file[0]))

    def sizes(self) -> dict[str, int]:
        """Bytes of all files below, by key; -1 for what is gone. None is opened."""
        return {
            key: _local_size(Path(resolve(join(self.address, key)))) if size is None else size
            for key, size in self.files()
        }

    def files_inside(self, folder: str = "") -> list[str]:
        """Keys of the files directly inside (or inside a direct sub-folder), sorted."""
        prefix = f"{folder}/" if folder else ""
        if self.address.startswith(S3):
            inside = [key for key, _ in self._objects if key.startswith(prefix) and "/" not in key[len(prefix) :]]
        else:
            inside = [prefix + entry.name for entry in _entries(join(self.address, folder)) if not _is_folder(entry)]
        return sorted(inside)

    def folders(self) -> list[str]:
        """Names of the folders directly inside, sorted."""
        if self.address.startswith(S3):
            return sorted({key.split("/")[0] for key, _ in self._objects if "/" in key and not wrong_key(key)})
        return sorted(entry.name for entry in _entries(self.address) if _is_folder(entry))

    @cached_property
    def _objects(self) -> list[tuple[str, int | None]]:
        bucket, prefix = _split(self.address)
        prefix = f"{prefix}/" if prefix else ""
        found: list[tuple[str, int | None]] = []
        for entry in _bucket(bucket).list(prefix):
            key = entry.key.removeprefix(prefix)
            hiding = next((part for part in key.split("/") if is_hidden(part)), None)
            if hiding is None:
                found.append((key, entry.size))
            else:
                self.hidden[hiding] += 1
        return found


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out."""
    return (name.startswith(".") and name.strip(".") != "") or name.casefold() in HIDDEN


def wrong_key(key: str) -> str:
    """Why an object of this key is no file that can be read, "" if it is: S3 takes keys that are no paths."""
    if any(part in ("", ".", "..") for part in key.split("/")):
        return "its key has an empty part, or . or .., between slashes"
    try:
        check_key(key)
    except ValueError:
        return "its key has control characters or a backslash, or is too long"
    return ""


def is_file(uri: str) -> bool:
    """Whether the address is a file (on S3: an object of exactly this key, with nothing below it)."""
    if not uri.startswith(S3):
        return Path(resolve(uri)).is_file()
    if is_folder(uri):  # asked first: a policy for a prefix allows to list in it, but not to look at its own name
        return False
    bucket, key = _split(uri)
    return bool(key) and _bucket(bucket).exists(key)


def is_folder(uri: str) -> bool:
    """Whether the address is a folder (on S3: whether there is anything below it)."""
    if not uri.startswith(S3):
        return Path(resolve(uri)).is_dir()
    bucket, key = _split(uri)
    _reach(uri)
    return next(_bucket(bucket).list(f"{key}/" if key else ""), None) is not None


def sizes(uri: str) -> dict[str, int]:
    """Bytes of every file below a folder, by key, or of a file, as ""; -1 for what is gone. None is opened."""
    if is_folder(uri):
        return Folder(uri).sizes()
    if not uri.startswith(S3):
        return {"": _local_size(Path(resolve(uri)))}
    bucket, key = _split(uri)
    return {"": next((entry.size for entry in _bucket(bucket).list(key) if entry.key == key), -1)}


def read_bytes(uri: str) -> bytes:
    """The whole file. Raises OSError if it cannot be read."""
    if not uri.startswith(S3):
        return check_regular(uri).read_bytes()
    bucket, key = _split(uri)
    try:
        return bytes(_bucket(bucket).get(key))
    except KeyError as error:
        raise FileNotFoundError(errno.ENOENT, "no such object", uri) from error


def open_file(uri: str, size: int | None = None) -> BinaryIO:
    """A seekable binary file. On S3 only the ranges that are read are fetched; ``size`` saves asking for it."""
    if not uri.startswith(S3):
        return check_regular(uri).open("rb")
    bucket, key = _split(uri)
    store = _bucket(bucket)
    if size is None:
        size = next((entry.size for entry in store.list(key) if entry.key == key), None)
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", uri)
    return io.BufferedReader(StoredFile(store, key, size), buffer_size=_RANGE)


def check_regular(uri: str) -> Path:
    """The path of a local file. Raises OSError if it is none: a pipe would keep its reader waiting for ever."""
    path = Path(resolve(uri))
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def _local_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(resolve(folder)) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _walk(root: str, hidden: Counter[str]) -> Iterator[str]:
    """Relative paths of all files below a local folder; a folder that links back to one above it is entered once."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_complain):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in filter(is_hidden, folders):
            hidden[name] += sum(len(inside) for _, _, inside in os.walk(Path(folder) / name))
        folders[:] = [name for name in folders if not is_hidden(name)]
        inside = os.path.relpath(folder, root)
        for name in files:
            if is_hidden(name):
                hidden[name] += 1
            else:
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
    """The whole bucket, of which nothing is asked yet: credentials may be for a part of it only."""
    from synood_ray.storage.stores.s3 import S3Store

    return S3Store(name)


@lru_cache(maxsize=64)
def _reach(uri: str) -> None:
    """Raise UserError within seconds if the store of an address cannot be reached or does not let us in."""
    open_store(uri)
