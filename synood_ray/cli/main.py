"""The command `synood`: the table of commands, and the page that names them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from synood_ray import logs
from synood_ray.cli import benchmark, evaluate, export, finetune, push, report, serve, status, synthesize, version
from synood_ray.cli.arguments import parse
from synood_ray.cli.command import Command
from synood_ray.cli.guard import leave, main_guard
from synood_ray.cli.tree import did_you_mean
from synood_ray.errors import UserError

_MODULES = (synthesize, finetune, evaluate, report, serve, status, benchmark, export, push, version)
COMMANDS: dict[str, Command] = {module.COMMAND.name: module.COMMAND for module in _MODULES}


def start(argv: Sequence[str] | None = None) -> NoReturn:
    """`main`, and the end of this process."""
    leave(main(argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``synood ARGUMENTS``; returns the exit code (`synood_ray.cli.guard`)."""
    return main_guard(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: list[str]) -> int:
    if not argv or argv in (["-h"], ["--help"], ["help"]):
        print(first_page())
        return 0
    name, *rest = ["version"] if argv == ["--version"] else argv
    if name not in COMMANDS:
        raise UserError(f"{name!r}: no such command{did_you_mean(name, COMMANDS)} (commands: {', '.join(COMMANDS)})")
    arguments = parse(COMMANDS[name], rest)
    logs.configure(arguments.settings.log, run=arguments.settings.output or arguments.options.get("run", ""))
    return COMMANDS[name].run(arguments)


def first_page() -> str:
    """What `synood` prints without arguments."""
    return "\n".join(
        [
            "synood_ray: near-boundary out-of-distribution images at scale, and a CLIP that learns from them.",
            "",
            "usage: synood COMMAND [--OPTION VALUE]…",
            "",
            "commands (synood COMMAND --help for more):",
            *(f"  {command.name:12}{command.about}" for command in COMMANDS.values()),
            "",
            "examples:",
            "  synood synthesize --preset mini --output runs/first    make images",
            "  synood finetune --run runs/first                       train the detector on them",
            "  synood evaluate --run runs/first                       measure it; report/index.html",
        ]
    )
