"""Layers of settings (preset, file, command line) and how they become one `Settings`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from synood_ray.cli.tree import did_you_mean, find, flatten, leaves, nest
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

PRESETS = Path(__file__).parent.parent / "config" / "presets"
DEFAULT_PRESET = "mini"

# What belongs to one image set: whoever names another data.uri starts without them.
_GO_WITH_DATA = (
    *("data.calibration", "data.class_names", "data.image_column", "data.label_column", "data.where", "prompts.groups"),
    *("evaluation.id_test", "evaluation.near", "evaluation.far", "evaluation.where"),
)


class Given(NamedTuple):
    """One setting, or one entry of a table, with its checked value and where exactly it was given."""

    path: str
    entry: str
    value: Any
    origin: str


Layer = list[Given]
"""What one place gives, in order."""


def given(path: str, value: Any, origin: str, *, typed: bool = False) -> Given:
    """Check one value; typed: as a string on a command line. Raises UserError."""
    leaf, entry = find(path, origin)
    if entry:
        return Given(leaf.path, entry, leaf.check_entry(entry, value, origin), origin)
    return Given(leaf.path, "", leaf.check(leaf.parse(value) if typed else value, origin), origin)


def resolve(layers: Sequence[Layer], base: Mapping[str, Any] | None = None) -> tuple[Settings, dict[str, str]]:
    """One `Settings` from layers, later ones first, over the defaults (or ``base``, full name -> value).

    Returns the settings and where each value that a layer gave came from.
    """
    values = {path: leaf.default for path, leaf in leaves().items()} if base is None else dict(base)
    origins: dict[str, str] = {}
    uris = [one.value for layer in layers for one in layer if one.path == "data.uri"]
    for layer in layers:
        replaced = any(one.path == "data.uri" and one.value != uris[-1] for one in layer)
        for path, entry, value, origin in layer:
            if not (replaced and path in _GO_WITH_DATA):
                values[path] = {**values[path], entry: value} if entry else value
                origins[path] = origin
    try:
        return Settings.model_validate(nest(values)), origins
    except ValidationError as error:  # every value was checked by itself: what is left are rules between them
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from error


def preset_names() -> list[str]:
    """Names of the bundled presets, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str) -> Layer:
    """A bundled preset, over the one that it starts from. Raises UserError with the list of them."""
    if name not in preset_names():
        near = did_you_mean(name, preset_names())
        raise UserError(f"preset: there is no preset {name!r}{near} (presets: {', '.join(preset_names())})")
    layer, base = load_file(PRESETS / f"{name}.yaml", f"preset {name}")
    return (load_preset(base) if base else []) + [one._replace(origin=f"preset {name}") for one in layer]


def load_file(path: Path, shown: str) -> tuple[Layer, str | None]:
    """A YAML file of settings, and the preset that it names. Raises UserError with the file and the line."""
    lines: dict[str, int] = {}
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        tree = {} if node is None else loader.construct_document(node)
        for name, line in _lines(node, ""):
            if lines.setdefault(name, line) != line:
                first = lines[name]
                raise UserError(f"{shown}, line {line}: {name} is set a second time (first in line {first})")
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{shown}, line {at}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{shown}: not a YAML file: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"config: cannot read {shown}: {error.strerror}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{shown}: must hold settings as name: value, not a single {type(tree).__name__}")
    preset = tree.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise UserError(f"preset: must be a name, not {preset!r} ({shown}, line {lines['preset']})")
    found = flatten(tree)
    return [given(n, value, f"{shown}, line {lines[n]}" if n in lines else shown) for n, value in found], preset


def _lines(node: yaml.Node | None, prefix: str) -> Iterable[tuple[str, int]]:
    """(full name, line) of every key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{prefix}{key.value}", key.start_mark.line + 1
            yield from _lines(value, f"{prefix}{key.value}.")
