"""The settings tree and the bundled presets."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from synood_ray.cli.layers import load_preset, preset_names, resolve
from synood_ray.cli.tree import Leaf, leaves, sections
from synood_ray.config.settings import Settings, from_stored
from synood_ray.errors import UserError


def test_every_setting_says_what_it_means() -> None:
    for leaf in leaves().values():
        assert leaf.info.description, leaf.path
        assert leaf.expected, leaf.path
    assert all(text for text in sections().values())


def test_no_two_settings_differ_only_by_their_section_name() -> None:
    assert not set(leaves()) & set(sections())


@pytest.mark.parametrize("leaf", leaves().values(), ids=lambda leaf: leaf.path)
def test_defaults_are_valid(leaf: Leaf) -> None:
    assert leaf.check(leaf.default, "default") == leaf.default


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_change_something(name: str) -> None:
    settings, origins = resolve([load_preset(name)])
    assert settings != Settings()
    assert f"preset {name}" in set(origins.values()) <= {f"preset {known}" for known in preset_names()}


def test_the_known_presets_are_there() -> None:
    assert {"mini", "imagenet"} <= set(preset_names())


def test_settings_survive_json() -> None:
    settings, _ = resolve([load_preset("mini")])
    assert from_stored(json.loads(settings.model_dump_json())) == settings


def test_stored_settings_of_another_version_are_refused() -> None:
    stored = Settings().model_dump(mode="json")
    stored["sampling"]["wobble"] = 1
    with pytest.raises(UserError, match=r"do not fit this version: sampling\.wobble"):
        from_stored(stored)


def test_sections_refuse_unknown_keys_and_bad_assignments() -> None:
    def walk(model: BaseModel) -> None:
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["validate_assignment"]
        for name in type(model).model_fields:
            if isinstance(value := getattr(model, name), BaseModel):
                walk(value)

    walk(Settings())


def test_the_imagenet_preset_has_the_papers_words_prompts_and_clip() -> None:
    settings, _ = resolve([load_preset("imagenet")])
    assert (settings.scorer.model, settings.scorer.pretrained) == ("ViT-B-16", "openai")
    assert settings.scorer.templates == ["a nice {}"]  # SynOOD's, without a full stop
    labels = settings.labels
    assert (labels.candidates, labels.noun_prompt, labels.adjective_prompt, labels.keep, labels.groups) == (
        *("neglabel", "the nice {}", "This is a {} photo"),
        *(0.15, 100),
    )
    assert settings.evaluation.prompts == "paper"
    assert settings.data.class_names is None  # ImageNet-1k's wnids are recognised
