"""How many images a client may send: a bucket of tokens each, filled at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable

from synood_ray.serving.refused import Refused

CLIENTS = 10_000
"""Beyond so many buckets, those that are full again are forgotten."""


class Rate:
    """At most `rate` images a second in the long run, and `burst` at once, for each client."""

    def __init__(self, rate: float | None, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.now = rate, burst, now
        self._buckets: dict[str, tuple[float, float]] = {}  # client -> tokens, and when there were so many
        self._many = CLIENTS

    def take(self, client: str, images: int) -> None:
        """Count images of a client. Raises Refused (429, with the seconds to wait) if there are too many; then none
        is counted."""
        if self.rate is None:
            return
        now = self.now()
        tokens = self._tokens(client, now, self.rate)
        if images > tokens:
            wait = (images - tokens) / self.rate
            raise Refused(
                429, f"You send more than {self.rate:g} images a second; try again in {wait:.1f} seconds.", wait
            )
        self._buckets[client] = (tokens - images, now)
        if len(self._buckets) > self._many:
            left = {one for one in self._buckets if self._tokens(one, now, self.rate) < self.burst}
            self._buckets = {one: self._buckets[one] for one in left}
            self._many = max(CLIENTS, 2 * len(left))  # not at every request again, where few are full

    def _tokens(self, client: str, now: float, rate: float) -> float:
        tokens, then = self._buckets.get(client, (float(self.burst), now))
        return min(float(self.burst), tokens + (now - then) * rate)
