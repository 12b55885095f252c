"""What the actors have in common: the name by which the dashboard and the logs call them, and what they log."""

from __future__ import annotations

import functools
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from synood_ray import logs, used
from synood_ray.config.settings import LogSettings
from synood_ray.errors import UserError
from synood_ray.farm.reports import UnitReport
from synood_ray.storage import layout
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store

_LOGGER = logging.getLogger(__name__)
_Made = TypeVar("_Made")
_Method = TypeVar("_Method", bound=Callable[..., Any])


class Named:
    """``repr`` is the actor's name in the cluster without what makes it unique there: "sampler-3 · demo".

    Ray writes it before the lines of the actor's log and into the dashboard.
    """

    def __repr__(self) -> str:
        import ray

        name = ray.get_runtime_context().get_actor_name() if ray.is_initialized() else None
        return name.rpartition(" · ")[0] if name else type(self).__name__

    def start_log(self, settings: LogSettings, run: str) -> None:
        """Log in this process, which Ray keeps as the actor's log; every constructor's first step. run: its URI."""
        logs.configure(settings, run=run, worker=repr(self).partition(" · ")[0])

    def open_run(self, output: str) -> Store:
        """The run's store, as this machine reaches it. UserError, naming the machine, if it does not.

        Not to be called in a constructor, whose errors Ray wraps beyond recognition.
        """
        try:
            return open_store(output, patient=True)
        except UserError as error:
            raise UserError(
                f"{error} (on a worker's machine, {socket.gethostname()}: what the driver has from its environment, "
                "workers need too, from their nodes or from the job's --runtime-env-json)"
            ) from error

    def find_run(self, store: Store) -> None:
        """Raise UserError, naming the machine, unless the run is there that the driver began."""
        if next(iter(store.list(layout.RUN)), None) is None:
            raise UserError(
                f"output: {store.uri}: a worker on {socket.gethostname()} does not see what the driver wrote there; "
                "take a folder that all machines share, or s3://bucket/prefix"
            )


class made_once(functools.cached_property[_Made]):  # noqa: N801 - used as functools.cached_property is
    """A property that is made on first use, by one thread while others wait: an actor's calls run in several.

    `functools.cached_property` has had no lock since Python 3.12, and two threads would load a model each.
    """

    def __init__(self, make: Callable[[Any], _Made]) -> None:
        super().__init__(make)
        self._making = threading.RLock()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        with self._making:
            return super().__get__(instance, owner)


def told(report: UnitReport) -> UnitReport:
    """The report with what this process has used by now."""
    return replace(report, used=used.take())


def logged(method: _Method) -> _Method:
    """A method of an actor that leaves a line when it is done, and what it raises, in the actor's log.

    A first argument that is an integer is the unit that it works on. The driver logs what it is told of (`farm.log`).
    """

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        unit = arguments[0] if arguments and isinstance(arguments[0], int) else None
        with logs.working_on(unit, _LOGGER):
            answer = method(self, *arguments, **named)
            _LOGGER.info("%s: %s", method.__name__, "done" if answer is None else answer)
            return answer

    return call  # type: ignore[return-value]
