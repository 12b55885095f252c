"""For every test."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from synood_ray import used

# The same cases each time, however long each takes: what fails is the change. `pytest --hypothesis-profile=explore`
# looks for new ones.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")

# Tests interrupt jobs. A shell that runs the tests in the background has SIGINT ignored, nohup SIGHUP, and children
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No test asks the real Hub for anything; those with a Hub of their own say where it is.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Commands and actors set up the log of their process; none of that outlives its test."""
    logger = logging.getLogger("synood_ray")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


@pytest.fixture(autouse=True)
def _own_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test's stores and servers kept it waiting for is no matter of the next one."""
    monkeypatch.setattr("synood_ray.waits._noted", {})
    used.take()


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of a model server, whatever the machine has."""
    from synood_ray.models.describers.endpoint import KEY

    monkeypatch.delenv(KEY, raising=False)
