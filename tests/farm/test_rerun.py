"""--rerun: samples chosen by a predicate are drawn anew, once, whatever comes between."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.farm.observers import Event, Observer, StageEnded, UnitDone
from synood_ray.farm.retry import find_rerun, find_retries
from synood_ray.pipeline import synthesize
from synood_ray.records import redrawn_seed
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_samples
from synood_ray.storage.progress import run_status
from synood_ray.storage.publish import publish
from synood_ray.storage.reruns import Choice, find_same, read_reruns
from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_manifest
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from synood_ray.storage.watch import Watch
from synood_ray.storage.where import parse_where
from tests.cluster.runs import contents
from tests.farm.conftest import SAMPLES
from tests.farm.stubs import stub_actors
from tests.storage.test_damage import replaced

SOME = "key in ('00000000', '00000001', '00000009')"


def call(
    settings: Settings,
    where: str = "",
    faults: str = "",
    again: int = 1,
    observers: Sequence[Observer] = (),
    **more: bool,
) -> str:
    said: list[str] = []
    rerun = Choice(parse_where(where, "--rerun"), again) if where else None
    synthesize(settings, said.append, rerun=rerun, actors=stub_actors(faults), observers=observers, **more)  # type: ignore[arg-type]
    return "\n".join(said)


def opened(settings: Settings) -> Store:
    return open_store(settings.output)


def seeds(store: Store) -> dict[str, tuple[int, int]]:
    return {row.key: (row.seed, row.rerun) for row in Run.open(store).samples()}


def interrupt(event: Event) -> None:
    if isinstance(event, StageEnded):
        raise KeyboardInterrupt


def interrupt_after_a_unit(event: Event) -> None:
    if isinstance(event, UnitDone):
        raise KeyboardInterrupt


def test_chosen_samples_are_drawn_with_a_seed_of_their_own_and_the_others_stay(settings: Settings) -> None:
    call(settings, faults="bad-1")
    store = opened(settings)
    before, parts = seeds(store), [entry.key for entry in store.list(layout.PARTS)]
    said = call(settings, SOME)
    assert "drawing anew: 3 of 16 samples, in 2 units: 2 accepted, 1 error; " in said and "published" in said
    assert "\nsamples run again 3/3 · 3 accepted" in said and " · 16/16 of the run sampled" in said
    after = seeds(store)
    assert [*after] == [*before], "in the order of the plan"
    assert {key for key in after if after[key] != before[key]} == {"00000000", "00000001", "00000009"}
    assert after["00000009"] == (redrawn_seed(before["00000009"][0], SOME, 1), 1)
    new = {entry.key for entry in store.list(layout.PARTS)} - {*parts}
    assert new == {layout.part_key(0, 1), layout.part_key(2, 1)}
    status = run_status(store)
    assert (status.accepted, status.failed, status.published) == (SAMPLES, 0, True)
    assert len(read_reruns(store)) == 1


def test_the_same_command_again_finds_it_done_and_another_seed_draws_once_more(settings: Settings) -> None:
    call(settings)
    call(settings, SOME)
    store = opened(settings)
    first, manifest = seeds(store), read_manifest(store)
    said = call(settings, SOME.replace("key in", "KEY  in"))
    assert "is done; another --rerun-seed" in said and "finished already" in said
    assert read_manifest(store) == manifest
    call(settings, SOME, again=2)
    second = seeds(store)
    assert {key for key in first if first[key][0] != second[key][0]} == {"00000000", "00000001", "00000009"}
    assert Counter(rerun for _, rerun in second.values()) == {0: 13, 2: 3}


def test_equal_reruns_of_equal_runs_make_equal_bytes(settings: Settings, tmp_path: Path) -> None:
    call(settings)
    other = settings.model_copy(update={"output": str(tmp_path / "other")})
    call(other)
    for one in (settings, other):
        call(one, SOME)
    assert contents(opened(settings)) == contents(opened(other))


@pytest.mark.parametrize("end", [interrupt, interrupt_after_a_unit])
def test_one_that_is_cut_short_goes_on_to_the_same_bytes(settings: Settings, tmp_path: Path, end: Observer) -> None:
    call(settings)
    shutil.copytree(settings.output, tmp_path / "calm")
    calm = settings.model_copy(update={"output": str(tmp_path / "calm")})
    call(calm, SOME)
    with pytest.raises(KeyboardInterrupt):
        call(settings, SOME, observers=[end])
    said = call(settings, SOME)
    assert "drawing anew" not in said, "what was chosen stands"
    assert contents(opened(settings)) == contents(opened(calm))


def test_outcomes_are_counted_as_they_are_now(settings: Settings) -> None:
    """Accepted samples that are rejected when they are drawn anew, rejected and failed ones that are accepted."""
    call(settings, faults="bad-1 vain")
    store = opened(settings)
    assert (run_status(store).accepted, run_status(store).rejected, run_status(store).failed) == (0, 15, 1)
    call(settings, "key < '00000006'")
    call(settings, "key in ('00000000', '00000007')", faults="vain")
    rows = list(Run.open(store).samples())
    kinds = Counter("failed" if row.failed else "accepted" if row.accepted else "rejected" for row in rows)
    assert kinds == {"accepted": 5, "rejected": 11}
    manifest = read_manifest(store) or {}
    assert {name: manifest[name] for name in kinds} == kinds and manifest["failed"] == 0
    store.delete(layout.MANIFEST)
    assert (run_status(store).accepted, run_status(store).rejected, run_status(store).failed) == (5, 11, 0)
    picture = Watch(store).look(now=0.0)
    assert (picture.accepted, picture.rejected, picture.failed) == (5, 11, 0)


def test_a_failed_sample_keeps_the_seed_of_its_rerun_when_it_is_retried(settings: Settings) -> None:
    call(settings)
    store = opened(settings)
    call(settings, SOME, faults="bad-9-always")
    drawn = seeds(store)["00000009"]
    assert drawn[1] == 1 and run_status(store).failed == 1
    (again,) = find_retries(store).values()
    assert (again.number, again.keys) == (2, {"00000009"})
    call(settings, retry_failed=True)
    assert seeds(store)["00000009"] == drawn and run_status(store).failed == 0
    assert "is done" in call(settings, SOME), "the retry is none of the rerun's own"


def test_a_retry_that_came_first_does_not_pass_for_the_rerun(settings: Settings) -> None:
    """Chosen, and cut short before a sample; then --retry-failed takes the next retry of the unit."""
    call(settings, faults="bad-1")

    def at_once(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(settings, SOME, observers=[at_once])
    call(settings, retry_failed=True)
    store = opened(settings)
    assert seeds(store)["00000001"][1] == 0
    said = call(settings, SOME)
    assert "3 of 3 samples to make" in said
    assert {seeds(store)[key][1] for key in ("00000000", "00000001", "00000009")} == {1}
    assert [row.rerun for row in decode_samples(store.get(layout.part_key(0, 2)))] == [1, 1]


def test_units_that_cannot_be_made_stay_and_are_told(settings: Settings) -> None:
    call(settings)
    store = opened(settings)
    before = seeds(store)
    said = call(settings, SOME, faults="error-0")
    assert "1 unit of the rerun still to be made" in said
    assert seeds(store)["00000000"] == before["00000000"] and seeds(store)["00000009"][1] == 1
    assert "2 of 3 samples to make" in call(settings, SOME)
    assert seeds(store)["00000000"][1] == 1


def test_near_duplicates_can_be_drawn_anew(settings: Settings) -> None:
    """A near-duplicate is rejected in shards only: its part, which counts it as accepted, is what is replaced."""
    call(settings)
    store = opened(settings)
    part = decode_samples(store.get(layout.part_key(0)))
    from synood_ray.storage.parts import encode_samples

    for row in part[:3:2]:  # of one class
        row.feature = [1.0, 0.0]
    replaced(store, layout.part_key(0), encode_samples(part, ["a", "b"]))
    for entry in [*store.list(layout.DATA), *store.list("publication")]:
        store.delete(entry.key)
    store.delete(layout.MANIFEST)
    assert publish(store)["rejected"] == 1
    call(settings, "reason = 'duplicate'")
    assert run_status(store).accepted == SAMPLES


def test_a_damaged_part_of_a_rerun_is_named(settings: Settings) -> None:
    call(settings)
    call(settings, SOME)
    store = opened(settings)
    replaced(store, layout.part_key(0, 1), b"")
    rerun = find_same(store, Choice(parse_where(SOME, "")))
    with pytest.raises(UserError, match=r"part-000000-r1.parquet: damaged"):
        find_rerun(store, rerun)  # type: ignore[arg-type]


REFUSED = {
    "no run": "no run here",
    "unfinished": "not finished, or not published; run the same command without --rerun first",
}


@pytest.mark.parametrize("state", REFUSED)
def test_what_is_no_published_run_is_refused_and_left_alone(settings: Settings, state: str) -> None:
    if state == "unfinished":
        with pytest.raises(KeyboardInterrupt):
            call(settings, observers=[interrupt_after_a_unit])
    before = contents(opened(settings))
    with pytest.raises(UserError, match=REFUSED[state]):
        call(settings, SOME)
    assert contents(opened(settings)) == before


def test_nothing_that_is_chosen_is_said_and_nothing_written(settings: Settings) -> None:
    call(settings, faults="bad-1")
    store = opened(settings)
    before = contents(store)
    assert "no row has reason = 'round'; reasons: 15 none, 1 error" in call(settings, "reason = 'round'")
    assert "no row has class = 'c'; classes: a, b" in call(settings, "class = 'c'")
    assert contents(store) == before


def test_a_stored_rerun_that_was_edited_is_named(settings: Settings) -> None:
    call(settings)
    store = opened(settings)
    store.put_new(layout.rerun_key(1), json.dumps({"where": "x"}).encode())
    with pytest.raises(UserError, match=r"reruns/000001.json: not a rerun of synood_ray"):
        call(settings, SOME)
