"""What this process waits for (a store, a model server): noted where the waiting is done, read by whoever tells people.

Nothing here waits or prints.
"""

from __future__ import annotations

import threading
import time
from typing import Literal

from synood_ray import used

Kind = Literal["place", "store", "server"]
"""What is waited for: a place in the cluster, a store, a model server."""

AFTER = 5.0
"""Seconds after which a wait is worth a word."""

_lock = threading.Lock()
_noted: dict[str, tuple[float, str]] = {}


def note(what: str, words: str) -> None:
    """Another attempt at it failed, and there will be more. what: the service, by its address; words: how it failed."""
    used.add("synood_repeated_requests", kind_of(what))
    with _lock:
        since, _ = _noted.get(what, (time.monotonic(), ""))
        _noted[what] = since, " ".join(words.split())[:200]


def kind_of(what: str) -> Kind:
    """Of a service, by its address: model servers are on the web, stores are not."""
    return "server" if what.startswith(("http://", "https://")) else "store"


def over(what: str) -> None:
    """It has answered."""
    if _noted:
        with _lock:
            _noted.pop(what, None)


def current(after: float = AFTER) -> list[tuple[str, str]]:
    """(service, a line about it) of everything that has not answered for so many seconds."""
    now = time.monotonic()
    with _lock:
        noted = list(_noted.items())
    return [
        (what, f"{what} has not answered for {now - since:.0f} s ({words})")
        for what, (since, words) in noted
        if now - since >= after
    ]
