"""Which settings make two runs the same: a hash to compare, and the differences by name to tell the user."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from synood_ray.config.settings import Settings
from synood_ray.locations import public

_LATER = {"training", "detector", "evaluation"}
"""Sections that work on finished samples and change none."""

_CHANGEABLE = {"sampling.mllm_check", "sampling.batch_size"}
"""What may change when a run resumes: a check whose describer has gone, or cannot make it, can be left out; a machine
with less memory takes smaller batches, which round differently (the rows say so: `arithmetic`)."""

_WHEREABOUTS = {"data.uri"}
"""Where an input is, not what it is: the images' identity is in the ID manifest."""


def fingerprint(settings: Settings, id_manifest_sha256: str) -> str:
    """Hex sha256 over the selected images and over every setting that can change a sample.

    id_manifest_sha256: `synood_ray.storage.sources.sources_digest` of the selection.
    """
    fields = dict(counted_fields(settings.model_dump(mode="json")))
    text = json.dumps({"images": id_manifest_sha256, "settings": fields}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Settings) -> list[str]:
    """Fields that can change a sample and differ between a stored configuration and new settings, both values named.

    A field that the stored configuration does not know yet counts as its default, or as what was done before it came.
    Without those of `changes`.
    """
    return [told for name, told in _differences(old, new).items() if name not in _CHANGEABLE]


def changes(old: Mapping[str, Any], new: Settings) -> list[str]:
    """As `differences`: the fields that a run may resume with though they change what is still to be made."""
    return [told for name, told in _differences(old, new).items() if name in _CHANGEABLE]


def _differences(old: Mapping[str, Any], new: Settings) -> dict[str, str]:
    before = dict(counted_fields(public(old)))
    after = dict(counted_fields(public(new.model_dump(mode="json"))))
    return {
        name: f"{name}: {json.dumps(before[name])} in the run, {json.dumps(after[name])} now"
        for name in after
        if before[name] != after[name]
    }


def same_place(one: str, other: str) -> bool:
    """Whether two locations name the same place: URIs literally, local paths by where they lead."""
    if one == other or "://" in one + other:
        return one == other
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def counted_fields(
    values: Mapping[str, Any], model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every setting that can change a sample, from a configuration in JSON's types.

    `json_schema_extra` marks the others as operational, a field or a whole section.
    """
    for name, field in model.model_fields.items():
        dotted = prefix + name
        extra = field.json_schema_extra
        if (isinstance(extra, dict) and extra.get("operational")) or dotted in _LATER | _WHEREABOUTS:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from counted_fields(values.get(name, {}), field.annotation, f"{dotted}.")
        elif name in values:
            yield dotted, values[name]
        else:
            default = model().model_dump(mode="json")[name]
            yield dotted, extra.get("before", default) if isinstance(extra, dict) else default
