"""What is asked of a store is counted, whatever its kind, and told once."""

from __future__ import annotations

import pytest

from synood_ray import used
from synood_ray.errors import UserError
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import NotFound, Put, Store
from synood_ray.storage.stores.counted import CountedStore


def test_operations_and_bytes(store: Store) -> None:
    used.take()
    assert store.put_new("parts/a", b"12345") is Put.CREATED
    assert store.get("parts/a") == b"12345" and store.get_range("parts/a", 1, 3) == b"234"
    assert [entry.key for entry in store.list("parts/")] == ["parts/a"]
    assert store.exists("parts/a")
    store.delete("parts/a")
    with pytest.raises(NotFound):
        store.get("parts/a")
    found = used.take()
    assert found["synood_store_operations"] == {"write": 1, "read": 3, "list": 1, "look up": 1, "delete": 1}
    assert found["synood_store_bytes"] == {"written": 5, "read": 8}
    assert "synood_store_errors" not in found, "that there is none is no error"
    assert not used.take(), "told once"


def test_what_is_given_up(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(key: str, data: bytes) -> Put:
        raise UserError("the disk is full")

    assert isinstance(folder, CountedStore)
    monkeypatch.setattr(folder.inner, "put_new", full)
    with pytest.raises(UserError):
        folder.put_new("x", b"1")
    assert used.take() == {"synood_store_operations": {"write": 1}, "synood_store_errors": {"write": 1}}


def test_a_list_that_is_not_read_to_its_end_is_no_error(folder: Store) -> None:
    for name in "abc":
        folder.put_new(name, b"")
    used.take()
    assert next(iter(folder.list())).key == "a"
    assert "synood_store_errors" not in used.take()


def test_the_same_as_the_store_inside(folder: Store) -> None:
    folder.put_new("a/b", b"")
    folder.check_conditions()
    assert folder.occupant() == "a" and folder.uri == open_store(folder.uri).uri
    folder.delete("a/b")
    folder.prune("a/")
    assert folder.occupant() is None
