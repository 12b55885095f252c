"""Help: a short first page, and every setting with its meaning, unit and default, as wide as the terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from synood_ray.cli.arguments import parse
from synood_ray.cli.help import page
from synood_ray.cli.main import COMMANDS, first_page
from synood_ray.cli.tree import leaves, sections, within
from synood_ray.errors import UserError


def synood(*argv: str, columns: int = 100) -> str:
    """What the command prints, in a process of its own."""
    command = [sys.executable, "-m", "synood_ray", *argv]
    environment = {**os.environ, "COLUMNS": str(columns)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("columns", [80, 100])
def test_the_full_list_has_every_setting(columns: int) -> None:
    text = synood("synthesize", "--help", "all", columns=columns)
    words = " ".join(text.split())
    for leaf in leaves().values():
        if leaf.path not in ("preset", "output", "limit"):  # options, above
            assert f"--{leaf.path}" in text
            assert " ".join(str(leaf.info.description).split()) in words
            assert leaf.expected in words
    assert text.count("synood synthesize") == 4  # usage and three examples
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "default: 6" in words
    assert "mini: 0.67" in words  # sampling.guided


def test_the_first_page_is_short() -> None:
    lines = synood("synthesize", "--help").splitlines()
    assert len(lines) < 76
    named = [line for line in lines if line.startswith("  --")]
    assert len(named) == len(COMMANDS["synthesize"].options) + 2 + 10
    for section, about in sections().items():
        assert ("." in section) != any(line.startswith(f"  {section} ") and about[:20] in line for line in lines)


def test_help_of_a_section_or_a_setting() -> None:
    command = COMMANDS["synthesize"]
    text = page(command, "farm.samplers", "mini")
    assert {line.split()[0][2:] for line in text.splitlines() if line.startswith("  --")} == {
        f"{path}.NAME" if leaves()[path].entries else path for path in leaves() if within(path, ["farm.samplers"])
    }
    assert "sampling.rounds" in page(command, "sampling.rounds") and "sampling.band" not in page(
        command, "sampling.rounds"
    ).replace("--sampling.rounds 6", "")
    with pytest.raises(UserError, match=r"--help samplin: no such section; did you mean sampling\?"):
        page(command, "samplin")
    with pytest.raises(UserError, match="--help sampling: no such section"):
        page(COMMANDS["finetune"], "sampling")


def test_help_answers_even_among_other_options(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (
        ["--preset", "imagenet", "-h", "sampling", "--data", "x"],
        ["--help=sampling", "--preset", "imagenet"],
    ):
        with pytest.raises(SystemExit) as left:
            parse(COMMANDS["synthesize"], argv)
        assert left.value.code == 0
        assert "imagenet: whole" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_for_what_it_takes(name: str) -> None:
    command = COMMANDS[name]
    text = page(command)
    assert command.about.split(":")[0].split(";")[0][:40] in text
    assert all(f"  {option}" in text for option in command.options)
    assert all(path in leaves() for path in command.often)
    shown = {
        line.split()[0][2:].removesuffix(".NAME") for line in page(command, "all").splitlines() if line[:4] == "  --"
    }
    assert shown - set(command.takes) == {path for path in leaves() if within(path, command.settings)} - set(
        command.takes
    )


def test_examples_are_command_lines_that_work() -> None:
    for command in COMMANDS.values():
        for words in command.examples:
            if "site.yaml" not in words:  # whose data only its site knows
                parse(command, words.split())


def test_the_first_page_of_all_names_every_command() -> None:
    assert synood() == synood("--help") == f"{first_page()}\n"
    assert all(f"  {name} " in first_page() for name in COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "vllm", "diffusers", "transformers", "open_clip", "boto3", "pyarrow", "numpy", "PIL")
    script = (
        "import contextlib, os, sys; from synood_ray.cli.main import main\n"
        "with contextlib.redirect_stdout(open(os.devnull, 'w')), contextlib.suppress(SystemExit):\n"
        f"    main(['synthesize', '--help', 'all'])\nprint([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
