"""One of the moments of `tests.cluster.interrupts`: Ray is being started, in C++, by a thread of the command."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from synood_ray.storage import layout
from tests.cluster.interrupts import interrupt
from tests.cluster.runs import Command
from tests.farm.local_ray import make_images

pytestmark = pytest.mark.real


def test_sigterm_while_ray_starts(tmp_path: Path) -> None:
    command, log = Command(make_images(tmp_path / "images", 8), str(tmp_path / "run")), tmp_path / "log"
    planned = tmp_path / "run" / layout.ID_MANIFEST  # the last that is written before
    code = interrupt(command, log, signal.SIGTERM, planned.exists)
    told = log.read_text()
    assert code == 130, told
    assert "interrupted; nothing that was committed is lost, the same command resumes: synood" in told
    assert "Traceback" not in told and "Fatal" not in told
