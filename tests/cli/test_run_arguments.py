"""Command lines of commands on an existing run, and what is printed of settings at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from synood_ray.cli import evaluate, finetune, status
from synood_ray.cli.arguments import parse
from synood_ray.cli.command import Arguments
from synood_ray.cli.synthesize import short_form
from synood_ray.config.settings import Settings
from tests.cli.typed import load, refusal, settings_of, write


def test_run_arguments_override_the_stored_settings() -> None:
    stored = settings_of("--training.epochs", "9", "--training.lr", "0.5", "--farm.samplers.max", "8")
    argv = ["--run", "runs/x", "--training.lr", "0.25", "--scorer.device=cpu", "--farm.samplers.min", "5"]
    arguments = parse(finetune.COMMAND, argv)
    expected = stored.model_copy(deep=True)
    expected.training.lr, expected.scorer.device, expected.farm.samplers.min = 0.25, "cpu", 5
    assert arguments.over(stored.model_dump(mode="json")) == expected
    assert arguments.options == {"run": "runs/x"}
    assert "json" in parse(status.COMMAND, ["--run", "x", "--json"]).options


def test_how_a_run_was_logged_is_no_matter_of_later_commands() -> None:
    stored = settings_of("--log-level", "debug", "--log-json").model_dump(mode="json")
    assert parse(finetune.COMMAND, ["--run", "x"]).over(stored).log == Settings().log
    assert parse(finetune.COMMAND, ["--run", "x", "--log-level", "error"]).over(stored).log.level == "error"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "run: no run named; give --run"),
        ("--run", "--run: needs a value"),
        (
            "--run x --sampling.rounds 3",
            "sampling.rounds: was fixed when the run was made; here only evaluation, ",
        ),
        ("--run x --evaluation.nera.a 3", "did you mean evaluation.near"),
        ("--run x --evaluation.bootstrap many", "evaluation.bootstrap: must be an integer"),
        ("--run x --json", "--json: no such option"),
    ],
)
def test_wrong_run_arguments(argv: str, message: str) -> None:
    assert message in refusal(*argv.split(), command=evaluate)


# What is printed at the start


def test_short_form_names_what_differs_and_from_where(tmp_path: Path) -> None:
    config = write(tmp_path, "sampling:\n  band: 0.5\n")
    loaded = load("--config", config, "--seed", "7", "--sampling.rounds", "6")
    lines = " ".join(short_form(loaded).split())
    assert "command line: output o · seed 7" in lines
    assert "sampling.rounds" not in lines  # given, but equal to the default
    assert f"{config}: sampling.band [-0.5, 0.5]" in lines
    assert "preset mini: data.uri mini://data/id_train.parquet" in lines
    assert short_form(Arguments({}, Settings(), {}, [])) == "all settings at their defaults"
