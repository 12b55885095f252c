"""The driver's log of what happens in the farm."""

from __future__ import annotations

import logging

import pytest

from synood_ray.farm.log import log_event
from synood_ray.farm.observers import Event, UnitDone, UnitFailed, UnitQuarantined, WorkerLost, WorkerReady
from synood_ray.farm.reports import UnitReport


@pytest.mark.parametrize(
    ("event", "level", "worker", "unit"),
    [
        (UnitFailed("sample", 3, "sampler-1", 2, "ValueError: no"), "ERROR", "sampler-1", 3),
        (UnitQuarantined("sample", 3, "ValueError: no"), "ERROR", "", 3),
        (WorkerLost("sampler-1", "host", "crash", "", (3,)), "WARNING", "sampler-1", None),
        (WorkerReady("sampler-1", 2.5), "DEBUG", "sampler-1", None),
        (UnitDone("sample", 3, "sampler-1", 1, UnitReport(3, 4), True, 2.0), "DEBUG", "sampler-1", 3),
    ],
)
def test_an_event_becomes_one_record(event: Event, level: str, worker: str, unit: int | None) -> None:
    records: list[logging.LogRecord] = []
    logger = logging.getLogger("synood_ray.farm.log")
    handler, before = logging.Handler(), (logger.level, logger.propagate)
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        log_event(event)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
    (record,) = records
    assert record.levelname == level and str(event) in record.getMessage()
    assert getattr(record, "worker", "") == worker and getattr(record, "unit", None) == unit
