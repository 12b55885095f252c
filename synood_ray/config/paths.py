"""Paths in the settings that depend on where a command was typed: workers on other machines are elsewhere."""

from __future__ import annotations

import os
from operator import attrgetter
from pathlib import Path

from synood_ray.config.settings import Settings
from synood_ray.errors import UserError

READ = (
    "data.uri",
    "data.calibration",
    "data.class_names",
    "describer.contexts",
    "prompts.groups",
    "prompts.blind",
    "prompts.named_by",
    "sampling.masks",
    "labels.candidates",
)
"""Settings that may name a local file or folder to read. The same string may be a word of ours instead."""

MODELS = ("describer.model", "inpainter.model", "scorer.model", "detector.model")
"""Settings that may name a model's folder. What they say is stored with every sample, and so stays as it was typed."""

_PACKAGE = "/runtime_resources/"


def submitted() -> bool:
    """Whether this process is the entrypoint of `ray job submit`, whose folder is a copy that Ray removes."""
    return bool(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


def check_output(output: str) -> None:
    """Raise UserError if what is written there would go with Ray's copy of the working directory."""
    if not submitted() or "://" in output.removeprefix("file://"):
        return
    path = Path(output.removeprefix("file://")).expanduser()
    if not path.is_absolute():
        raise UserError(
            f"output: {output!r} is relative, and a submitted job runs in a copy of its working directory, which Ray "
            "removes; give an absolute path that all machines share, or s3://bucket/prefix"
        )
    if _PACKAGE in f"{path.resolve()}/":
        raise UserError(
            f"output: {output} lies in Ray's copy of the working directory, which Ray removes; choose another"
        )


def absolute(settings: Settings) -> Settings:
    """The settings for workers, whose working directory is another: relative paths of what is there made absolute.

    In a submitted job they stay: every worker has its own copy of the working directory, and starts there.
    """
    if submitted():
        return settings
    found = settings.model_copy(deep=True)
    for name, path in _relative(settings, READ):
        section, field = name.split(".")
        setattr(getattr(found, section), field, str(path.absolute()))
    return found


def check_models(settings: Settings) -> None:
    """Raise UserError for a model's folder that workers, whose working directory is another, would look for there."""
    for name, path in [] if submitted() else _relative(settings, MODELS):
        raise UserError(f"{name}: {path} is relative, and the cluster's workers are elsewhere; give {path.absolute()}")


def _relative(settings: Settings, names: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Those of these settings that name something here by a relative path."""
    values = [(name, attrgetter(name)(settings)) for name in names]
    paths = [(name, Path(value).expanduser()) for name, value in values if value and "://" not in value]
    return [(name, path) for name, path in paths if not path.is_absolute() and path.exists()]
