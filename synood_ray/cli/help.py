"""The text of --help: a short first page, then every setting with its meaning, what it may be, and its default."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from typing import Any, get_args

import yaml

from synood_ray.cli.command import LOGGING, Command
from synood_ray.cli.layers import DEFAULT_PRESET, load_preset
from synood_ray.cli.tree import Leaf, did_you_mean, leaves, sections, within
from synood_ray.config.models import ScoreName
from synood_ray.errors import UserError
from synood_ray.scores import SCORES

_COLUMN = 26
EVERYTHING = "all"
_CHOICES: dict[Any, dict[str, str]] = {
    ScoreName: {name: f"{score.summary} ({score.paper})" for name, score in SCORES.items()}
}
"""What the names that a setting may have stand for, where a table of ours says it."""

_NOTE = (
    "Every setting is an option, as --sampling.rounds 6 or --sampling.rounds=6; lists and tables are YAML, one entry "
    "of a table is --evaluation.near.NAME URI, nothing is null. The command line goes over the file, the file over "
    "the preset. Settings with a * may change when a run is resumed."
)


def page(command: Command, topic: str = "", preset: str = DEFAULT_PRESET) -> str:
    """The help of a command. topic: "" for the first page, a section, a setting, or "all".

    preset: the preset whose values are shown beside the defaults. Raises UserError if there is no such topic.
    """
    mine = [leaf for leaf in leaves().values() if within(leaf.path, command.settings)]
    own = {one.path: f"; {preset}: {show(one.value)}" for one in load_preset(preset)} if command.starts else {}
    if not topic:
        return "\n".join(_first_page(command, mine, own))
    chosen = mine if topic == EVERYTHING else [leaf for leaf in mine if within(leaf.path, [topic])]
    if not chosen and topic != EVERYTHING:
        names = [name for name in (*sections(), *leaves()) if within(name, command.settings)]
        known = ", ".join(name for name in names if name in sections() and "." not in name)
        raise UserError(f"--help {topic}: no such section{did_you_mean(topic, names)} (sections: {known or 'none'})")
    lines = [*_first_page(command, [], own), ""] if topic == EVERYTHING else []
    lines.append(_wrap(_NOTE))
    for section, about in {"": "", **sections()}.items():
        members = [leaf for leaf in chosen if leaf.path.rpartition(".")[0] == section]
        if members:
            lines += ["", _wrap(f"{section}: {about}" if section else "General settings")]
            lines += [_setting(leaf, own) for leaf in members]
    return "\n".join(lines)


def _first_page(command: Command, mine: list[Leaf], own: Mapping[str, str]) -> list[str]:
    """Usage, options, the settings that people change, and one line per section; without ``mine`` no settings."""
    needed = tuple(f"--{name} " for name in command.needs if name != "data")
    words = [option if option.startswith(needed) else f"[{option}]" for option in command.options]
    words += ["[--SETTING VALUE]…"] if command.settings else []
    usage = " ".join(word.replace(" ", "\xa0") for word in ("usage: synood", command.name, *words))  # kept together
    lines = [_wrap(command.about), "", _wrap(usage, 14).replace("\xa0", " "), ""]
    lines += [_row(*pair) for pair in {**command.options, **LOGGING}.items()]
    often = [leaf for name in command.often for leaf in mine if leaf.path == name]
    if often:
        lines += ["", "settings that are changed most:", *(_setting(leaf, own) for leaf in often)]
    if mine:
        lines += ["", f"sections (synood {command.name} --help SECTION; --help all: everything):"]
        tops = [name for name in sections() if "." not in name and any(within(leaf.path, [name]) for leaf in mine)]
        lines += [_row(name, sections()[name]) for name in tops]
    shown = [f"  synood {command.name} {words}".rstrip() for words in command.examples]
    return [*lines, "", "examples:", *shown] if shown else lines


def _setting(leaf: Leaf, own: Mapping[str, str]) -> str:
    """A setting, and what the names that it may have stand for. own: what the preset has, by setting."""
    name = f"--{leaf.path}{'.NAME' if leaf.entries else ''}{' *' if leaf.operational else ''}"
    default = f"default: {show(leaf.default)}{own.get(leaf.path, '')}"
    items = {*leaf.kinds, *(item for kind in leaf.kinds for item in get_args(kind))}
    choices = [one for kind, meanings in _CHOICES.items() if kind in items for one in meanings.items()]
    lines = [_wrap(f"{' ' * _COLUMN}{choice}: {meaning}", _COLUMN) for choice, meaning in choices]
    return "\n".join([_row(name, f"{leaf.info.description} ({leaf.expected}; {default})"), *lines])


def _row(name: str, text: str) -> str:
    """A name and its explanation beside it, or beneath if the name is long."""
    head = f"  {name:<{_COLUMN - 2}}"
    if len(head) > _COLUMN or head[-1] != " ":
        head = f"  {name}\n{' ' * _COLUMN}"
    return head + _wrap(" " * _COLUMN + text, _COLUMN)[_COLUMN:]


def show(value: Any) -> str:
    """A value as it could be typed into a configuration file."""
    if isinstance(value, str) and _reads_as_itself(value):
        return value
    # PyYAML does not escape every line break of Unicode if it may write Unicode
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=str(value).isprintable())
    return text.removesuffix("...\n").strip()


def _reads_as_itself(text: str) -> bool:
    try:
        return bool(yaml.safe_load(f"x: {text}") == {"x": text})
    except yaml.YAMLError:
        return False


def _wrap(text: str, indent: int = 0) -> str:
    """Wrapped text; indent: of all lines but the first."""
    return textwrap.fill(text, width(), subsequent_indent=" " * indent, break_on_hyphens=False)


def width() -> int:
    """Columns to write: the terminal's, within what is good to read."""
    return max(80, min(100, shutil.get_terminal_size().columns))
