"""--retry-failed: quarantined units and failed samples again, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.farm.observers import Event, Observer, StageEnded, Tick
from synood_ray.farm.retry import WHOLE, Retry, find_retries
from synood_ray.pipeline import Synthesis, synthesize
from synood_ray.storage import layout
from synood_ray.storage.parts import decode_prompts, decode_samples, read_prompts
from synood_ray.storage.run import Run
from synood_ray.storage.shards import read_manifest
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.farm.conftest import SAMPLES, UNITS
from tests.farm.stubs import stub_actors


def call(
    settings: Settings, faults: str = "", retry_failed: bool = False, observers: Sequence[Observer] = ()
) -> tuple[Synthesis, str]:
    said: list[str] = []
    found = synthesize(settings, said.append, retry_failed, actors=stub_actors(faults), observers=observers)
    return found, "\n".join(said)


def names(store: Store, prefix: str) -> list[str]:
    return [entry.key.removeprefix(prefix) for entry in store.list(prefix)]


def interrupt(event: Event) -> None:
    """An observer: all is sampled, and nothing is published yet."""
    if isinstance(event, StageEnded):
        raise KeyboardInterrupt


def test_quarantined_units_and_failed_samples_and_nothing_else(settings: Settings) -> None:
    before, said = call(settings, "error-2 undescribed-3 bad-1 bad-2")
    store = open_store(settings.output)
    assert before.status.quarantined == 2 and before.status.failed == 2 and before.status.published
    assert "--retry-failed" in said
    retries = find_retries(store)
    assert retries == {0: Retry(1, frozenset({"00000001", "00000002"})), 2: WHOLE, 3: WHOLE}
    errors, untouched = names(store, layout.ERRORS), store.get(layout.part_key(1))

    after, said = call(settings, retry_failed=True)
    assert "2 quarantined units, 2 failed samples of 1 other unit" in said
    assert "\nsamples run again 10/10 · 10 accepted, 0 rejected, 0 failed · " in said
    assert " · 16/16 of the run sampled\n" in said and after.computed == 3
    assert (after.status.accepted, after.status.failed, after.status.quarantined) == (SAMPLES, 0, 0)
    assert [row.key for row in Run.open(store).samples()] == [f"{i:08d}" for i in range(SAMPLES)]
    assert sorted(row.key for row in decode_samples(store.get(layout.part_key(0, retry=1)))) == sorted(retries[0].keys)
    assert store.get(layout.part_key(1)) == untouched and len(names(store, layout.PARTS)) == UNITS + 1
    assert names(store, layout.ERRORS) == errors

    manifest = read_manifest(store)
    again, said = call(settings, retry_failed=True)
    assert "nothing to retry" in said and again.computed == 0
    assert read_manifest(store) == manifest


def test_attempts_go_on_and_a_retry_in_vain_is_quarantined_again(settings: Settings) -> None:
    call(settings, "error-2")
    store = open_store(settings.output)
    assert names(store, layout.ERRORS) == ["part-000002-a1.json", "part-000002-a2-final.json"]
    found, _ = call(settings, "error-2", retry_failed=True)
    assert names(store, layout.ERRORS)[2:] == ["part-000002-a3.json", "part-000002-a4-final.json"]
    assert found.status.quarantined == 1 and found.status.published
    assert len(list(Run.open(store).samples())) == SAMPLES - 4


def test_a_sample_that_fails_again_keeps_its_row(settings: Settings) -> None:
    call(settings, "bad-5")
    found, said = call(settings, "error-1", retry_failed=True)  # unit 1, of which sample 5 is
    assert "\nsamples run again 0/1 · 0 accepted" in said and " · 16/16 of the run sampled" in said
    store = open_store(settings.output)
    assert (found.status.failed, found.status.quarantined) == (1, 0)
    assert "tried again in vain, and left as before: 1 unit;" in said and "\nquarantined: " not in said
    assert names(store, layout.ERRORS) == ["part-000001-a1.json", "part-000001-a2.json"]
    assert [row.key for row in Run.open(store).samples() if row.failed] == ["00000005"]
    call(settings, retry_failed=True)
    assert not any(row.failed for row in Run.open(store).samples())


def test_a_retry_that_is_cut_short_is_published_by_the_next_call(settings: Settings) -> None:
    call(settings, "bad-5")

    with pytest.raises(KeyboardInterrupt):
        call(settings, retry_failed=True, observers=[interrupt])
    found, said = call(settings, retry_failed=True)
    assert "nothing to retry" in said and "published" in said
    assert found.status.published and found.status.failed == 0


def test_a_plain_run_beside_a_retry_does_not_hide_what_the_retry_makes(settings: Settings) -> None:
    """It finds the run finished; then the retry commits and is killed before it publishes."""
    call(settings, "bad-5 error-2")
    said: list[str] = []

    def join(event: Event) -> None:
        if isinstance(event, Tick) and not said:
            said.append(call(settings)[1])

    with pytest.raises(KeyboardInterrupt):
        call(settings, retry_failed=True, observers=[join, interrupt])
    assert "finished already" in said[0]
    found, after = call(settings)
    assert "published" in after and "finished already" not in after
    assert (found.status.published, found.status.failed, found.status.quarantined) == (True, 0, 0)
    assert not any(row.failed for row in Run.open(open_store(settings.output)).samples())
    assert "finished already" in call(settings)[1]


def test_waiting_units_are_left_alone(settings: Settings) -> None:
    call(settings, "error-2")
    store = open_store(settings.output)
    store.delete(layout.part_key(0))
    found, said = call(settings, retry_failed=True)
    assert found.computed == 1 and not store.exists(layout.part_key(0))
    assert "1 of 4 units are still to be done" in said
    assert "\nsamples run again 4/4 · " in said and " · 12/16 of the run sampled" in said


def test_no_run_to_retry(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run here"):
        call(settings, retry_failed=True)
    assert not (tmp_path / "run").exists()


def test_samples_without_a_prompt_are_described_again(settings: Settings) -> None:
    """Sample 1 at its first retry, sample 2 at its second; of the others nothing is described anew."""
    faults = "mute-1-1 mute-2-2 bad-3"
    before, _ = call(settings, faults)
    store = open_store(settings.output)
    assert (before.status.failed, before.status.quarantined) == (3, 0)
    assert find_retries(store)[0] == Retry(
        1, frozenset(f"0000000{i}" for i in (1, 2, 3)), frozenset({"00000001", "00000002"})
    )

    first, said = call(settings, faults, retry_failed=True)
    assert "0 quarantined units, 3 failed samples of 1 other unit" in said and first.status.failed == 1
    assert names(store, layout.PROMPTS) == ["part-000000-r1.parquet", *(f"part-{i:06d}.parquet" for i in range(UNITS))]
    assert sorted(row.key for row in decode_prompts(store.get(layout.prompts_key(0, 1)))) == ["00000001", "00000002"]
    assert [row.reject_reason for row in Run.open(store).samples() if row.failed] == ["error: nothing is named"]

    second, _ = call(settings, faults, retry_failed=True)
    assert second.status.failed == 0 and find_retries(store) == {}
    assert [row.key for row in decode_prompts(store.get(layout.prompts_key(0, 2)))] == ["00000002"]
    assert read_prompts(store, 0, 2)["00000002"].prompt and not read_prompts(store, 0, 1)["00000002"].prompt


def test_a_describer_that_fails_again_leaves_the_samples_as_they_were(settings: Settings) -> None:
    call(settings, "mute-1-1")
    found, said = call(settings, "undescribed-0", retry_failed=True)
    assert "tried again in vain, and left as before: 1 unit;" in said
    assert (found.status.failed, found.status.quarantined, found.status.published) == (1, 0, True)
    assert call(settings, retry_failed=True)[0].status.failed == 0


def test_a_retry_that_goes_on_takes_the_prompts_that_are_there(settings: Settings) -> None:
    call(settings, "mute-1-1")

    def interrupted(unit: int, attempt: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(settings, lambda line: None, retry_failed=True, actors=stub_actors(sampling=interrupted))
    store = open_store(settings.output)
    assert store.exists(layout.prompts_key(0, 1)) and not store.exists(layout.part_key(0, 1))
    assert call(settings, retry_failed=True)[0].status.failed == 0
