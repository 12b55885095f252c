"""What is typed at a shell, and what becomes of it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from synood_ray.cli import synthesize
from synood_ray.cli.arguments import parse
from synood_ray.cli.command import Arguments
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError


def load(*argv: str) -> Arguments:
    """As `synood synthesize` takes it, with an output."""
    return parse(synthesize.COMMAND, [*argv, *(() if "--output" in argv else ("--output", "o"))])


def settings_of(*argv: str) -> Settings:
    return load(*argv).settings


def refusal(*argv: str, command: Any = synthesize) -> str:
    with pytest.raises(UserError) as raised:
        parse(command.COMMAND, [*argv])
    assert "\n" not in str(raised.value)
    return str(raised.value)


def write(folder: Path, text: str, name: str = "site.yaml") -> str:
    (folder / name).write_text(textwrap.dedent(text))
    return str(folder / name)
