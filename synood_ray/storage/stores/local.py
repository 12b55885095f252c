"""The store in a local (or network-mounted) folder.

A write goes to a temporary file, is flushed to the disk and then *linked* to its name, which fails if the name is
taken: exclusive and atomic at once. The writer holds a lock on its temporary file. A file without a lock was left by
a process that died, and whoever opens the run next removes it.

Nothing is written or removed through a link below the root, and what is neither a regular file nor a folder (FIFO,
socket, device) is no object.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.stores.base import TEMPORARY, Entry, NotFound, Put, Store, check_key

_COMPLAINTS = {
    errno.EACCES: "is not readable and writable; choose another folder or fix its permissions",
    errno.EPERM: "is on a file system without hard links, which create-only writes need; use another folder or s3://",
    errno.EOPNOTSUPP: "is on a file system without hard links, which create-only writes need; use another folder or s3://",
    errno.EXDEV: "spans several file systems; keep a run in one",
    errno.EROFS: "is on a read-only file system; choose another folder",
    errno.ENOSPC: "is on a full disk; free some space and run the same command again",
    errno.EDQUOT: "is over its disk quota; free some space and run the same command again",
    errno.ENOTDIR: "has a file where a folder is needed",
    errno.EEXIST: "has a file where a folder is needed",
    errno.EISDIR: "has a folder where a file is needed",
    errno.ENOENT: "was removed while it was written to",
}

_NO_OBJECT = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
_OURS = re.compile(r"[0-9a-f]{32}")
"""Names of our temporary files."""


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
            if store._holds_run():
                store._sweep()
        return store

    def put_new(self, key: str, data: bytes) -> Put:
        target = self._own(key)
        try:
            while True:
                if os.path.lexists(target):  # saves the write; the link below is what decides
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
        with self._open(key) as file:
            return file.read()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with self._open(key) as file:
            if start < 0 or (start > 0 and start >= os.fstat(file.fileno()).st_size):
                raise ValueError(f"range starts at {start}, outside {key!r}")
            file.seek(start)
            return file.read(length)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        # Only the folder that the prefix lies in is read, not its siblings.
        folder = prefix.rpartition("/")[0]
        yield from self._walk(self.root / folder, f"{folder}/" if folder else "", prefix)

    def exists(self, key: str) -> bool:
        return (self.root / check_key(key)).is_file()

    def delete(self, key: str) -> None:
        try:
            self._own(key).unlink(missing_ok=True)  # of a link, the link itself
        except NotADirectoryError:
            return
        except OSError as error:
            self._complain(error)

    def prune(self, prefix: str) -> None:
        with contextlib.suppress(OSError):  # not empty, or not there
            (self.root / check_key(prefix.rstrip("/"))).rmdir()

    def occupant(self) -> str | None:
        try:
            with os.scandir(self.root) as found:
                for entry in found:
                    if entry.name != TEMPORARY or not self._only_ours(entry):
                        return entry.name
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
        return None

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[BinaryIO]:
        """The object's file, to read. Raises NotFound."""
        path = self.root / check_key(key)
        try:
            # A FIFO would wait for its writer.
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise NotFound(key)
                yield file
        except OSError as error:
            if error.errno in _NO_OBJECT:
                raise NotFound(key) from None
            self._complain(error)

    def _own(self, key: str) -> Path:
        """Where an object lies, to write or to remove it. UserError if the way there leads through a link."""
        target = self.root / check_key(key)
        for folder in (self.root / TEMPORARY, *target.parents[: key.count("/")]):
            if folder.is_symlink():
                raise UserError(f"{folder}: a link, through which nothing is written or removed; put a folder there")
        return target

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
        found = target.lstat()
        if stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a folder has the name of an object", str(target))
        if not stat.S_ISREG(found.st_mode) or found.st_size != len(data):
            return Put.DIFFERENT
        return Put.SAME if target.read_bytes() == data else Put.DIFFERENT

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)  # a new folder's name must survive a power cut, like a file's

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[Entry]:
        try:
            with os.scandir(folder) as found:
                # Links to folders are not followed: one could lead back here.
                entries = [(e.name + "/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in found]
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
                with contextlib.suppress(FileNotFoundError if not entry.is_symlink() else OSError):  # deleted since
                    found_there = (self.root / key).stat() if entry.is_symlink() else entry.stat()
                    if stat.S_ISREG(found_there.st_mode):
                        yield Entry(key, found_there.st_size, found_there.st_mtime)

    def _check_writable(self) -> None:
        existing = self.root
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise UserError(f"{self.root}: {existing} is a file, not a folder; choose another output")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{self.root}: {existing} {_COMPLAINTS[errno.EACCES]}")

    def _holds_run(self) -> bool:
        """Whether the folder is a run's: its temporary files are ours to remove."""
        try:
            found = json.loads(self.get(layout.RUN))
        except (NotFound, ValueError, RecursionError):
            return False
        return isinstance(found, dict) and "fingerprint" in found

    def _sweep(self) -> None:
        """Remove the unfinished files of processes that died: regular files with our kind of name, nothing else."""
        with contextlib.suppress(OSError):  # no such folder, a link, or none of ours to read
            folder = os.open(self.root / TEMPORARY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                for entry in os.scandir(folder):
                    # An error: it is locked or gone, so its writer lives; or it is someone else's to remove.
                    with contextlib.suppress(OSError):
                        if _OURS.fullmatch(entry.name):
                            _remove_unlocked(entry.name, folder)
            finally:
                os.close(folder)

    @staticmethod
    def _only_ours(entry: os.DirEntry[str]) -> bool:
        """Whether this is the folder of temporary files and holds nothing else, as a start that died leaves it."""
        if not entry.is_dir(follow_symlinks=False):
            return False
        with os.scandir(entry) as found:
            return all(_OURS.fullmatch(e.name) and e.is_file(follow_symlinks=False) for e in found)

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


def _remove_unlocked(name: str, folder: int) -> None:
    """Unlink a regular file of a folder, given by its descriptor. OSError if somebody holds a lock on it."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(file)
