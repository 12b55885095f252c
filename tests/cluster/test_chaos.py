"""A minute of chaos; `python -m tests.cluster.chaos --minutes 30` is for whoever changes the farm or the storage."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.cluster.runs import ROOT

pytestmark = pytest.mark.real


def test_a_minute() -> None:
    command = [sys.executable, "-m", "tests.cluster.chaos", "--minutes", "1", "--seed", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=1200)
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-4000:]
    kills, faults = (int(re.search(rf"^{name}: (\d+)", ended.stdout, re.M)[1]) for name in ("kills", "store faults"))  # type: ignore[index]
    assert kills >= 3 and faults >= 30, "not much of a chaos"
