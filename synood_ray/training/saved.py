"""The detector that a run has: with which settings it was trained, and whether it is the one that is asked for now."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synood_ray.config.settings import Settings
from synood_ray.detection.description import DESCRIPTION, is_stale, read_description
from synood_ray.detection.warnings import run_warnings
from synood_ray.errors import UserError
from synood_ray.storage import layout
from synood_ray.storage.run import Run
from synood_ray.storage.stores.base import Store

SCORE = "detector.score"

_BEFORE = {
    SCORE: "neglabel",
    "scorer.temperature": 1.0,
    "training.offset": False,
    "training.revision": 1,
}
"""What detectors were trained with whose settings do not say it."""

_REVISION = {"official": 2}
"""Recipes whose formulas have changed since the first version, and how often they have been written."""

_WEIGHTS = re.compile(rf"{layout.DETECTOR}weights-[0-9a-f]{{12}}\.safetensors")


@dataclass(frozen=True)
class FineTuneResult:
    """What a fine-tuning ended with. fresh: False if the detector was there already and nothing was computed; rescored:
    the score that it had, if it has only been given another.

    images: counts by kind (id, accepted, companions, far, calibration); losses: mean loss of every epoch; notes: what
    the user should know; warnings: why the detector may be worth little.
    """

    uri: str
    threshold: float
    images: dict[str, int]
    losses: list[float]
    notes: list[str]
    warnings: list[str]
    fresh: bool
    rescored: str | None = None


def existing(store: Store) -> dict[str, Any] | None:
    """The description of the run's detector as it is stored; None if there is none, or one of other samples."""
    return None if is_stale(store) else read_description(store)


def stored(found: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a detector was trained with, as in `identity`."""
    return _BEFORE | found["training"]["settings"]


def changed(found: Mapping[str, Any], settings: Settings) -> set[str]:
    """Names of the settings that are others now than the detector was trained with."""
    before, now = stored(found), json.loads(json.dumps(identity(settings)))
    return {name for name in now if before.get(name) != now[name]}


def finished(store: Store, settings: Settings, found: Mapping[str, Any]) -> FineTuneResult:
    """About the detector that is there (`existing`). Raises UserError if it is one of other settings."""
    if names := changed(found, settings):
        raise UserError(
            f"{store.uri}/{layout.DETECTOR} was trained with other settings ({', '.join(sorted(names))}); "
            "remove it to train again"
        )
    return _result(store, settings, found, fresh=False)


def done(store: Store, settings: Settings) -> FineTuneResult:
    """About the detector that has just been saved."""
    found = existing(store)
    assert found is not None, "rank 0 saves the detector before the training ends"
    return _result(store, settings, found, fresh=True)


def _result(store: Store, settings: Settings, found: Mapping[str, Any], fresh: bool) -> FineTuneResult:
    losses, notes = found["training"]["losses"], found.get("notes", [])
    warnings = run_warnings(Run.open(store), settings)
    return FineTuneResult(store.uri, found["threshold"], found["data"], losses, notes, warnings, fresh)


def remove_stale(store: Store) -> None:
    """Remove the detector if a retry has changed the samples that it was trained on."""
    if is_stale(store):
        remove_detector(store)


def remove_detector(store: Store) -> None:
    """Remove the detector and all weights; what a user has put beside them stays."""
    ours = [entry.key for entry in store.list(layout.DETECTOR) if _WEIGHTS.fullmatch(entry.key)]
    for key in (f"{layout.DETECTOR}{DESCRIPTION}", *ours):  # the description first: it names the weights
        store.delete(key)


def identity(settings: Settings) -> dict[str, Any]:
    """The settings that decide what fine-tuning makes of a run, by dotted name."""
    operational = {"workers", "gpus"}
    values = {f"training.{k}": v for k, v in settings.training.model_dump(mode="json").items() if k not in operational}
    values[SCORE] = settings.detector.score
    values["training.revision"] = _REVISION.get(settings.training.recipe, 1)
    for name in ("model", "pretrained", "revision", "templates", "temperature"):
        values[f"scorer.{name}"] = getattr(settings.clip, name)
    return values | {"labels.groups": settings.labels.groups, "seed": settings.seed}
