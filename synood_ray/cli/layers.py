"""Layers of settings (preset, file, command line) and how they become one `Settings`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from synood_ray.cli.tree import did_you_mean, find, flatten, leaves, nest
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

PRESETS = Path(__file__).parent.parent / "config" / "presets"

# What belongs to one data set: whoever names another data.uri starts without them.
COMPANIONS = (
    "data.calibration",
    "data.class_names",
    "data.image_column",
    "data.label_column",
    "evaluation.id_test",
    "evaluation.near",
    "evaluation.far",
)


@dataclass
class Layer:
    """Settings from one place: full name -> checked value, and where exactly each was set."""

    values: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)  # single entries of tables
    origins: dict[str, str] = field(default_factory=dict)

    def set(self, path: str, value: Any, origin: str, *, is_text: bool = False) -> None:
        """Check and keep one value; ``is_text``: as typed on a command line."""
        leaf, entry = find(path, origin)
        if entry:
            self.entries.setdefault(leaf.path, {})[entry] = leaf.check_entry(entry, value, origin)
        else:
            self.values[leaf.path] = leaf.check(leaf.parse(value) if is_text else value, origin)
            self.entries.pop(leaf.path, None)
        self.origins[leaf.path] = origin


def resolve(layers: Sequence[Layer], base: Mapping[str, Any] | None = None) -> tuple[Settings, dict[str, str]]:
    """One `Settings` from layers, later ones first, over the defaults (or ``base``, full name -> value).

    Returns the settings and where each value that a layer set came from.
    """
    values = {path: leaf.default for path, leaf in leaves().items()} if base is None else dict(base)
    origins: dict[str, str] = {}
    uris = [layer.values["data.uri"] for layer in layers if "data.uri" in layer.values]
    for layer in layers:
        replaced = "data.uri" in layer.values and layer.values["data.uri"] != uris[-1]
        for path, value in layer.values.items():
            if not (replaced and path in COMPANIONS):
                values[path], origins[path] = value, layer.origins[path]
        for path, entries in layer.entries.items():
            if not (replaced and path in COMPANIONS):
                values[path], origins[path] = {**values[path], **entries}, layer.origins[path]
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
    """A bundled preset. Raises UserError with the list of them."""
    if name not in preset_names():
        near = did_you_mean(name, preset_names())
        raise UserError(f"preset: there is no preset {name!r}{near} (presets: {', '.join(preset_names())})")
    layer, _ = load_file(PRESETS / f"{name}.yaml", f"preset {name}")
    layer.origins = dict.fromkeys(layer.origins, f"preset {name}")
    return layer


def load_file(path: Path, shown: str) -> tuple[Layer, str | None]:
    """A YAML file of settings, and the preset that it names. Raises UserError with the file and the line."""
    tree, lines = _read_yaml(path, shown)
    preset = tree.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise UserError(f"preset: must be a name, not {preset!r} ({shown}, line {lines['preset']})")
    layer = Layer()
    for name, value in flatten(tree, shown):
        layer.set(name, value, f"{shown}, line {lines[name]}" if name in lines else shown)
    return layer, preset


def _read_yaml(path: Path, shown: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping in a file, and the line of every key by its full name."""
    lines: dict[str, int] = {}
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        tree = {} if node is None else loader.construct_document(node)
        _note_lines(node, "", lines, shown)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{shown}, line {line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{shown}: not a YAML file: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"config: cannot read {shown}: {error.strerror}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{shown}: must hold settings as name: value, not a single {type(tree).__name__}")
    return tree, lines


def _note_lines(node: yaml.Node | None, prefix: str, lines: dict[str, int], shown: str) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        line = key.start_mark.line + 1
        if name in lines:
            raise UserError(f"{shown}, line {line}: {name} is set a second time (first in line {lines[name]})")
        lines[name] = line
        _note_lines(value, f"{name}.", lines, shown)


def overrides(options: Iterable[tuple[str, str]], allowed: Sequence[str] = ()) -> Layer:
    """The layer of dotted command-line options. ``allowed``: sections or settings; empty: all."""
    layer = Layer()
    for path, text in options:
        leaf, _ = find(path, "command line")
        if allowed and not any(leaf.path == name or leaf.path.startswith(f"{name}.") for name in allowed):
            raise UserError(f"{path}: was fixed when the run was made; here only {', '.join(allowed)} can be set")
        layer.set(path, text, "command line", is_text=True)
    return layer
