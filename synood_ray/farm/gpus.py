"""GPU seconds: how long workers have held GPUs, whatever they did with them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from synood_ray.farm.observers import ActorCounts


class GpuClock:
    """seconds: by role, up to the latest look. What is held counts from one look to the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._held: dict[str, float] = {}
        self._latest = time.monotonic()

    def look(self, actors: Mapping[str, ActorCounts]) -> None:
        """These workers hold GPUs now."""
        now = time.monotonic()
        for role, gpus in self._held.items():
            self.seconds[role] = self.seconds.get(role, 0.0) + gpus * (now - self._latest)
        self._latest, self._held = now, {role: counts.gpus for role, counts in actors.items()}
