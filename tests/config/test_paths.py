"""Relative paths, in a shell and in a submitted job."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_ray.config.paths import absolute, check_models, check_output
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(SUBMITTED, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("output", ["runs/mine", "file://runs/mine", "/tmp/ray/session_1/runtime_resources/p/run"])
def test_an_output_that_goes_with_the_job_is_refused(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_output(output)
    monkeypatch.setenv(SUBMITTED, "{}")
    with pytest.raises(UserError, match="which Ray removes"):
        check_output(output)
    check_output("/shared/run")
    check_output("s3://runs/mine")


def test_workers_get_absolute_paths_of_what_is_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "masks").mkdir()
    (here / "words.txt").write_text("ball\n")
    settings = Settings.model_validate(
        {
            "data": {"uri": "mini://data/id_train.parquet", "class_names": "imagenet"},
            "sampling": {"mask": "files", "masks": "masks"},
            "labels": {"candidates": "words.txt"},
            "prompts": {"groups": "words.txt", "blind": "words.txt"},
            "describer": {"contexts": "/somewhere/contexts.jsonl"},
        }
    )
    found = absolute(settings)
    assert found.sampling.masks == str(here / "masks") and found.labels.candidates == str(here / "words.txt")
    assert found.prompts.groups == found.prompts.blind == str(here / "words.txt")
    assert settings.sampling.masks == "masks", "what is stored is what was typed"
    assert (found.data, found.describer) == (settings.data, settings.describer)
    monkeypatch.setenv(SUBMITTED, "{}")
    assert absolute(settings) == settings, "every worker has its own copy of the working directory"


def test_a_relative_model_folder_is_refused_on_a_cluster(here: Path) -> None:
    (here / "clip").mkdir()
    check_models(Settings.model_validate({"scorer": {"model": "ViT-B-16"}}))
    with pytest.raises(UserError, match=rf"scorer\.model: clip is relative.*give {here}/clip"):
        check_models(Settings.model_validate({"scorer": {"model": "clip"}}))
