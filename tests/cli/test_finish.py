"""Who is told that a run has ended: a command or a web address; what goes wrong with that changes nothing."""

from __future__ import annotations

import contextlib
import http.server
import json
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synood_ray.cli import synthesize as command
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import main_guard
from synood_ray.errors import Unavailable
from synood_ray.farm.actors import Actors
from tests.farm.local_ray import make_images, use_local_ray
from tests.farm.stubs import stub_actors


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_local_ray(monkeypatch)
    make_images(tmp_path / "images", 10)


def run(tmp_path: Path, hook: str, actors: Actors | None = None, *more: str) -> int:
    argv = ["--data", str(tmp_path / "images"), "--output", str(tmp_path / "run"), "--farm.unit_size", "4"]
    argv += ["--sampling.per_image", "1", "--farm.on_finish", hook, *more]
    return main_guard(lambda argv: command.run(parse(command.COMMAND, argv), actors=actors or stub_actors()), argv)


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """A web server on the loopback that keeps what is posted to it."""
    posted: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    found = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/done?key=hunter22", posted
    found.shutdown()
    found.server_close()


def test_a_web_address_gets_the_status(
    tmp_path: Path, server: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, posted = server
    assert run(tmp_path, url) == 0
    (told,) = posted
    assert told["run"] == str(tmp_path / "run") and told["exit_code"] == 0 and told["published"]
    assert told["samples"]["accepted"] == 8
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"hunter22" not in written and "hunter22" not in capsys.readouterr().out


def test_a_command_gets_it_too_and_hears_of_failures(tmp_path: Path) -> None:
    def away(unit: int) -> None:
        raise Unavailable("describer.endpoint: http://host/v1 has given no answer for 300 s")

    keep = f"import sys; open({str(tmp_path / 'news')!r}, 'w').write(sys.stdin.read())"
    hook = shlex.join([sys.executable, "-c", keep])
    more = ("--farm.max_attempts", "1", "--limit", "4")
    assert run(tmp_path, hook, stub_actors(describing=away), *more, "--farm.unit_size", "1") == 4
    told = json.loads((tmp_path / "news").read_text())
    assert told["exit_code"] == 4 and told["error"].startswith("describer.endpoint: http://host/v1 has given no answer")


def test_a_defect_is_told_too_and_the_hook_is_nobodys_to_read(
    tmp_path: Path, server: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise LookupError("a defect")

    url, posted = server
    secret = url.replace("/done?key=hunter22", "/services/hunter22")  # as chat services have it: in the path
    with monkeypatch.context() as patch:
        patch.setattr("synood_ray.pipeline._drive", broken)
        with pytest.raises(LookupError):
            run(tmp_path, secret)
    assert run(tmp_path, secret) == 0
    assert [told["exit_code"] for told in posted] == [1, 0] and posted[0]["error"] == "a defect"
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"hunter22" not in written
    said = capsys.readouterr().out
    assert "hunter22" not in said and "farm.on_finish (set)" in said


def test_an_interrupt_is_told_as_one_whatever_a_library_makes_of_it(
    tmp_path: Path, server: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("a callback failed")

    url, posted = server
    monkeypatch.setattr("synood_ray.pipeline._drive", interrupted)
    assert run(tmp_path, url) == 130
    assert [told["exit_code"] for told in posted] == [130]


def test_a_spent_budget_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    assert run(tmp_path, "true", None, "--farm.budget_accepted", "1", "--farm.unit_size", "1") == 6
    assert run(tmp_path, "true", None, "--farm.unit_size", "1") == 0


@pytest.mark.parametrize("hook", ["http://127.0.0.1:1/x?key=hunter22", "no-such-command", "false", "'"])
def test_a_hook_that_fails_is_a_line_and_no_more(tmp_path: Path, hook: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, hook) == 0
    said = capsys.readouterr().out
    assert "warning: farm.on_finish: " in said and "hunter22" not in said
