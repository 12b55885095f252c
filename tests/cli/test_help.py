"""Help: every setting with its meaning, unit and default, as wide as the terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from synood_ray.cli.commandline import load_run_arguments
from synood_ray.cli.tree import leaves


def help_of(*argv: str, columns: int = 100) -> str:
    script = (
        "import sys; from synood_ray.cli.commandline import *;"
        "load_arguments(sys.argv[1:], program='jobs/x.py', description='Make images.')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *argv],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("columns", [80, 100])
def test_help_lists_every_setting(columns: int) -> None:
    text = help_of("--help", columns=columns)
    words = " ".join(text.split())
    for leaf in leaves().values():
        if "." in leaf.path:
            assert f"--{leaf.path}" in text
            assert " ".join(str(leaf.info.description).split()) in words
            assert leaf.expected in words
    assert text.count("python jobs/x.py") == 4  # usage and three examples
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "default: 6" in words
    assert "mini: 0.67" in words  # sampling.guided


def test_help_answers_even_among_other_options() -> None:
    assert "imagenet: whole" in help_of("--preset", "imagenet", "-h", "--data", "x")


def test_help_of_a_run_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load_run_arguments(["--help"], program="jobs/x.py", description="Train.", overrides_of=("training",), json=True)
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert "--training.epochs" in text and "--json" in text and "--sampling" not in text
