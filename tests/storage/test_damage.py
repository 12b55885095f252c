"""Parts and shards that are not what they should be: named, never published or read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from synood_ray.errors import UserError
from synood_ray.farm.plan import Plan
from synood_ray.farm.retry import WHOLE, find_retries
from synood_ray.report.rows import Samples
from synood_ray.storage import layout
from synood_ray.storage.damage import put_aside
from synood_ray.storage.parts import DamagedPart, decode_samples, encode_samples, to_parquet
from synood_ray.storage.progress import run_status
from synood_ray.storage.publish import is_finished, publish
from synood_ray.storage.record import require_record
from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_manifest
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from synood_ray.storage.webdataset import export
from tests.storage.builders import CLASSES, commit, fail, make_row, make_run

UNIT, KEY = 1, layout.part_key(1)


def replaced(store: Store, key: str, data: bytes) -> None:
    """Put other bytes under a key, as nobody of ours ever does."""
    store.delete(key)
    store.put_new(key, data)


def test_parts_are_put_aside_with_the_later_retries_of_their_unit_only(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "run"))
    make_run(store)
    keys = [layout.part_key(1, retry) for retry in range(4)] + [layout.part_key(10), layout.part_key(1_000_000)]
    for key in keys:
        store.put_new(key, key.encode())
    gone: list[str] = []
    delete = store.delete
    store.delete = lambda key: (gone.append(key), delete(key))  # type: ignore[method-assign, assignment]
    put_aside(store, require_record(store), [DamagedPart(store, layout.part_key(1, 2), "cut off")])
    assert gone == [layout.part_key(1, 3), layout.part_key(1, 2)], "while the damaged one is there, it can be seen"
    put_aside(store, require_record(store), [DamagedPart(store, layout.part_key(100_000, 0), "cut off")])
    assert store.exists(layout.part_key(1_000_000)) and store.exists(layout.part_key(10))


def cut_off(store: Store, plan: Plan) -> bytes:
    return store.get(KEY)[:-100]


def empty(store: Store, plan: Plan) -> bytes:
    return b""


def copied(store: Store, plan: Plan) -> bytes:
    return store.get(layout.part_key(0))


def no_part(store: Store, plan: Plan) -> bytes:
    return to_parquet(pa.table({"key": ["x"]}))


def no_parquet(store: Store, plan: Plan) -> bytes:
    return b"\xff\xd8\xff" * 1000


def of_another_run(store: Store, plan: Plan) -> bytes:
    return encode_samples(decode_samples(store.get(KEY)), CLASSES, run="another")


def shorter(store: Store, plan: Plan) -> bytes:
    return encode_samples(decode_samples(store.get(KEY))[:-1], CLASSES)


def with_a_key_twice(store: Store, plan: Plan) -> bytes:
    rows = decode_samples(store.get(KEY))
    return encode_samples([*rows[:-1], rows[0]], CLASSES)


def with_keys_of_another_unit(store: Store, plan: Plan) -> bytes:
    return encode_samples([make_row(task, unit=UNIT) for task in plan.unit(2)], CLASSES)


def with_a_flipped_bit(store: Store, plan: Plan) -> bytes:
    data = bytearray(store.get(KEY))
    data[data.index(b"\x28\xb5\x2f\xfd") + 12] ^= 1  # in the first page: there zstd's frame begins
    return bytes(data)


WRONG: list[tuple[Callable[[Store, Plan], bytes], str]] = [
    (cut_off, "its end is not that of a Parquet file"),
    (empty, "its end is not that of a Parquet file"),
    (no_parquet, "its end is not that of a Parquet file"),
    (copied, "it holds unit 0"),
    (no_part, "its footer is no part's"),
    (of_another_run, "it was made by another run"),
    (shorter, "it has 5 samples, and the unit 6"),
    (with_a_key_twice, "its samples are not those of its unit"),
    (with_keys_of_another_unit, "its samples are not those of its unit"),
    (with_a_flipped_bit, ""),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG, ids=lambda found: getattr(found, "__name__", ""))
def test_a_wrong_part_is_named_and_its_unit_is_made_again(store: Store, wrong: Callable, why: str) -> None:
    plan = make_run(store)
    commit(store, plan)
    right, damaged = store.get(KEY), wrong(store, plan)
    assert damaged != right
    replaced(store, KEY, damaged)
    with pytest.raises(UserError, match=rf"{KEY}: damaged \(.*{why}.*\); --retry-failed makes its unit again"):
        publish(store)
    assert store.get("damaged/part-000001.parquet") == damaged and not store.exists(KEY)
    assert run_status(store).quarantined == 1
    assert find_retries(store) == {UNIT: WHOLE}
    store.put_new(KEY, right)
    assert publish(store)["quarantined"] == 0
    assert [row.key for row in Run.open(store).samples()] == [f"{i:08d}" for i in range(20)]


def test_a_run_goes_on_without_a_damaged_unit_if_told_to_twice(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan)
    replaced(folder, KEY, with_a_flipped_bit(folder, plan))
    with pytest.raises(UserError, match=KEY):
        publish(folder)
    assert publish(folder)["quarantined_units"] == [UNIT]


def test_retry_failed_finds_damaged_parts_by_itself(folder: Store) -> None:
    plan, said = make_run(folder), []
    commit(folder, plan, failed=["00000001"])
    for key in (KEY, layout.part_key(3)):
        replaced(folder, key, b"")
    found = find_retries(folder, said.append)
    assert (found.pop(0).keys, found) == ({"00000001"}, {1: WHOLE, 3: WHOLE})
    assert [KEY in line or layout.part_key(3) in line for line in said] == [True, True]


def test_a_damaged_retry_is_made_again_and_those_after_it(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan, failed=["00000006", "00000007"])
    for retry, failed in ((1, True), (2, False)):
        rows = [make_row(task, attempt=1 + retry) for task in plan.unit(UNIT)[:2]]
        folder.put_new(layout.part_key(UNIT, retry), encode_samples([fail(r) if failed else r for r in rows], CLASSES))
    publish(folder)
    replaced(folder, layout.part_key(UNIT, 1), b"")
    (again,) = find_retries(folder).values()
    assert (again.number, again.keys) == (1, {"00000006", "00000007"})
    assert [e.key for e in folder.list("damaged/")] == [f"damaged/part-000001-r{n}.parquet" for n in (1, 2)]
    assert not any(row.failed for row in Run.open(folder).samples())  # what is published stays, until there is more
    folder.put_new(layout.part_key(UNIT, 1), encode_samples([make_row(t) for t in plan.unit(UNIT)[:2]], CLASSES))
    publish(folder)
    assert not any(row.failed for row in Run.open(folder).samples())


def test_a_part_beyond_the_plan_is_none_of_this_run(folder: Store) -> None:
    plan = make_run(folder)
    commit(folder, plan)
    beyond = encode_samples([make_row(task, unit=7) for task in plan.unit(3)], CLASSES)
    folder.put_new(layout.part_key(7), beyond)
    with pytest.raises(UserError, match=r"part-000007.parquet: damaged \(the run has 4 units\)"):
        publish(folder)
    assert publish(folder)["accepted"] == 15
    assert not list(folder.list(layout.ERRORS))


def test_a_status_names_a_damaged_part_and_moves_nothing(folder: Store) -> None:
    commit(folder, make_run(folder), units=[0, 1])
    replaced(folder, KEY, b"PAR1")
    with pytest.raises(UserError, match=rf"{KEY}: damaged"):
        run_status(folder)
    assert folder.get(KEY) == b"PAR1"


# Shards

READERS: dict[str, Callable[[Store, Path], object]] = {
    "rows": lambda store, folder: list(Run.open(store).samples()),
    "export": lambda store, folder: export(Run.open(store), open_store(str(folder / "tars"))),
    "report": lambda store, folder: Samples(Run.open(store), published=True),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("change", ["replaced", "bit", "gone"])
def test_a_shard_that_is_not_the_published_one_is_not_read(
    store: Store, tmp_path: Path, reader: str, change: str
) -> None:
    plan = make_run(store)
    commit(store, plan)
    publish(store, rows_per_shard=6)
    key, other = layout.shard_key(1, 4), store.get(layout.shard_key(0, 4))
    flipped = bytearray(store.get(key))
    flipped[100] ^= 1
    store.delete(key)
    if change != "gone":
        store.put_new(key, other if change == "replaced" else bytes(flipped))
    with pytest.raises(UserError, match=rf"{key}: not what manifest.json says, .*; move it elsewhere and run the comm"):
        READERS[reader](store, tmp_path)


def test_a_shard_moved_elsewhere_is_made_anew(folder: Store) -> None:
    """What the message says to do."""
    commit(folder, make_run(folder))
    manifest = publish(folder, rows_per_shard=6)
    before = list(Run.open(folder).samples())
    key = layout.shard_key(1, 4)
    replaced(folder, key, bytes(manifest["shards"][1]["bytes"]))
    with pytest.raises(UserError, match="SHA-256 differs"):
        list(Run.open(folder).samples())
    folder.delete(key)
    assert not is_finished(folder)
    assert publish(folder) == manifest and list(Run.open(folder).samples()) == before


@pytest.mark.parametrize("found", [[], {}, {"format": 2, "shards": []}, {"format": 1, "shards": [{"path": 3}]}])
def test_a_manifest_of_another_program(folder: Store, found: object) -> None:
    commit(folder, make_run(folder))
    put_json(folder, layout.MANIFEST, found)
    for look in (read_manifest, is_finished, publish, run_status):
        with pytest.raises(UserError, match=r"manifest.json: not a manifest of this version of synood_ray"):
            look(folder)
