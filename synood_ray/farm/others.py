"""Other drivers of the same run: what they commit is taken in, so that all share the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from synood_ray.farm.queue import Lease, UnitQueue
from synood_ray.farm.retry import WHOLE, Retry
from synood_ray.storage import layout
from synood_ray.storage.stores.base import Store

LOOK_AROUND = 30.0  # seconds between listings of what others may have committed
LOOK_AGAIN = 5.0  # the same while somebody else is known to be at work
_SHARE = 20  # a listing that takes long is made less often: at most one part in 20 of the time


class Others:
    """Looks into the store for units that this driver's queues do not know to be committed."""

    def __init__(self, store: Store, describing: UnitQueue, sampling: UnitQueue, retry: Mapping[int, Retry]) -> None:
        self.store, self.describing, self.sampling, self.retry = store, describing, sampling, retry
        self.due = time.monotonic() + LOOK_AROUND

    def met(self, queue: UnitQueue, lease: Lease) -> None:
        """A unit of this queue was done by somebody else: work elsewhere, and look soon what else there is."""
        queue.leap(lease)
        self.due = min(self.due, time.monotonic() + LOOK_AGAIN)

    def look(self) -> None:
        """Take in what is committed by now, if it is time to look."""
        begin = time.monotonic()
        if begin < self.due:
            return
        prompts = self._list(layout.PROMPTS, self._described)
        parts = self._list(layout.PARTS, self._sampled)
        new = self.describing.commit_others(prompts)
        self.sampling.add_all(prompts)
        new += self.sampling.commit_others(parts)
        if new:
            self.describing.share()
            self.sampling.share()
        self.due = begin + max(LOOK_AGAIN if new else LOOK_AROUND, _SHARE * (time.monotonic() - begin))

    def _list(self, folder: str, unit_of: Callable[[str], int | None]) -> np.ndarray:
        units = (unit_of(entry.key) for entry in self.store.list(folder))
        own = len(self.sampling)  # a file that was copied there may be named after a unit that the run does not have
        return np.fromiter((unit for unit in units if unit is not None and unit < own), dtype=np.int64)

    def _described(self, key: str) -> int | None:
        """The unit whose prompts are complete with this file."""
        name = layout.prompts_unit(key)
        again = self.retry.get(name[0], WHOLE) if name else WHOLE
        return name[0] if name and name[1] == (again.number if again.undescribed else 0) else None

    def _sampled(self, key: str) -> int | None:
        """The unit that a part completes: its own part, or the very retry that is to be done."""
        name = layout.part_unit(key)
        return name[0] if name and name[1] == self.retry.get(name[0], WHOLE).number else None
