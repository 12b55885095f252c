"""How long each job of a run took, for the summary: kept beside the run, never part of its results."""

from __future__ import annotations

from collections.abc import Mapping

from synood_ray.storage import layout
from synood_ray.storage.run import load_json, put_json
from synood_ray.storage.stores.base import Store

JOBS = ("synthesize", "finetune", "evaluate")


def record_timings(store: Store, job: str, seconds: Mapping[str, float]) -> None:
    """Store the wall seconds by stage of the call that finished a job; a later call does not change them."""
    stages = [{"stage": stage, "seconds": round(value, 2)} for stage, value in seconds.items()]
    put_json(store, f"{layout.TIMINGS}{job}.json", stages)


def read_timings(store: Store) -> dict[str, float]:
    """Wall seconds by stage of all jobs, in the order of their stages."""
    found: dict[str, float] = {}
    for job in JOBS:
        for entry in load_json(store, f"{layout.TIMINGS}{job}.json") or []:
            found[entry["stage"]] = entry["seconds"]
    return found
