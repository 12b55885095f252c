"""Diagnostics: what a record carries, as text and as JSON lines."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings

import pytest

from synood_ray import logs
from synood_ray.config.settings import LogSettings

LOGGER = logging.getLogger("synood_ray.farm.actors.sampler")


def log_to(monkeypatch: pytest.MonkeyPatch, run: str = "", worker: str = "", **settings: str) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(LogSettings(**settings), run=run, worker=worker)  # type: ignore[arg-type]
    return stream


def test_a_line_of_text_names_run_worker_and_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = log_to(monkeypatch, run="runs/demo", worker="sampler-1")
    LOGGER.info("models loaded")
    with logs.working_on(7, LOGGER):
        LOGGER.info("%d accepted", 3)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("INFO synood_ray.farm.actors.sampler [run=runs/demo worker=sampler-1]: models loaded")
    assert second.endswith("[run=runs/demo worker=sampler-1 unit=7]: 3 accepted")


def test_json_lines_have_the_same_and_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = log_to(monkeypatch, run="s3://runs/demo", worker="sampler-1", form="json")
    with pytest.raises(ZeroDivisionError), logs.working_on(7, LOGGER):
        raise ZeroDivisionError("no images")
    LOGGER.warning("over", extra={"worker": "describer-0"})
    failed, over = map(json.loads, stream.getvalue().splitlines())
    assert {name: failed[name] for name in ("level", "run", "worker", "unit", "message")} == {
        "level": "error",
        "run": "s3://runs/demo",
        "worker": "sampler-1",
        "unit": 7,
        "message": "ZeroDivisionError: no images",
    }
    assert "Traceback" in failed["error"] and "test_logs" in failed["error"]
    assert over["unit"] is None and over["worker"] == "describer-0" and "error" not in over
    assert over["time"][10] == "T"


@pytest.mark.parametrize(("form", "lines"), [("text", 0), ("json", 1)])
def test_what_is_shown_already_is_logged_for_machines_only(
    monkeypatch: pytest.MonkeyPatch, form: str, lines: int
) -> None:
    stream = log_to(monkeypatch, form=form)
    LOGGER.error("unit 3 is quarantined", extra={logs.SHOWN: True})
    assert len(stream.getvalue().splitlines()) == lines


def test_what_is_no_matter_of_the_user_is_not_heard() -> None:
    with logs.heard() as lines:
        logging.getLogger("vllm").warning("Triton is installed, but doesn't include CPU backend. Disabling Triton.")
        warnings.warn("the decoder has no weights", stacklevel=1)
    assert lines == ["the decoder has no weights"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_credential_is_logged(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    stream = log_to(monkeypatch, form=form)
    LOGGER.error("no answer from http://user:hunter22@host/v1")
    assert "http://host/v1" in stream.getvalue() and "hunter22" not in stream.getvalue()


def test_units_of_two_threads_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = log_to(monkeypatch, form="json")
    both = threading.Barrier(2)

    def work(unit: int) -> None:
        with logs.working_on(unit, LOGGER):
            both.wait(timeout=10)
            LOGGER.info("done", extra={"worker": str(unit)})

    threads = [threading.Thread(target=work, args=(unit,)) for unit in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert sorted(each["unit"] for each in found) == [1, 2]
    assert all(str(each["unit"]) == each["worker"] for each in found)


def test_the_level_holds_and_others_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = log_to(monkeypatch, level="warning")
    LOGGER.info("too much")
    logging.getLogger("urllib3").info("theirs")
    LOGGER.warning("enough")
    log_to(monkeypatch, level="warning")  # set up again: still once
    assert stream.getvalue().count("\n") == 1 and "enough" in stream.getvalue()
    assert len(logging.getLogger("synood_ray").handlers) == 1
