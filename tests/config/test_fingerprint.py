"""Which settings make a run another run."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_ray.config.fingerprint import changes, differences, fingerprint, same_place
from synood_ray.config.settings import Settings, from_stored


def _changed(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate(sections)


BASE = Settings()

CHANGES_SAMPLES = [
    {"seed": 1},
    {"limit": 5},
    {"data": {"per_class": 7}},
    {"data": {"calibration": "x"}},
    {"describer": {"question": "What is it?"}},
    {"inpainter": {"model": "other"}},
    {"scorer": {"templates": ["a {}", "the {}"]}},
    {"sampling": {"band": 0.5}},
    {"labels": {"keep": 0.2}},
    {"farm": {"unit_size": 7}},
]
CHANGES_NOTHING = [
    {"output": "elsewhere"},
    {"preset": "other"},
    {"data": {"uri": "elsewhere"}},
    {"describer": {"endpoint": "http://host/v1"}},
    {"inpainter": {"device": "cuda"}},
    {"training": {"lr": 0.5}},
    {"evaluation": {"near": {"a": "b"}}},
    {"farm": {"samplers": {"max": 9}}},
    {"farm": {"max_attempts": 9}},
]


@pytest.mark.parametrize("change", CHANGES_SAMPLES, ids=str)
def test_settings_that_change_samples_count(change: dict) -> None:
    other = _changed(**change)
    assert fingerprint(other, "x") != fingerprint(BASE, "x")
    (line,) = differences(BASE.model_dump(mode="json"), other)
    section, value = next(iter(change.items()))
    name = f"{section}.{next(iter(value))}" if isinstance(value, dict) else section
    assert line.startswith(f"{name}: ")
    assert " in the run, " in line


@pytest.mark.parametrize("change", CHANGES_NOTHING, ids=str)
def test_settings_that_do_not_are_free(change: dict) -> None:
    assert fingerprint(_changed(**change), "x") == fingerprint(BASE, "x")
    assert differences(BASE.model_dump(mode="json"), _changed(**change)) == []


def test_other_images_are_another_run() -> None:
    assert fingerprint(BASE, "x") != fingerprint(BASE, "y")


def test_both_values_are_named() -> None:
    assert differences(BASE.model_dump(mode="json"), _changed(sampling={"band": 0.5, "recipe": "fresh"})) == [
        'sampling.recipe: "newton" in the run, "fresh" now',
        "sampling.band: 0.25 in the run, 0.5 now",
    ]


def test_a_field_that_the_run_does_not_know_yet_counts_as_its_default() -> None:
    old = BASE.model_dump(mode="json")
    del old["sampling"]["band"], old["labels"]
    assert differences(old, BASE) == []
    assert differences(old, _changed(sampling={"band": 0.5})) == ["sampling.band: 0.25 in the run, 0.5 now"]


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert same_place("x/../data", str(tmp_path / "data"))
    assert not same_place("data", "other")
    assert same_place("s3://b/x", "s3://b/x")
    assert not same_place("s3://b/x", "mini://b/x")


def test_what_was_done_before_a_setting_came_is_no_new_default() -> None:
    old = BASE.model_dump(mode="json")
    del old["prompts"]["policy"]
    assert from_stored(old).prompts.policy == "context"
    assert differences(old, _changed(prompts={"policy": "context"})) == []
    assert differences(old, _changed(prompts={"policy": "blend"})) == [
        'prompts.policy: "context" in the run, "blend" now'
    ]


def test_an_interval_about_0_is_what_one_number_was() -> None:
    assert differences(BASE.model_dump(mode="json"), _changed(sampling={"band": [-0.25, 0.25]})) == []
    assert differences(BASE.model_dump(mode="json"), _changed(sampling={"band": [0.1, 1.1]})) == [
        "sampling.band: 0.25 in the run, [0.1, 1.1] now"
    ]


def test_a_run_may_go_on_with_other_batches_and_is_told() -> None:
    other = _changed(sampling={"batch_size": 3})
    assert fingerprint(other, "x") != fingerprint(BASE, "x")
    old = BASE.model_dump(mode="json")
    assert differences(old, other) == []
    assert changes(old, other) == ["sampling.batch_size: 16 in the run, 3 now"]


def test_one_image_at_a_time_was_called_strict() -> None:
    old = BASE.model_dump(mode="json")
    strict, loose = ({**old, "sampling": old["sampling"] | {"strict": value}} for value in (True, False))
    assert from_stored(strict).sampling.batch_size == 1
    assert from_stored(loose) == BASE
