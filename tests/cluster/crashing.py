"""Kills a process at one precise point of a run, once: a marker file tells that it has happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from synood_ray.storage.stores.base import Store
from synood_ray.storage.stores.local import LocalStore
from synood_ray.storage.stores.s3 import S3Store

Victim = Literal["self", "driver", "node", "engine"]
"""Who dies: the process that comes to the point, the driver, the node (raylet and all its workers), or the engine
inside the process (which then ends itself)."""

Moment = Literal["before", "written", "named", "after", "deleted", "asked"]
"""before a write · its temporary file is complete · the object is there, its writer does not know yet · the writer
knows, nobody else does · an object was deleted · a model is asked."""


class EngineKilled(Exception):  # noqa: N818
    """The victim is an engine: whoever plays it dies in its own way."""


@dataclass(frozen=True)
class CrashPoint:
    """When `victim` dies: at the first `moment` of a key (or model) that matches `pattern`. One word as text."""

    victim: Victim
    moment: Moment
    pattern: str
    marker: Path
    driver: int = 0  # process id

    def __str__(self) -> str:
        return "|".join(["crash", self.victim, self.moment, self.pattern, str(self.marker), str(self.driver)])

    @classmethod
    def find(cls, words: Iterable[str]) -> CrashPoint | None:
        """The crash point among some words, if there is one."""
        for word in words:
            if word.startswith("crash|"):
                _, victim, moment, pattern, marker, driver = word.split("|")
                return cls(victim, moment, pattern, Path(marker), int(driver))  # type: ignore[arg-type]
        return None

    def reached(self, moment: Moment, name: str) -> None:
        """Die if this is the point."""
        if moment != self.moment or not fnmatch(name, f"*{self.pattern}"):
            return
        try:
            self.marker.touch(exist_ok=False)
        except FileExistsError:
            return
        if self.victim == "engine":
            raise EngineKilled
        if self.victim == "driver":
            os.kill(self.driver, signal.SIGKILL)
            return
        if self.victim == "node":
            os.kill(os.getppid(), signal.SIGKILL)  # the raylet
        os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        """Watch the writes of every store of this process, and what else a local one does."""
        delete, link = LocalStore.delete, os.link

        def watched_put(put_new: Callable[[Any, str, bytes], Any]) -> Callable[[Any, str, bytes], Any]:
            def put(store: Store, key: str, data: bytes) -> Any:
                self.reached("before", key)
                result = put_new(store, key, data)
                self.reached("after", key)
                return result

            return put

        def watched_link(source: Path, target: Path) -> None:
            self.reached("written", str(target))
            link(source, target)
            self.reached("named", str(target))

        def watched_delete(store: LocalStore, key: str) -> None:
            delete(store, key)
            self.reached("deleted", key)

        for owner, name, watched in (
            (LocalStore, "put_new", watched_put(LocalStore.put_new)),
            (S3Store, "put_new", watched_put(S3Store.put_new)),
            (LocalStore, "delete", watched_delete),
            (os, "link", watched_link),
        ):
            setattr(owner, name, watched)
