"""Attempts that failed: their records in ``errors/``, and what becomes of their units."""

from __future__ import annotations

from collections.abc import Mapping

from synood_ray.farm.observers import Observer, UnitFailed, UnitQuarantined
from synood_ray.farm.queue import Lease, State
from synood_ray.farm.retry import WHOLE, Retry
from synood_ray.farm.stage import Stage
from synood_ray.storage import layout
from synood_ray.storage.stored_json import put_json
from synood_ray.storage.stores.base import Store

NO_PROMPTS = "its prompts failed"


class Failures:
    """What is kept of failed attempts, and told."""

    def __init__(self, store: Store, stages: tuple[Stage, Stage], retry: Mapping[int, Retry], tell: Observer) -> None:
        self._store, self._retry, self._tell = store, retry, tell
        self._describing, self._sampling = stages
        self._vain: set[int] = set()

    @property
    def quarantined(self) -> int:
        """Units that have no part and will get none."""
        return self._sampling.queue.counts().quarantined - self.vain_retries

    @property
    def vain_retries(self) -> int:
        """Units whose failed samples failed again as a whole, and nobody else made; their parts stay as they were."""
        return sum(self._sampling.queue.state(unit) is State.QUARANTINED for unit in self._vain)

    def record(self, stage: Stage, lease: Lease, error: str, cause: str, details: str = "") -> None:
        """Keep a failed attempt; with the last one the unit is quarantined, and so are its samples.

        error: one line. cause: see `UnitFailed`. details: what errors/ keeps instead, such as a traceback.
        """
        self._tell(UnitFailed(stage.name, lease.unit, lease.worker, lease.attempt, error, cause))
        given_up = stage.queue.state(lease.unit) is State.QUARANTINED
        again = bool(self._retry.get(lease.unit, WHOLE).number)  # has a part, and keeps it
        if given_up and again:  # also if it is the new prompts that cannot be had
            self._vain.add(lease.unit)
        self._put(stage, lease.unit, lease.attempt, details or error, final=given_up and not again)
        if given_up:
            self._tell(UnitQuarantined(stage.name, lease.unit, error))
        if given_up and stage is self._describing:
            self._sampling.queue.quarantine(lease.unit)
            if not again:
                self._put(self._sampling, lease.unit, 1, NO_PROMPTS, final=True)
            self._tell(UnitQuarantined(self._sampling.name, lease.unit, NO_PROMPTS))

    def _put(self, stage: Stage, unit: int, attempt: int, error: str, *, final: bool) -> None:
        key = layout.error_key(stage.folder, unit, attempt, final=final)
        put_json(self._store, key, {"unit": unit, "attempt": attempt, "error": error})
