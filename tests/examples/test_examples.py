"""The programs in examples/ run and say what their pages promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD_RUN = ROOT / "tests" / "old_runs" / "0.1.0"


def run(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, f"examples/{name}.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rows_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    said = run("rows_of_a_run", OLD_RUN)
    assert "8 samples, 100% accepted" in said and "none rejected" in said
    assert "00000000: (64, 64) pixels, from a bat, margin -0.18" in said


@pytest.mark.real
def test_custom_score() -> None:
    lines = run("custom_score").splitlines()
    assert [line.split()[:2] for line in lines] == [
        [name, score] for name in ("near_val", "far_val") for score in ("lead", "mcm", "maxlogit")
    ]
    assert float(lines[1].split()[3]) == pytest.approx(90.7, abs=0.3), "the CLIP's MCM on near_val"


@pytest.mark.real
def test_models_without_ray(tmp_path: Path) -> None:
    said = run("models_without_ray", tmp_path)
    assert "accepted" in said and "ray" not in said.split("modules: ")[1].split()
    assert (tmp_path / "samples.png").stat().st_size > 1000
