"""The store in a local (or network-mounted) folder.

A write goes to a temporary file, is flushed to the disk and then *linked* to its name, which fails if the name is
taken: exclusive and atomic at once. The writer holds a lock on its temporary file. A file without a lock was left by
a process that died, and whoever opens the store next removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from synood_ray.errors import UserError
from synood_ray.storage.stores.base import TEMPORARY, Entry, NotFound, Put, Store, check_key

_COMPLAINTS = {
    errno.EACCES: "is not readable and writable; choose another folder or mend its permissions",
    errno.EPERM: "is on a file system without hard links, which create-only writes need; use another folder or s3://",
    errno.EOPNOTSUPP: "is on a file system without hard links, which create-only writes need; use another folder or s3://",
    errno.EXDEV: "spans several file systems; keep a run in one",
    errno.EROFS: "is on a read-only file system; choose another folder",
    errno.ENOSPC: "is on a full disk; free some space and run the same command again",
    errno.EDQUOT: "is over its disk quota; free some space and run the same command again",
    errno.ENOTDIR: "has a file where a folder is needed",
    errno.EEXIST: "has a file where a folder is needed",
    errno.ENOENT: "was removed while it was written to",
}


class LocalStore(Store):
    """See `Store`. Needs a file system with hard links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    @classmethod
    def open(cls, path: str, *, write: bool) -> LocalStore:
        root = Path(path).expanduser().absolute()
        store = cls(root)
        if not write and not (root.is_dir() and any(store.list())):
            raise UserError(f"{root}: nothing here; name the folder of an existing run")
        if write:
            store._check_writable()
            store._sweep()
        return store

    def put_new(self, key: str, data: bytes) -> Put:
        target = self.root / check_key(key)
        try:
            while True:
                if target.exists():  # saves the write; the link below is what decides
                    return self._compare(target, data)
                self._make_folder(target.parent)
                try:
                    return self._write_and_link(target, data)
                except FileNotFoundError:  # the temporary file was swept in the instant before it was locked: again
                    if not self.root.is_dir():
                        raise  # no: somebody removed the whole run
        except OSError as error:
            self._complain(error)

    def get(self, key: str) -> bytes:
        try:
            return (self.root / check_key(key)).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound(key) from None
        except OSError as error:
            self._complain(error)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        try:
            with (self.root / check_key(key)).open("rb") as file:
                if start < 0 or (start > 0 and start >= os.fstat(file.fileno()).st_size):
                    raise ValueError(f"range starts at {start}, outside {key!r}")
                file.seek(start)
                return file.read(length)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound(key) from None
        except OSError as error:
            self._complain(error)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        # Only the folder that the prefix lies in is read, not its siblings.
        folder = prefix.rpartition("/")[0]
        yield from self._walk(self.root / folder, f"{folder}/" if folder else "", prefix)

    def exists(self, key: str) -> bool:
        return (self.root / check_key(key)).is_file()

    def delete(self, key: str) -> None:
        try:
            (self.root / check_key(key)).unlink(missing_ok=True)
        except OSError as error:
            self._complain(error)

    def _write_and_link(self, target: Path, data: bytes) -> Put:
        temporaries = self.root / TEMPORARY
        self._make_folder(temporaries)
        temporary = temporaries / uuid.uuid4().hex
        with temporary.open("xb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    return self._compare(target, data)
                _sync_folder(target.parent)
                return Put.CREATED
            finally:
                temporary.unlink(missing_ok=True)

    @staticmethod
    def _compare(target: Path, data: bytes) -> Put:
        if target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a folder has the name of an object", str(target))
        same = target.stat().st_size == len(data) and target.read_bytes() == data
        return Put.SAME if same else Put.DIFFERENT

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)  # a new folder's name must survive a power cut, like a file's

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[Entry]:
        try:
            with os.scandir(folder) as found:
                entries = [(e.name + "/" if e.is_dir() else e.name, e) for e in found]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._complain(error)
        # Folders sort with their slash, so that keys come out in the same order as from S3.
        for name, entry in sorted(entries, key=lambda pair: os.fsencode(pair[0])):
            key = base + name
            if key == f"{TEMPORARY}/" or not (key.startswith(prefix) or prefix.startswith(key)):
                continue
            if name.endswith("/"):
                yield from self._walk(folder / entry.name, key, prefix)
            elif key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):  # deleted since
                    yield Entry(key, entry.stat().st_size)

    def _check_writable(self) -> None:
        existing = self.root
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise UserError(f"{self.root}: {existing} is a file, not a folder; choose another output")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{self.root}: {existing} {_COMPLAINTS[errno.EACCES]}")

    def _sweep(self) -> None:
        """Remove the unfinished files of processes that died."""
        with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(self.root / TEMPORARY) as found:
            for leftover in map(Path, found):
                # Locked or gone: its writer lives. No permission: it is someone else's to remove.
                with (
                    contextlib.suppress(BlockingIOError, FileNotFoundError, PermissionError),
                    leftover.open("rb") as file,
                ):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    leftover.unlink()

    def _complain(self, error: OSError) -> NoReturn:
        complaint = _COMPLAINTS.get(error.errno or 0)
        if complaint is None:
            raise error
        raise UserError(f"{self.root}: {complaint} ({error.strerror}: {error.filename or self.root})") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
