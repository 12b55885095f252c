"""The text of --help: every setting with its meaning, what it may be, and its default."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from synood_ray.cli.tree import Leaf, leaves, sections


def width() -> int:
    """Columns to write: the terminal's, within what is good to read."""
    return max(80, min(100, shutil.get_terminal_size().columns))


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


def option(name: str, text: str) -> str:
    """One option with its explanation beneath, wrapped."""
    return f"  {name}\n" + textwrap.fill(text, width(), initial_indent=" " * 6, subsequent_indent=" " * 6)


def setting_help(names: Sequence[str] = (), preset: str = "", preset_values: Mapping[str, Any] | None = None) -> str:
    """All settings, or those in ``names`` (sections or settings), by section.

    preset_values: what the named preset sets, shown beside the default.
    """
    chosen = [leaf for leaf in leaves().values() if leaf.path not in ("preset", "output", "limit")]
    if names:
        chosen = [leaf for leaf in chosen if any(leaf.path == n or leaf.path.startswith(f"{n}.") for n in names)]
    by_section: dict[str, list[Leaf]] = {}
    for leaf in chosen:
        by_section.setdefault(leaf.path.rpartition(".")[0], []).append(leaf)
    parts = []
    for section, members in by_section.items():
        title = f"{section}: {sections()[section]}" if section else "General settings"
        parts.append(textwrap.fill(title, width()))
        parts += [_leaf_help(leaf, preset, preset_values or {}) for leaf in members]
        parts.append("")
    return "\n".join(parts)


def examples(lines: Iterable[str]) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)


def _leaf_help(leaf: Leaf, preset: str, preset_values: Mapping[str, Any]) -> str:
    name = f"--{leaf.path}{'.NAME' if leaf.entries else ''}"
    default = f"default: {show(leaf.default)}"
    if leaf.path in preset_values:
        default += f"; {preset}: {show(preset_values[leaf.path])}"
    star = " *" if leaf.operational else ""
    return option(f"{name}{star}", f"{leaf.info.description} ({leaf.expected}; {default})")
