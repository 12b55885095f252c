"""What is particular to the store in a folder: crashes in the middle of a write, and folders that cannot be used."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synood_ray.errors import UserError
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import NotFound, Put, Store
from synood_ray.storage.stores.local import LocalStore

# Writes half of an object, says so, and waits to be killed; the fsync of the real code is where it stops.
_DIES_WHILE_WRITING = """
import os, sys, time
from synood_ray.storage.stores import open_store
def stop(fd):
    print("writing", flush=True)
    time.sleep(600)
os.fsync = stop
os.makedirs(sys.argv[1] + "/.tmp", exist_ok=True)
os.makedirs(sys.argv[1] + "/parts", exist_ok=True)
open(sys.argv[1] + "/run.json", "w").write('{"fingerprint": ""}')
open_store(sys.argv[1]).put_new("parts/x", b"half-written")
"""


def _leftovers(root: Path) -> list[Path]:
    return list((root / ".tmp").iterdir())


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _DIES_WHILE_WRITING, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == b"writing\n"
        store = open_store(str(tmp_path))  # opened beside a living writer: its file stays
        assert len(_leftovers(tmp_path)) == 1
        assert list(store.list("parts/")) == []
        assert not store.exists("parts/x")
    finally:
        process.kill()
        process.communicate()
    assert list(store.list("parts/")) == []
    reopened = open_store(str(tmp_path))
    assert _leftovers(tmp_path) == []
    assert reopened.put_new("parts/x", b"whole") is Put.CREATED


def test_a_temporary_file_swept_too_early_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, flock = open_store(str(tmp_path)), fcntl.flock
    swept: list[Path] = []

    def sweep_first(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not swept:
            swept.extend(_leftovers(tmp_path))
            swept[0].unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    assert store.put_new("x", b"1") is Put.CREATED
    assert len(swept) == 1
    assert store.get("x") == b"1"


def test_nothing_is_left_beside_the_objects(folder: Store) -> None:
    folder.put_new("a/x", b"1")
    folder.put_new("a/x", b"2")
    root = Path(folder.uri)
    assert _leftovers(root) == []
    assert sorted(p.name for p in root.iterdir()) == [".tmp", "a"]


NAME = "0123456789abcdef" * 2


def _snapshot(root: Path) -> list[tuple[str, int, bytes]]:
    """Everything below a folder: name, kind and contents."""
    return sorted(
        (str(p.relative_to(root)), p.lstat().st_mode, p.read_bytes() if p.is_file() else b"") for p in root.rglob("*")
    )


@pytest.mark.parametrize("run", [None, b"{}", b"not JSON", b"[]"])
def test_a_folder_that_is_no_run_of_ours_stays_as_it_is(tmp_path: Path, run: bytes | None) -> None:
    (tmp_path / ".tmp").mkdir()
    for name in ("notes.txt", NAME):
        (tmp_path / ".tmp" / name).write_bytes(b"precious")
    if run is not None:
        (tmp_path / "run.json").write_bytes(run)
    before = _snapshot(tmp_path)
    open_store(str(tmp_path))
    assert _snapshot(tmp_path) == before


def _run_folder(path: Path) -> Path:
    path.mkdir()
    (path / "run.json").write_text('{"format": 1, "fingerprint": ""}')
    return path


def test_only_our_own_leftovers_are_swept(tmp_path: Path) -> None:
    """A folder, a FIFO, a link to a precious file and a file of another name beside one leftover of ours."""
    root, precious = _run_folder(tmp_path / "run"), tmp_path / "precious"
    precious.write_bytes(b"precious")
    temporaries = root / ".tmp"
    temporaries.mkdir()
    (temporaries / "notes.txt").write_bytes(b"x")
    (temporaries / NAME).write_bytes(b"half-written")
    (temporaries / f"{NAME[:-1]}0").symlink_to(precious)
    (temporaries / f"{NAME[:-1]}1").mkdir()
    os.mkfifo(temporaries / f"{NAME[:-1]}2")
    open_store(str(root))
    names = ["notes.txt", f"{NAME[:-1]}0", f"{NAME[:-1]}1", f"{NAME[:-1]}2"]
    assert sorted(p.name for p in temporaries.iterdir()) == sorted(names)
    assert precious.read_bytes() == b"precious"


def test_temporary_files_are_not_looked_for_behind_a_link(tmp_path: Path) -> None:
    root, elsewhere = _run_folder(tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / NAME).write_bytes(b"precious")
    (root / ".tmp").symlink_to(elsewhere)
    store = open_store(str(root))
    with pytest.raises(UserError, match=r"\.tmp: a link"):
        store.put_new("x", b"1")
    assert [p.name for p in elsewhere.iterdir()] == [NAME]


def test_nothing_is_written_or_removed_through_links(folder: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x").write_bytes(b"precious")
    root = Path(folder.uri)
    folder.put_new("y", b"1")
    (root / "data").symlink_to(elsewhere)
    (root / "z").symlink_to(elsewhere / "x")
    for change in (lambda: folder.put_new("data/new", b"1"), lambda: folder.delete("data/x")):
        with pytest.raises(UserError, match="data: a link"):
            change()
    assert folder.put_new("z", b"precious") is Put.DIFFERENT  # taken by a link, whatever it leads to
    folder.delete("z")
    assert [(p.name, p.read_bytes()) for p in elsewhere.iterdir()] == [("x", b"precious")]
    assert sorted(p.name for p in root.iterdir()) == [".tmp", "data", "y"]


def test_what_is_no_regular_file_is_no_object(folder: Store) -> None:
    root = Path(folder.uri)
    folder.put_new("x", b"1")
    os.mkfifo(root / "fifo")
    (root / "loop").symlink_to(root / "loop")
    (root / "nowhere").symlink_to(root / "missing")
    (root / "self").symlink_to(root)
    assert [entry.key for entry in folder.list()] == ["x"]
    for key in ("fifo", "loop", "nowhere", "self"):
        assert not folder.exists(key)
        with pytest.raises(NotFound):
            folder.get(key)
    for key in ("fifo", "loop", "nowhere"):
        assert folder.put_new(key, b"1") is Put.DIFFERENT  # and does not wait


def test_opening_writes_nothing(tmp_path: Path) -> None:
    open_store(str(tmp_path / "a" / "b"))
    assert list(tmp_path.iterdir()) == []


def test_relative_and_home_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("x").uri == open_store("~/x").uri == open_store(f"file://{tmp_path}/x").uri == str(tmp_path / "x")


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        with pytest.raises(UserError, match="is a file"):
            open_store(str(tmp_path / path))


def test_a_key_cannot_be_the_folder_of_another(folder: Store) -> None:
    folder.put_new("a/b", b"1")
    folder.put_new("c", b"1")
    for key in ("a", "c/d"):
        with pytest.raises(UserError, match="a file where a folder is needed"):
            folder.put_new(key, b"2")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="not readable and writable"):
        open_store(str(tmp_path / "run"))


def test_a_file_that_may_not_be_read(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    folder.put_new("x", b"1")
    monkeypatch.setattr(os, "open", refuse)
    for read in (lambda: folder.get("x"), lambda: folder.get_range("x", 0, 1)):
        with pytest.raises(UserError, match="not readable"):
            read()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "not readable and writable"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "full disk"),
        (errno.EDQUOT, "quota"),
        (errno.EPERM, "hard links"),
    ],
)
def test_what_the_system_refuses_is_told(
    folder: Store, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UserError, match=words):
        folder.put_new("a/x", b"1")
    assert list(folder.list()) == []
    assert _leftovers(Path(folder.uri)) == []


def test_an_error_that_is_not_the_users_stays_what_it_is(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="Input/output"):
        folder.put_new("a/x", b"1")


def test_access_is_checked_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="not readable and writable"):
        LocalStore.open(str(tmp_path / "run"), write=True)
