"""Runs that somebody has changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from synood_ray.cli import evaluate, finetune
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import main_guard
from tests.detection.tiny_clip import save_tiny_clip
from tests.reports.table import reported, rows
from tests.training.run_folder import make_run, make_settings

COMMANDS = {"finetune": finetune, "evaluate": evaluate}


def call(name: str, run: Path) -> int:
    command = COMMANDS[name].COMMAND
    return main_guard(lambda argv: command.run(parse(command, argv)), ["--run", str(run)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its detector."""
    root = tmp_path_factory.mktemp("damaged")
    store = make_run(make_settings(root, str(save_tiny_clip(root / "clip"))))
    assert call("finetune", Path(store.uri)) == 0
    return Path(store.uri)


def garbage(data: bytes) -> bytes:
    return b"\x00garbage\xff" * 20


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def nothing(data: bytes) -> bytes:
    return b""


def other(text: bytes) -> Callable[[bytes], bytes]:
    return lambda data: text


@rows(
    "file, damage, command, words",
    (
        "trial",
        "an ID manifest that is cut off",
        "one line that names it, exit 2",
        "id-manifest.parquet",
        half,
        "evaluate",
        "damaged",
    ),
    (
        "trial",
        "a calibration manifest of no bytes",
        "one line that names it, exit 2",
        "calibration-manifest.parquet",
        nothing,
        "evaluate",
        "damaged",
    ),
    (
        "trial",
        "negative labels that are garbage",
        "one line that names them, exit 2",
        "negatives.safetensors",
        garbage,
        "evaluate",
        "damaged",
    ),
    (
        "trial",
        "detector weights that are cut off",
        "one line that names them, exit 2",
        "detector/weights-*.safetensors",
        half,
        "evaluate",
        "fine-tune again",
    ),
    (
        "trial",
        "a detector.json that holds null",
        "one line that names it, exit 2",
        "detector/detector.json",
        other(b"null"),
        "evaluate",
        "fine-tune again",
    ),
    (
        "trial",
        "a detector.json of another program",
        "one line that names it, exit 2",
        "detector/detector.json",
        other(b"{}"),
        "finetune",
        "fine-tune again",
    ),
    (
        "trial",
        "a manifest.json of another program",
        "one line that names it, exit 2",
        "manifest.json",
        other(b'{"name": "app"}'),
        "finetune",
        "not a manifest",
    ),
    (
        "trial",
        "a run.json that holds a list",
        "one line that names it, exit 2",
        "run.json",
        other(b"[]"),
        "evaluate",
        "not a run",
    ),
    (
        "trial",
        "a run.json 100,000 brackets deep",
        "one line that names it, exit 2",
        "run.json",
        other(b"[" * 100_000),
        "evaluate",
        "not readable as JSON",
    ),
)
def test_damaged_files_are_named(
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    damage: Callable[[bytes], bytes],
    command: str,
    words: str,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "features", ignore_errors=True)
    (path,) = run.glob(file)
    path.write_bytes(damage(path.read_bytes()))
    assert call(command, run) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert path.name in line and words in line


@reported("trial", "a shard that was replaced", "one line that names it, exit 2; it is not trained on")
def test_a_replaced_shard(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "detector")
    shutil.rmtree(run / "features")
    (shard,) = run.glob("data/*.parquet")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    assert call("finetune", run) == 2
    assert "SHA-256 differs" in capsys.readouterr().err


@reported("trial", "`--output` is a folder with files of somebody's", "refused; nothing in it is touched")
def test_somebodys_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from synood_ray.cli import synthesize

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    arguments = ["--preset", "mini", "--output", str(tmp_path / "mine")]
    assert main_guard(lambda argv: synthesize.run(parse(synthesize.COMMAND, argv)), arguments) == 2
    assert "not empty and no run" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
