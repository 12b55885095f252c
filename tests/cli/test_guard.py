"""`main_guard`: what a command ends with, and what it says then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from synood_ray.cli.guard import exit_code, main_guard
from synood_ray.cli.main import main
from synood_ray.errors import Unavailable, UserError
from synood_ray.storage.stores.base import StoreUnavailable
from tests.farm.local_ray import make_images


def guard(main: Any, *argv: str) -> int:
    return main_guard(main, [*argv])


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(argv: list[str]) -> int:
        raise UserError("data.uri: nothing\nthere")

    def interrupt(argv: list[str]) -> int:
        raise KeyboardInterrupt

    assert guard(lambda argv: None) == 0
    assert guard(lambda argv: 3) == 3
    assert guard(refuse) == 2
    assert capsys.readouterr().err == "error: data.uri: nothing there\n"
    assert guard(interrupt, "--output", "a b") == 130
    err = capsys.readouterr().err
    assert "interrupted" in err and "the same command resumes: synood" in err and "--output 'a b'" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", [Unavailable, StoreUnavailable])
def test_a_service_that_stays_away_is_exit_code_4(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    def away(argv: list[str]) -> int:
        raise kind("http://host cannot be reached:\ncould not list in 120 s")

    assert guard(away, "--output", "s3://runs/x") == 4
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: http://host cannot be reached: could not list in 120 s"
    assert "the same command resumes" in second and "--output s3://runs/x" in second


def test_a_users_mistake_found_by_a_ray_worker_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    class FromWorkerError(UserError):
        cause = UserError("model x is not there")

    def main(argv: list[str]) -> int:
        raise FromWorkerError("Traceback (most recent call last)\n  …")

    assert guard(main) == 2
    assert capsys.readouterr().err == "error: model x is not there\n"


def test_defects_keep_their_traceback() -> None:
    def main(argv: list[str]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guard(main)
    with pytest.raises(SystemExit):
        guard(lambda argv: sys.exit(7))


def test_rays_way_to_leave_on_sigterm_counts_as_interrupted() -> None:
    assert guard(lambda argv: sys.exit(signal.SIGTERM)) == 130


def interrupted(script: str, word: str, number: int) -> tuple[int, str]:
    """Exit code and error output of a program that gets the signal once it has said the word."""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout and job.stdout.readline() == f"{word}\n"
        job.send_signal(number)
        _, err = job.communicate(timeout=30)
    return job.returncode, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_job_cleanly(number: int) -> None:
    script = (
        "import sys, time; from synood_ray.cli.guard import main_guard\n"
        "def main(argv):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.exit(main_guard(main, []))"
    )
    code, err = interrupted(script, "ready", number)
    assert code == 130
    assert err.startswith("\ninterrupted") and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libraries_clean_up_ends_that_and_not_the_exit_code(number: int) -> None:
    script = (
        "import atexit, time; from synood_ray.cli.guard import leave, main_guard\n"
        "@atexit.register\n"
        "def clean_up():\n"
        "    print('leaving', flush=True)\n"
        "    for _ in range(600):\n"
        "        time.sleep(0.1)\n"
        "leave(main_guard(lambda argv: 3, []))"
    )
    assert interrupted(script, "leaving", number) == (3, "")


def test_nohup_still_holds() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert guard(lambda argv: signal.raise_signal(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_package_of_an_extra_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def needs(name: str) -> Any:
        def main(argv: list[str]) -> int:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return main

    assert guard(needs("ray.train")) == 2
    assert capsys.readouterr().err == (
        "error: ray is not installed; this needs synood_ray[farm]: pip install 'synood_ray[farm]'\n"
    )
    assert guard(needs("vllm")) == 2
    assert "synood_ray[cpu]" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        guard(needs("synood_ray.typo"))


def test_what_is_told_of_the_end_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """`farm.on_finish` is told by `exit_code` what the process will end with."""
    errors = [UserError("x"), Unavailable("x"), ModuleNotFoundError(name="ray"), KeyboardInterrupt()]
    for error in errors:

        def main(argv: list[str], error: BaseException = error) -> int:
            raise error

        assert guard(main) == exit_code(error)
    assert exit_code(ZeroDivisionError()) == 1


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = "import sys; from synood_ray.cli.guard import *; sys.exit(main_guard(lambda a: print('x' * 10**6), []))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout
        job.stdout.close()
        assert job.stderr and job.stderr.read() == ""
    assert job.returncode == 0


# Places that are not ours


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


def test_an_output_that_is_a_project_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--data data --output .` in a project: its data and its README.md stay."""
    make_images(tmp_path / "data", 8)
    (tmp_path / "README.md").write_text("# My project")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    assert main(["synthesize", "--data", "data", "--output", ".", "--limit", "4"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not empty and no run of synood_ray" in line and "choose a new --output" in line
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("command", ["evaluate", "finetune"])
def test_a_wrong_folder_stays_as_it_is(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in .tmp was a traceback, a FIFO a hang, and the files were gone."""
    temporaries = tmp_path / ".tmp"
    (temporaries / "folder").mkdir(parents=True)
    for name in ("notes.txt", "0123456789abcdef" * 2):
        (temporaries / name).write_text("precious")
    before = snapshot(tmp_path)
    os.mkfifo(temporaries / "fifo")
    assert main([command, "--run", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no run here" in line
    (temporaries / "fifo").unlink()
    assert snapshot(tmp_path) == before


# Lightness


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; from synood_ray.cli.main import *; from synood_ray.data.source import open_source\n"
        "from synood_ray.data.selection import select\n"
        "parse(COMMANDS['synthesize'], ['--output', 'x'])\n"
        "heavy = {'torch', 'ray', 'vllm', 'diffusers', 'transformers', 'open_clip', 'boto3', 'pyarrow', 'numpy'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
