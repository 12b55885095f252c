"""What this process has used (operations of a store, tokens of a describer): counted where it is used, told by whoever
reports. Nothing here knows of either.
"""

from __future__ import annotations

import threading
from collections import Counter

_lock = threading.Lock()
_counts: Counter[tuple[str, str]] = Counter()


def add(metric: str, label: str, count: int = 1) -> None:
    """So much more. metric: its name in the table of `synood_ray.farm.metrics`; label: the value of its only label."""
    with _lock:
        _counts[metric, label] += count


def take() -> dict[tuple[str, str], int]:
    """What was added since this was called last, by metric and label: everything is told once."""
    with _lock:
        found = {which: count for which, count in _counts.items() if count}
        _counts.clear()
    return found
