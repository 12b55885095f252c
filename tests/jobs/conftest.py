"""Jobs as a user starts them: in a process of their own, from the repository's root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 64


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without a Ray cluster that it may belong to."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, **extra}


def start(job: str, *arguments: str | Path, **extra: str) -> subprocess.Popen[str]:
    """Start ``python jobs/<job>.py``."""
    command = [sys.executable, f"jobs/{job}.py", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, env=environment(**extra), text=True, **pipes)  # type: ignore[call-overload]


def run(job: str, *arguments: str | Path, code: int = 0, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a job to its end; fails the test, with what it printed, if the exit code is another."""
    process = start(job, *arguments, **extra)
    out, err = process.communicate(timeout=900)
    assert process.returncode == code, f"{job} ended with {process.returncode}\n{out[-4000:]}\n{err[-4000:]}"
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def status(folder: Path) -> dict[str, Any]:
    return json.loads(run("status", "--run", folder, "--json").stdout)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of the mini preset by the real parts: Ray, vLLM, the diffusion pipeline, open_clip."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run("synthesize", "--preset", "mini", "--output", folder, "--limit", str(LIMIT), "--farm.unit_size", "16")
    return folder
