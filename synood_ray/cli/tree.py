"""The settings tree as a flat list of named fields (leaves), each of which can check a value and describe itself."""

from __future__ import annotations

import difflib
import functools
import math
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "min_length": "entries: at least"}
_KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "a string", type(None): "null"}


@dataclass(frozen=True)
class Leaf:
    """One setting: ``path`` is its full dotted name."""

    path: str
    info: FieldInfo
    default: Any

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types it may have: (str, NoneType) for an optional string."""
        kind = self.info.annotation
        return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)

    @property
    def entries(self) -> bool:
        """Whether it is a table of named entries, each of which can be set by itself."""
        return get_origin(self.info.annotation) is dict

    @property
    def operational(self) -> bool:
        """Whether it may change between two runs of the same command (it does not change results)."""
        extra = self.info.json_schema_extra
        return isinstance(extra, Mapping) and bool(extra.get("operational"))

    @property
    def secret(self) -> bool:
        """Whether its value is not to be shown."""
        extra = self.info.json_schema_extra
        return isinstance(extra, Mapping) and bool(extra.get("secret"))

    @property
    def expected(self) -> str:
        """What a value must be, in words: "an integer, at least 1"."""
        limits = (
            f"{word} {_number(getattr(limit, name))}"
            for limit in self.info.metadata
            for name, word in _LIMITS.items()
            if hasattr(limit, name)
        )
        return ", ".join([" or ".join(map(_in_words, self.kinds)), *limits])

    def parse(self, text: str) -> Any:
        """The value that a command-line string stands for, not yet checked."""
        if type(None) in self.kinds and text.lower() in ("null", "none", "~"):
            return None
        if get_origin(self.info.annotation) in (list, dict):
            try:
                return yaml.safe_load(text)
            except yaml.YAMLError:
                return text
        return text  # pydantic reads numbers and truth values from strings; a string stays what was typed

    def check(self, value: Any, origin: str) -> Any:
        """The value in its own type. Raises UserError naming the setting, what it must be, and where it came from."""
        try:
            if isinstance(value, bool) and bool not in self.kinds and str not in self.kinds:
                raise ValueError  # YAML's yes and no; pydantic would take them for 1 and 0
            checked = TypeAdapter(self.info.rebuild_annotation()).validate_python(value)
            if isinstance(checked, float) and not math.isfinite(checked):
                raise ValueError
        except (ValidationError, ValueError) as error:
            if isinstance(error, ValidationError) and error.errors()[0]["type"] == "value_error":
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")  # a rule of ours, told in its own words
                raise UserError(f"{self.path}: {reason} ({origin})") from error
            hint = "; quote it" if str in self.kinds and not isinstance(value, (str, list, dict)) else ""
            raise UserError(f"{self.path}: must be {self.expected}, not {value!r}{hint} ({origin})") from error
        return checked

    def check_entry(self, name: str, text: str, origin: str) -> Any:
        """The value of one named entry of a table."""
        kind = get_args(self.info.annotation)[1]
        return Leaf(f"{self.path}.{name}", FieldInfo(annotation=kind), None).check(text, origin)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        if item is float:
            return "two numbers [low, high], or one"
        return f"a list, each {_in_words(item)}" if get_origin(item) is Literal else "a list of strings"
    if get_origin(kind) is dict:
        return "a table of names and " + ("numbers" if get_args(kind)[1] is float else "strings")
    return _KINDS[kind]


@functools.cache
def leaves() -> dict[str, Leaf]:
    """All settings by full name, in the order of the tree."""
    return {path: found for path, found in _walk(Settings(), "") if isinstance(found, Leaf)}


@functools.cache
def sections() -> dict[str, str]:
    """All sections by full name ("farm.samplers") with what they are about."""
    return {path: found for path, found in _walk(Settings(), "") if isinstance(found, str)}


def _walk(model: BaseModel, prefix: str) -> Iterator[tuple[str, Leaf | str]]:
    for name, info in type(model).model_fields.items():
        path, value = f"{prefix}{name}", getattr(model, name)
        if isinstance(value, BaseModel):
            yield path, info.description or (type(value).__doc__ or "").strip().split("\n")[0]
            yield from _walk(value, f"{path}.")
        else:
            yield path, Leaf(path, info, value)


def within(path: str, names: Iterable[str]) -> bool:
    """Whether a setting is one of ``names``, which may be settings or sections."""
    return any(path == name or path.startswith(f"{name}.") for name in names)


def find(path: str, origin: str) -> tuple[Leaf, str]:
    """The setting of a full name, and the entry's name if it points into a table (``evaluation.near.mini``).

    Raises UserError with the name that was probably meant.
    """
    for name, leaf in leaves().items():
        if path == name or (leaf.entries and path.startswith(f"{name}.") and len(path) > len(name) + 1):
            return leaf, path[len(name) + 1 :]
    if path in sections():
        first = next(known for known in leaves() if within(known, [path]))
        raise UserError(f"{path}: is a section; name one of its settings, such as {first} ({origin})")
    raise UserError(f"{path}: no such setting{did_you_mean(path, [*leaves(), *sections()])} ({origin})")


def did_you_mean(name: str, names: Collection[str]) -> str:
    """ "; did you mean X?" if a name is near, else nothing. A last part that fits exactly counts as near."""
    last = _last(name)
    near = [known for known in names if _last(known) == last]
    if len(near) != 1:
        near = difflib.get_close_matches(name, near or names, 1, 0.0 if near else 0.6)
    if not near:  # a wrong section and a misspelt last part
        lasts = {_last(known): known for known in names}
        near = [lasts[match] for match in difflib.get_close_matches(last, list(lasts), 1, 0.75)]
    return f"; did you mean {near[0]}?" if near else ""


def _last(name: str) -> str:
    return name.removeprefix("--").rpartition(".")[2]


def value_of(settings: BaseModel, path: str) -> Any:
    """The value of a setting by its full name."""
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(full name, value) of every setting in a nested mapping; an empty section (YAML null) sets nothing."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in sections() and (value is None or isinstance(value, Mapping)):
            yield from flatten(value or {}, f"{path}.")
        else:
            yield path, value


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `flatten`, over the defaults."""
    tree = Settings().model_dump()
    for path, value in values.items():
        *above, last = path.split(".")
        functools.reduce(dict.__getitem__, above, tree)[last] = value
    return tree
