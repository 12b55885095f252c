"""The settings tree as a flat list of named fields (leaves), each of which can check a value and describe itself."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError


@dataclass(frozen=True)
class Leaf:
    """One setting: ``path`` is its full dotted name."""

    path: str
    info: FieldInfo
    default: Any

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types it may have: (str, NoneType) for an optional text."""
        kind = self.info.annotation
        return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)

    @property
    def optional(self) -> bool:
        return type(None) in self.kinds

    @property
    def entries(self) -> bool:
        """Whether it is a table of named entries, each of which can be set by itself."""
        return get_origin(self.info.annotation) is dict

    @property
    def operational(self) -> bool:
        """Whether it may change between two runs of the same command (it does not change results)."""
        extra = self.info.json_schema_extra
        return isinstance(extra, Mapping) and bool(extra.get("operational"))

    def parse(self, text: str) -> Any:
        """The value that a command-line text stands for, not yet checked."""
        if self.optional and text.lower() in ("null", "none", "~"):
            return None
        if get_origin(self.info.annotation) in (list, dict):
            try:
                return yaml.safe_load(text)
            except yaml.YAMLError:
                return text
        return text  # pydantic reads numbers and truth values from texts; a text stays what was typed

    def check(self, value: Any, origin: str) -> Any:
        """The value in its own type. Raises UserError naming the setting, what it must be, and where it came from."""
        wrong_bool = isinstance(value, bool) and bool not in self.kinds and str not in self.kinds
        try:
            if wrong_bool:  # YAML's yes and no; pydantic would take them for 1 and 0
                raise ValueError
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
        entry = Leaf(f"{self.path}.{name}", FieldInfo(annotation=kind), None)
        return entry.check(text, origin)

    @property
    def expected(self) -> str:
        """What a value must be, in words: "a whole number, at least 1"."""
        words = " or ".join(_kind_in_words(kind) for kind in self.kinds)
        return ", ".join([words, *self.limits])

    @property
    def limits(self) -> list[str]:
        words = []
        for limit in self.info.metadata:
            for name, word in _LIMITS.items():
                if hasattr(limit, name):
                    words.append(f"{word} {getattr(limit, name):g}")
        return words


_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "min_length": "entries: at least"}


def _kind_in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return "a list of texts"
    if get_origin(kind) is dict:
        return "a table of names and " + ("numbers" if get_args(kind)[1] is float else "texts")
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}[kind]


@cache
def leaves() -> dict[str, Leaf]:
    """All settings by full name, in the order of the tree."""
    return {leaf.path: leaf for leaf in _walk(Settings(), "")}


@cache
def sections() -> dict[str, str]:
    """All sections by full name ("farm.samplers") with what they are about."""
    return dict(_walk_sections(Settings(), ""))


def find(path: str, origin: str) -> tuple[Leaf, str]:
    """The setting of a full name, and the entry's name if it points into a table (``evaluation.near.mini``).

    Raises UserError with the name that was probably meant.
    """
    leaf = leaves().get(path)
    if leaf is not None:
        return leaf, ""
    for name, leaf in leaves().items():
        if leaf.entries and path.startswith(f"{name}.") and len(path) > len(name) + 1:
            return leaf, path[len(name) + 1 :]
    if path in sections():
        first = next(known for known in leaves() if known.startswith(f"{path}."))
        raise UserError(f"{path}: is a section; name one of its settings, such as {first} ({origin})")
    raise UserError(f"{path}: no such setting{did_you_mean(path, [*leaves(), *sections()])} ({origin})")


def did_you_mean(name: str, names: list[str]) -> str:
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


def flatten(values: Mapping[str, Any], origin: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(full name, value) of every setting in a nested mapping; an empty section (YAML null) sets nothing."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in sections() and (value is None or isinstance(value, Mapping)):
            yield from flatten(value or {}, origin, f"{path}.")
        else:
            yield path, value


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *above, last = path.split(".")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def _walk(model: BaseModel, prefix: str) -> Iterator[Leaf]:
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield Leaf(f"{prefix}{name}", info, value)


def _walk_sections(model: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield f"{prefix}{name}", info.description or (type(value).__doc__ or "").strip().split("\n")[0]
            yield from _walk_sections(value, f"{prefix}{name}.")
