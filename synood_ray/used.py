"""What this process has used (operations of a store, tokens of a describer): counted where it is used, told by whoever
reports. Nothing here knows of either.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

Used = Mapping[str, Mapping[str, int]]
"""Metric -> label -> how much. JSON can hold it, like all that observers are told."""

_lock = threading.Lock()
_counts: Counter[tuple[str, str]] = Counter()


def add(metric: str, label: str, count: int = 1) -> None:
    """So much more. metric: its name in the table of `synood_ray.farm.metrics`; label: the value of its only label."""
    with _lock:
        _counts[metric, label] += count


def take() -> Used:
    """What was added since this was called last: everything is told once."""
    found: dict[str, dict[str, int]] = {}
    with _lock:
        for (metric, label), count in _counts.items():
            if count:
                found.setdefault(metric, {})[label] = count
        _counts.clear()
    return found
