"""Settings and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synood_ray.cli.layers import given, resolve
from synood_ray.config.settings import Settings
from synood_ray.errors import UserError, printable
from synood_ray.storage import layout
from synood_ray.storage.record import check_or_create_run, withdraw
from synood_ray.storage.stores import open_store
from tests.reports.table import reported, rows


@rows(
    "name, value, words",
    (
        "trial",
        "a template with a second name: `a photo of {} {x}`",
        "refused at the start",
        "scorer.templates",
        "['a photo of {} {x}']",
        "no other braces",
    ),
    (
        "trial",
        "a template `{{}}`, which is no place for a name",
        "refused at the start",
        "labels.noun_prompt",
        "the {{}}",
        "must contain {}",
    ),
    (
        "trial",
        "a template with a lone brace",
        "refused at the start",
        "labels.adjective_prompt",
        "{} {",
        "no other braces",
    ),
    ("trial", "a seed over 2^63 - 1", "refused: it could never be fine-tuned", "seed", str(2**63), "at most"),
    (
        "trial",
        "`farm.samplers.max 0`",
        "refused: nothing would be made",
        "farm.samplers.max",
        "0",
        "samplers.max must be at least 1",
    ),
    (
        "trial",
        "one and a half GPUs",
        "refused: an integer, or a share of one",
        "farm.samplers.gpus",
        "1.5",
        "an integer, or less than 1",
    ),
    (
        "trial",
        "GPUs so many that they are infinity (1e310)",
        "refused",
        "farm.samplers.gpus",
        "1e310",
        "an integer",
    ),
    ("trial", "guidance 1e30", "refused; it gave NaN", "sampling.guidance", "1e30", "at most 100"),
    ("trial", "more solver steps than the schedule has", "refused", "sampling.steps", "5000", "at most 1000"),
    ("trial", "NaN for a number", "refused", "sampling.gain", "nan", "must be a number"),
    (
        "trial",
        "a setting that is misspelt",
        "refused, with the one that was probably meant",
        "sampling.bnad",
        "0.5",
        "did you mean sampling.band",
    ),
)
def test_what_can_be_refused_is_refused_at_the_start(name: str, value: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve([[given(name, value, "command line", typed=True)]])
    assert words in str(caught.value) and name.rpartition(".")[2] in str(caught.value) and "\n" not in str(caught.value)


def begin(output: Path) -> None:
    settings = Settings.model_validate({"output": str(output), "scorer": {"model": str(output)}})
    check_or_create_run(
        open_store(str(output)), settings, id_manifest_sha256="", planned=1, units=1, classes=["cat", "dog"]
    )


@reported("trial", "a model that cannot be loaded, then the corrected command", "nothing is left of the first start")
def test_a_run_that_only_began_is_taken_back(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    store = open_store(str(tmp_path / "run"))
    for key in (layout.CALIBRATION, f"{layout.FEATURES}csp.safetensors"):
        store.put_new(key, b"{}")
    withdraw(store)
    assert list(store.list()) == []
    begin(tmp_path / "run")  # and nothing is in the way of the next


@rows(
    "key",
    ("trial", "the same, after something was made", "all of it stays", layout.prompts_key(0)),
    ("trial", "the same, beside somebody's file", "all of it stays", "notes.txt"),
)
def test_a_run_with_something_in_it_is_not_taken_back(tmp_path: Path, key: str) -> None:
    begin(tmp_path / "run")
    store = open_store(str(tmp_path / "run"))
    store.put_new(key, b"x")
    withdraw(store)
    assert {entry.key for entry in store.list()} == {layout.RUN, key}


SCRIPT = """
import sys
from pathlib import Path
from synood_ray.cli.guard import main_guard
def main(argv):
    for number in range(20000):
        print("line", number, "\\u72ac", flush=number % 100 == 0)
    Path(argv[0]).write_text("done")
    return 3
sys.exit(main_guard(main, sys.argv[1:]))
"""


@reported("trial", "`synood synthesize … | head -1`", "the run goes on to its end, with its exit code")
def test_a_reader_that_leaves(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "marker")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 3)
    assert (tmp_path / "marker").read_text() == "done"


@reported("trial", "a terminal that has ASCII only (LANG=C)", "names are shown with escapes, nothing ends")
def test_a_terminal_without_letters(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "marker")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 3 and done.stdout.startswith(b"line 0 \\u72ac\n") and not done.stderr


@reported("trial", "terminal codes in a class name or an error", "blanks in their place")
def test_codes_do_not_reach_the_terminal() -> None:
    assert printable("cat\x1b[31m red\x07\x9b2J\u202edog") == "cat  red  2J dog"
