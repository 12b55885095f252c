"""Reads command lines: settings from a preset, a YAML file and dotted options.

Precedence, later first: command line, ``--config`` file, preset, defaults. Imports nothing heavy, so that ``--help``
and a wrong setting answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from synood_ray.cli import help as helptext
from synood_ray.cli.command import Arguments, Command
from synood_ray.cli.layers import DEFAULT_PRESET, Given, Layer, given, load_file, load_preset, resolve
from synood_ray.cli.tree import did_you_mean, find, leaves, sections, within
from synood_ray.errors import UserError

_MODELS = ("describer.model", "inpainter.model", "scorer.model")
_SHORT = {"data": "data.uri", "output": "output", "limit": "limit", "log-level": "log.level"}
_MISSING = {
    "data": "data.uri: no images named; give --data with a folder of class folders or a Parquet file",
    "output": "output: no run folder named; give --output with a folder or an s3:// location",
    "run": "run: no run named; give --run with the folder or s3:// location that was --output",
    "to": "to: no place named; give --to (--help says what it may be)",
}


def parse(command: Command, argv: Sequence[str]) -> Arguments:
    """The arguments of a command, checked. Prints the help and exits with 0 on ``--help``.

    Without a preset named anywhere it is `DEFAULT_PRESET`, unless the file or the command line names a model: then
    the defaults are the start. Raises UserError in one line for whatever is wrong.
    """
    options, dotted = _split(command, argv)
    if "help" in options:
        print(helptext.page(command, options["help"], options.get("preset", DEFAULT_PRESET)))
        sys.exit(0)
    dotted += [(_SHORT[name], text) for name, text in options.items() if name in _SHORT]
    dotted += [("log.form", "json")] if "log-json" in options else []
    layer = [_setting(command, path, text) for path, text in dotted]
    layers, preset, assumed = [[one for one in layer if within(one.path, ["log"])]], None, False
    if command.starts:
        layers, preset = _start(layer, options)
        assumed = preset is None and not any(one.path in _MODELS for each in layers for one in each)
        preset = DEFAULT_PRESET if assumed else preset
        layers = [load_preset(preset), *layers] if preset else layers
    settings, origins = resolve(layers)
    settings.preset = preset or ""
    found = {**options, "data": settings.data.uri, "output": settings.output}
    for name in command.needs:
        if not found.get(name):
            raise UserError(_MISSING[name])
    return Arguments(options, settings, origins, layer, assumed)


def _start(layer: Layer, options: dict[str, str]) -> tuple[list[Layer], str | None]:
    """The file's layer and the command line's, and the preset that one of them names."""
    if "config" not in options:
        return [layer], options.get("preset")
    file, preset = load_file(Path(options["config"]).expanduser(), options["config"])
    return [file, layer], options.get("preset", preset)


def _setting(command: Command, path: str, text: str) -> Given:
    leaf, _ = find(path, "command line")
    if not within(leaf.path, (*command.settings, "log")):
        only = f"; here only {', '.join(command.settings)} can be set" if command.settings else ""
        raise UserError(f"{path}: was fixed when the run was made{only}")
    return given(path, text, "command line", typed=True)


def _split(command: Command, argv: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The command's own options by name, and the settings in order."""
    options: dict[str, str] = {}
    dotted: list[tuple[str, str]] = []
    words, takes = list(argv), command.takes
    while words:
        word = words.pop(0)
        name, equals, text = word[2:].partition("=")
        if word == "-h" or (word.startswith("--") and name == "help"):
            options["help"] = text if equals else words.pop(0) if words and not words[0].startswith("-") else ""
            continue
        if not word.startswith("--") or word == "--":
            raise UserError(f"{word!r}: what is this? Options are given as --name value")
        if name not in takes and "." not in name and name not in leaves() and name not in sections():
            names = [f"--{known}" for known in (*takes, *leaves()) if known in takes or within(known, command.settings)]
            raise UserError(f"--{name}: no such option{did_you_mean(f'--{name}', names)}")
        if takes.get(name, True):
            if not equals and (not words or words[0].startswith("--")):
                raise UserError(f"--{name}: needs a value (one that starts with -- is given as --{name}=VALUE)")
            text = text if equals else words.pop(0)
        elif equals:
            raise UserError(f"--{name}: takes no value")
        if name in takes:
            options[name] = text
        else:
            dotted.append((name, text))
    return options, dotted
