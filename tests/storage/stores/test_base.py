"""The contract that every store keeps: one suite over a folder, a mock S3 server and a real one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from synood_ray.errors import UserError
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Entry, NotFound, Put, Store
from synood_ray.storage.stores.s3 import S3Store

ODD_KEYS = ["a b/c+d", "a/ü/日本.json", "a/50%.txt", "a/%2e%2e", "a/#?&=;:@!$'()*,~", 'a/"<>|', "a/.hidden", "a/ x "]
BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/./b", "a\0b", "a\nb", "a\\b", ".tmp/a", "a/" + "x" * 256, "\udc80"]


def test_first_write_wins_and_stays(store: Store) -> None:
    assert store.put_new("a/x", b"one") is Put.CREATED
    assert store.put_new("a/x", b"one") is Put.SAME
    assert store.put_new("a/x", b"two") is Put.DIFFERENT
    assert store.put_new("a/x", b"eno") is Put.DIFFERENT
    assert store.get("a/x") == b"one"


def test_missing(store: Store) -> None:
    assert not store.exists("a/x")
    with pytest.raises(NotFound, match="a/x"):
        store.get("a/x")
    with pytest.raises(NotFound):
        store.get_range("a/x", 0, 1)
    assert list(store.list()) == []
    store.delete("a/x")


def test_delete_frees_the_key(store: Store) -> None:
    store.put_new("x", b"1")
    assert store.exists("x")
    store.delete("x")
    assert not store.exists("x")
    assert store.put_new("x", b"2") is Put.CREATED


def test_ranges(store: Store) -> None:
    store.put_new("x", b"0123456789")
    assert store.get_range("x", 2, 3) == b"234"
    assert store.get_range("x", 8, 100) == b"89"
    assert store.get_range("x", 0, 10) == b"0123456789"
    assert store.get_range("x", 3, 0) == b""
    with pytest.raises(ValueError, match="outside"):
        store.get_range("x", 10, 1)
    with pytest.raises(ValueError, match="outside"):
        store.get_range("x", -1, 1)


def test_empty_object(store: Store) -> None:
    assert store.put_new("x", b"") is Put.CREATED
    assert store.get("x") == b""
    assert store.get_range("x", 0, 5) == b""
    assert list(store.list()) == [Entry("x", 0)]


def test_list_is_paged_and_sorted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(store.inner, S3Store):  # type: ignore[attr-defined]
        monkeypatch.setattr(store.inner, "page_size", 3)  # type: ignore[attr-defined]
    keys = [f"parts/{name}" for name in ("A", "a", "a-b", "a.b", "a10", "a2", "b", "é", "日")]
    for key in reversed(keys):
        store.put_new(key, key.encode())
    expected = sorted(keys, key=str.encode)
    assert list(store.list("parts/")) == [Entry(k, len(k.encode())) for k in expected]


def test_list_takes_any_string_as_prefix(store: Store) -> None:
    for key in ("a/1", "a/10", "a/2", "a/b/c", "a0", "b/z", "run.json"):
        store.put_new(key, b"")
    assert [e.key for e in store.list("a/1")] == ["a/1", "a/10"]
    assert sorted(e.key for e in store.list("a")) == ["a/1", "a/10", "a/2", "a/b/c", "a0"]
    assert sorted(e.key for e in store.list("a/")) == ["a/1", "a/10", "a/2", "a/b/c"]
    assert len(list(store.list())) == 7
    assert list(store.list("nothing/here")) == []
    assert list(store.list("run.json/x")) == []


def test_odd_keys(store: Store) -> None:
    for key in ODD_KEYS:
        assert store.put_new(key, key.encode()) is Put.CREATED
    assert {e.key for e in store.list()} == set(ODD_KEYS)
    assert all(store.get(key) == key.encode() for key in ODD_KEYS)


def test_keys_that_differ_only_in_case(store: Store) -> None:
    assert store.put_new("part", b"1") is Put.CREATED
    assert store.put_new("PART", b"2") is Put.CREATED
    assert store.get("part") == b"1"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused(folder: Store, key: str) -> None:
    with pytest.raises(ValueError):
        folder.put_new(key, b"")


def test_of_racing_writers_exactly_one_creates(store: Store) -> None:
    gate = threading.Barrier(8)

    def write(number: int) -> Put:
        gate.wait()
        return store.put_new("parts/x", f"writer {number}".encode())

    with ThreadPoolExecutor(8) as writers:
        results = list(writers.map(write, range(8)))
    assert results.count(Put.CREATED) == 1
    assert results.count(Put.DIFFERENT) == 7
    assert store.get("parts/x") == f"writer {results.index(Put.CREATED)}".encode()


def test_racing_writers_of_the_same_bytes_all_succeed(store: Store) -> None:
    gate = threading.Barrier(8)

    def write(_: int) -> Put:
        gate.wait()
        return store.put_new("x", b"same")

    with ThreadPoolExecutor(8) as writers:
        results = list(writers.map(write, range(8)))
    assert results.count(Put.CREATED) == 1
    assert results.count(Put.SAME) == 7


def test_a_store_is_found_again_by_its_uri(store: Store) -> None:
    store.put_new("run.json", b"{}")
    assert open_store(store.uri, write=False).get("run.json") == b"{}"


def test_to_read_there_must_be_something(uri: str) -> None:
    with pytest.raises(UserError, match="nothing here"):
        open_store(uri, write=False)
    assert list(open_store(uri).list()) == []


def test_a_large_object(store: Store) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB
    assert store.put_new("big", data) is Put.CREATED
    assert store.put_new("big", data) is Put.SAME
    assert store.get("big") == data
    assert store.get_range("big", 9_999_999, 5) == data[9_999_999:10_000_004]


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "http://x", "s3://", "s3:///x", "s3://ab/x", "s3://a b c/x"])
def test_locations_that_cannot_be(uri: str) -> None:
    with pytest.raises(UserError):
        open_store(uri)
