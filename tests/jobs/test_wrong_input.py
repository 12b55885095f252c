"""What a user gets wrong: one line, exit code 2, nothing written, no model loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.jobs.conftest import run


def folder_of_classes(root: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.effect_noise((40, 40), 50 + index).convert("RGB").save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--sampling.bnad", "0.5"], "sampling.band"),
        (["--sampling.band", "wide"], "sampling.band"),
        (["--preset", "mimi"], "mini"),
        (["--config", "no-such-file.yaml"], "no-such-file.yaml"),
        (["--data", "no/such/folder"], "no/such/folder"),
    ],
)
def test_wrong_settings(tmp_path: Path, arguments: list[str], named: str) -> None:
    output = tmp_path / "run"
    result = run("synthesize", "--output", output, *arguments, code=2)
    assert named in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout, "the error is the first line that is printed"
    assert not output.exists()


@pytest.mark.parametrize(
    ("classes", "named"), [({}, "data.uri"), ({"only": 3}, "only one class"), ({"full": 3, "bare": 0}, "bare")]
)
def test_wrong_folders(tmp_path: Path, classes: dict[str, int], named: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    folder_of_classes(data, classes)
    result = run("synthesize", "--data", data, "--output", tmp_path / "run", code=2)
    assert named in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not result.stdout, "the error is the first line that is printed"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("job", ["finetune", "evaluate", "status", "serve"])
def test_no_run_there(tmp_path: Path, job: str) -> None:
    result = run(job, "--run", tmp_path / "nothing", code=2)
    assert "nothing" in result.stderr and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("job", ["synthesize", "finetune", "evaluate", "status", "benchmark", "serve"])
def test_help(job: str) -> None:
    assert "--" in run(job, "--help").stdout


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """Said before images are selected, and before there is a run."""
    result = run("synthesize", "--output", tmp_path / "run", code=2, RAY_ADDRESS="127.0.0.1:1")
    assert "RAY_ADDRESS: no Ray cluster answers at 127.0.0.1:1" in result.stderr
    assert not result.stdout, "the error is the first line that is printed"
    assert not (tmp_path / "run").exists()
