"""How much is made of what a driver is to make, in samples: of the whole run, or of what is run again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synood_ray.farm.observers import Portion, StageName
from synood_ray.farm.plan import Plan
from synood_ray.farm.queue import UnitQueue
from synood_ray.farm.retry import Retry


class Portions:
    """retry: what is run again, by unit; empty: all is to be made. sampled: units that have a part when this begins."""

    def __init__(
        self, plan: Plan, queues: Mapping[StageName, UnitQueue], retry: Mapping[int, Retry], sampled: np.ndarray
    ) -> None:
        whole = plan.sizes
        self._queues, self._all = queues, plan.samples
        self._sizes: dict[StageName, np.ndarray] = dict.fromkeys(queues, whole)
        self._again, self._before, self._new = bool(retry), int(whole[sampled].sum()), np.zeros_like(whole)
        if retry:
            self._sizes = {stage: np.zeros_like(whole) for stage in queues}
            for unit, again in retry.items():
                new = 0 if again.number else int(whole[unit])
                self._new[unit] = new
                self._sizes["sample"][unit] = new or len(again.keys)
                self._sizes["describe"][unit] = new or len(again.undescribed)

    def made(self) -> dict[StageName, Portion]:
        """Of what is to be made, by stage."""
        sizes = self._sizes
        return {
            stage: Portion(queue.committed(sizes[stage]), self.total(stage)) for stage, queue in self._queues.items()
        }

    def run(self) -> Portion | None:
        """What is sampled of the whole run, where only some of it is run again."""
        return Portion(self._before + self._queues["sample"].committed(self._new), self._all) if self._again else None

    def total(self, stage: StageName) -> int:
        """Samples that are to be made."""
        return int(self._sizes[stage].sum())

    def unit_size(self, stage: StageName) -> float:
        """Mean number of samples of the units that have any to be made."""
        return self.total(stage) / max(int(np.count_nonzero(self._sizes[stage])), 1)
