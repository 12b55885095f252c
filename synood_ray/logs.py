"""Diagnostics: the logger `synood_ray`, with the run, the worker and the unit in every record.

Each process sets it up once (`configure`) and writes to standard error, which Ray keeps as a worker's log. What a
command tells its user is printed, not logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from synood_ray.config.settings import LogSettings
from synood_ray.errors import Unavailable, UserError, first_line, printable
from synood_ray.locations import without_credentials

SHOWN = "shown"
"""Attribute of a record, true if its words are printed as well: for machines it is logged, for people it is there."""

_unit: ContextVar[int | None] = ContextVar("unit", default=None)
_PLACES = ("run", "worker", "unit")
_TEXT = "%(asctime)s %(levelname)s %(name)s%(place)s: %(message)s"


_OF_NO_INTEREST = re.compile(
    r"Triton is (not )?installed|No CUDA runtime is found|destroy_process_group\(\)|UsageStats|Token authentication"
)


def configure(settings: LogSettings, *, run: str = "", worker: str = "") -> None:
    """Log in this process as the settings say. run: the run's URI; worker: this process's name, "" in the driver."""
    handler = _Handler()
    handler.setFormatter(_JsonLines() if settings.form == "json" else logging.Formatter(_TEXT))
    handler.addFilter(_Places(run, worker))
    if settings.form != "json":
        handler.addFilter(lambda record: not getattr(record, SHOWN, False))
    logger = logging.getLogger("synood_ray")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(settings.level.upper())


@contextmanager
def working_on(unit: int | None, logger: logging.Logger) -> Iterator[None]:
    """Records of this thread name the unit; an error that leaves the block is logged, a defect with its traceback."""
    token = _unit.set(unit)
    try:
        yield
    except Exception as error:
        defect = not isinstance(error, (UserError, Unavailable))
        logger.error("%s: %s", type(error).__name__, first_line(error), exc_info=defect)
        raise
    finally:
        _unit.reset(token)


@contextmanager
def heard() -> Iterator[list[str]]:
    """What libraries warn about meanwhile, a line each and each once, for whoever is to tell the user.

    Python's warnings about what is run or given (not about an interface that will change), and what others log as
    warnings to the root logger (not transformers and diffusers, which keep theirs to themselves). They go their usual
    way too. What is so by intention, or about this machine and no setting, is left out (`_OF_NO_INTEREST`). One
    block at a time in a process.
    """
    found: dict[str, None] = {}

    def hear(text: str) -> None:
        if not _OF_NO_INTEREST.search(text):
            found.setdefault(printable(text))

    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: hear(record.getMessage())  # type: ignore[method-assign]
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, UserWarning | RuntimeWarning):
            hear(str(message))
        shown(message, category, *rest, **named)

    lines: list[str] = []
    logging.getLogger().addHandler(listener)
    warnings.showwarning = show
    try:
        yield lines
    finally:
        warnings.showwarning = shown
        logging.getLogger().removeHandler(listener)
        lines += found


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever standard error is at the time: a progress bar may stand in for it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record))


class _Places(logging.Filter):
    """Gives a record run, worker and unit; a record that brings its own (``extra=``) keeps them."""

    def __init__(self, run: str, worker: str) -> None:
        super().__init__()
        self.known = {"run": run, "worker": worker}

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in (*self.known.items(), ("unit", _unit.get())):
            record.__dict__.setdefault(name, value)
        named = [f"{name}={value}" for name in _PLACES if (value := getattr(record, name)) not in ("", None)]
        record.place = f" [{' '.join(named)}]" if named else ""
        return True


class _JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, run, worker, unit, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in _PLACES},
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)
