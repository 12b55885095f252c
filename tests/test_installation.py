"""The wheel in an empty environment: what `pip install synood_ray` gives. About a minute, from the package index."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.installing import JUDGE, save_mini_detector

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.install


def run(*command: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_what_the_package_needs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"synood_ray"}
    tracked = run("git", "ls-files", "synood_ray", cwd=ROOT).stdout.splitlines()
    assert {name for name in names if name.startswith("synood_ray/")} == set(tracked)


def test_the_base_alone_runs_a_detector(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    programs = tmp_path / "venv" / "bin"
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-compile", "--constraint", ROOT / "constraints.txt", wheel, cwd=tmp_path)  # compiling takes as long
    assert "synood_ray 0." in run(programs / "synood", "version", cwd=tmp_path).stdout
    assert "synthesize" in run(programs / "synood", "--help", cwd=tmp_path).stdout
    judged = run(programs / "python", "-c", JUDGE, *save_mini_detector(tmp_path), cwd=tmp_path)
    assert judged.stdout.startswith("score 0.")
    refused = run(programs / "synood", "synthesize", "--preset", "mini", "--output", "run", cwd=tmp_path, code=2)
    assert refused.stderr.endswith("pip install 'synood_ray[farm]'\n") and not (tmp_path / "run").exists()
    assert "checkout" in run(programs / "synood", "benchmark", cwd=tmp_path, code=2).stderr
