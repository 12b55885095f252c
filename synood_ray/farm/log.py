"""What happens in the farm, in the driver's log: failures as errors, other news as warnings, the rest as details."""

from __future__ import annotations

import logging

from synood_ray import logs
from synood_ray.farm.observers import Event, Tick, UnitFailed, UnitQuarantined

_LOGGER = logging.getLogger(__name__)


def log_event(event: Event) -> None:
    """An observer. The record names the worker and the unit that the event is about.

    What has words for people is shown by the run's progress as well: a log in text, on the same screen, leaves it out.
    """
    if isinstance(event, Tick):
        return
    places = {name: getattr(event, name) for name in ("worker", "unit") if hasattr(event, name)}
    level = logging.WARNING if str(event) else logging.DEBUG
    if isinstance(event, (UnitFailed, UnitQuarantined)):
        level = logging.ERROR
    _LOGGER.log(level, "%s", str(event) or event, extra={**places, logs.SHOWN: bool(str(event))})
