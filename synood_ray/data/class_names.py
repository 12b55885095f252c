"""The map from a class folder (or wnid) to the name that people use: JSON object, CSV of two columns, or ImageNet's."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from synood_ray.data import files
from synood_ray.data.images import ClassInfo, display_name
from synood_ray.data.names import complaint, readable
from synood_ray.errors import UserError

IMAGENET = "imagenet"
"""``data.class_names``: the bundled names of ImageNet-1k's wnids."""

BY_KEY = "keys"
"""``data.class_names``: classes are called as the data call them, even where that looks like a wnid."""

_WNID = re.compile(r"n\d{8}")


def name_classes(
    keys: Sequence[str], address: str | None, place: str = "the set", setting: str = "data.uri"
) -> list[ClassInfo]:
    """Classes in the order of ``keys``, named by the file at ``address``, or by themselves without one.

    Without one, ImageNet-1k's wnids get their names; other wnids, splits, numbers, ids and blanks are refused: they
    would go into prompts as such. place, setting: where the classes are, for the message.
    Raises UserError if the file cannot be read or lacks a key. Keys that it has beyond are ignored (so a CSV may
    have a heading); equal names of different keys stay different classes.
    """
    wnids = address is None and bool(keys) and all(_WNID.fullmatch(key) for key in keys)
    if address == BY_KEY:
        return [ClassInfo(key, display_name(key)) for key in keys]
    if address is None and not wnids:
        if wrong := complaint(keys, place):
            raise UserError(f"{setting}: {place} {wrong}")
        return [ClassInfo(key, name) for key, name in zip(keys, readable(keys), strict=True)]
    if wnids:
        unknown = [key for key in keys if key not in imagenet_names()]
        if unknown:
            raise UserError(
                f"the classes are wnids, and {unknown[0]!r} is none of ImageNet-1k's: set data.class_names to a JSON "
                f"or CSV file that maps each to its name ({len(unknown)} of {len(keys)} are unknown)"
            )
        address = IMAGENET
    assert address is not None
    names = imagenet_names() if address == IMAGENET else read_class_names(address)
    missing = [key for key in keys if key not in names]
    if missing:
        shown = ", ".join(repr(key) for key in missing[:5]) + (" …" if len(missing) > 5 else "")
        raise UserError(f"data.class_names: {address} has no name for {len(missing)} of {len(keys)} classes: {shown}")
    return [ClassInfo(key, names[key]) for key in keys]


@lru_cache(maxsize=1)
def imagenet_names() -> dict[str, str]:
    """wnid -> name of ImageNet-1k's classes; two names occur twice (missile, sunglasses)."""
    text = resources.files("synood_ray.data").joinpath("imagenet.txt").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def read_class_names(address: str, setting: str = "data.class_names") -> dict[str, str]:
    """The map as it stands in the file that a setting names. Raises UserError naming the file, and the line."""
    try:
        text = files.read_bytes(files.absolute(address)).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{setting}: cannot read {address}: {error}") from error
    names = _from_json(text, address, setting) if address.endswith(".json") else _from_csv(text, address, setting)
    for key, name in names.items():
        if not name.split():
            raise UserError(f"{setting}: {address} gives {key!r} an empty name")
    return {key: display_name(name) for key, name in names.items()}


def _from_json(text: str, address: str, setting: str) -> dict[str, str]:
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{setting}: {address}, line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{setting}: {address} is nested too deeply; it must be one object of strings") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f'{setting}: {address} must be one object of strings, such as {{"n01440764": "tench"}}')
    return names


def _from_csv(text: str, address: str, setting: str) -> dict[str, str]:
    names: dict[str, str] = {}
    rows = csv.reader(io.StringIO(text, newline=""))
    for row in rows:
        if not row:
            continue
        if len(row) != 2:
            raise UserError(
                f"{setting}: {address}, line {rows.line_num}: {len(row)} columns instead of two "
                "(class, name); put a name that contains a comma in double quotes"
            )
        if names.setdefault(row[0], row[1]) != row[1]:
            raise UserError(f"{setting}: {address}, line {rows.line_num}: a second name for {row[0]!r}")
    return names
