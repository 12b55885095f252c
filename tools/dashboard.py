"""Pictures of a run in Ray's dashboard, and of its report: ``python -m tools.dashboard --to docs/operating``.

Starts a head node with a token on ports of its own, submits a run of the bundled models to it, logs in with a real
Chromium as a person does, and ends what it started. Takes two minutes. Needs Debian's `chromium`. With ``--served
URI``, a run with a detector, the picture is of its service instead.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tools.browser import Chromium, chromium

ROOT = Path(__file__).parents[1]
PYTHON, RAY = sys.executable, str(Path(sys.executable).parent / "ray")
SIZE = (1300, 720)
WAIT = 240.0
"""Seconds that the job may take to have its workers at work."""


@contextmanager
def head(folder: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """A head node: address of its dashboard, its token, and the environment that talks to it."""
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    port, dashboard, agent = _ports(3)
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    env["PATH"] = f"{Path(PYTHON).parent}{os.pathsep}{env['PATH']}"
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_ADDRESS": f"127.0.0.1:{port}"}
    options = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    options += ["--num-cpus=4", f"--temp-dir={folder / 'ray'}"]
    with (folder / "head.log").open("w") as log:
        command = [RAY, "start", "--head", "--block", *options]
        process = subprocess.Popen(command, env=env, cwd=ROOT, start_new_session=True, stdout=log, stderr=log)
    try:
        until(lambda: "Ray runtime started" in (folder / "head.log").read_text(), "the head node runs")
        yield f"http://127.0.0.1:{dashboard}", token, env
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def submit(address: str, output: str, env: dict[str, str]) -> str:
    """Submit a run; returns the job's ID."""
    run = ["python", "jobs/synthesize.py", "--preset", "mini", "--output", output, "--limit", "512"]
    run += ["--farm.unit_size", "16", "--farm.samplers.min", "2"]
    about = {"job_name": "watched", "preset": "mini", "output": output}
    known = ["--submission-id", "watched", "--metadata-json", json.dumps(about)]
    command = [RAY, "job", "submit", "--address", address, *known, "--no-wait", "--", *run]
    until(
        lambda: subprocess.run(command, env=env, cwd=ROOT, capture_output=True).returncode == 0, "the job is submitted"
    )
    return "watched"


def log_in(browser: Chromium, address: str, token: str) -> None:
    """The dialog that asks for the token."""
    browser.open(address, width=SIZE[0], height=SIZE[1])
    browser.wait("document.querySelector('[role=dialog] input') !== null")
    browser.run("document.querySelector('[role=dialog] input').focus()")
    browser.call("Input.insertText", text=token)
    browser.run("[...document.querySelectorAll('[role=dialog] button')].at(-1).click()")
    browser.wait("document.body?.innerText.includes('Recent jobs')")
    browser.wait("document.querySelector('[role=dialog]') === null")


def service(to: Path, folder: Path, run: str) -> list[Path]:
    """Serve's page of the application while it answers."""
    with head(folder) as (address, token, env), chromium(folder / "profile") as browser:
        (port,) = _ports(1)
        command = [PYTHON, "-m", "synood_ray", "serve", "--run", run, "--serving.port", str(port)]
        with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: "try: curl" in str(process.stdout and process.stdout.readline()), "the service answers")
                log_in(browser, address, token)
                browser.open(f"{address}/#/serve", width=SIZE[0], height=SIZE[1])
                browser.wait("document.body?.innerText.includes('detector')")
                return [save(browser, to / "dashboard-service.webp")]
            finally:
                process.terminate()


def pictures(to: Path, folder: Path) -> list[Path]:
    """Actors, job and report of a run that is going."""
    output, made = str(folder / "watched"), list[Path]()
    with head(folder) as (address, token, env), chromium(folder / "profile") as browser:
        job = submit(address, output, env)
        until(lambda: list(Path(output, "parts").glob("*.parquet")), "the first unit is committed")
        log_in(browser, address, token)
        browser.open(f"{address}/#/actors", width=SIZE[0], height=SIZE[1])
        browser.wait("document.body?.innerText.includes('sampler-1 · watched')")
        made.append(save(browser, to / "dashboard-actors.webp"))
        browser.open(f"{address}/#/jobs/{_driver_of(address, token, job)}", width=SIZE[0], height=SIZE[1])
        browser.wait("document.body?.innerText.includes('User-provided metadata')")
        browser.run("[...document.querySelectorAll('a, button')].find(one => one.innerText === 'Expand')?.click()")
        made.append(save(browser, to / "dashboard-job.webp"))
        subprocess.run([PYTHON, "-m", "synood_ray", "report", "--run", output], env=env, cwd=ROOT, check=True)
        browser.open(Path(output, "report", "index.html").as_uri(), width=SIZE[0], height=SIZE[1])
        browser.wait("document.images.length > 8")
        made.append(save(browser, to / "report-while-running.webp"))
    return made


def _driver_of(address: str, token: str, submission: str) -> str:
    """How the dashboard names a submitted job: by its driver where there is one."""
    jobs: list[dict[str, Any]] = _ask(f"{address}/api/jobs/", token)
    return next(job["job_id"] or submission for job in jobs if job["submission_id"] == submission)


def _ask(url: str, token: str) -> Any:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def save(browser: Chromium, path: Path) -> Path:
    """The window as WebP, once its fonts and images are there and two frames more are drawn."""
    browser.wait("document.fonts.status === 'loaded' && [...document.images].every(one => one.complete)")
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    png = path.with_suffix(".png")
    browser.picture(png)
    Image.open(png).convert("RGB").save(path, quality=70, method=6)
    png.unlink()
    return path


def until(condition: Callable[[], Any], what: str) -> None:
    """Return as soon as it is true."""
    end = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {WAIT:.0f} s: {what}")
        time.sleep(0.5)


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--served", metavar="URI", help="a run with a detector: the picture is of its service")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="watch-", dir="/tmp") as folder:  # sockets need a short name
        to, run = arguments.to, arguments.served
        for path in service(to, Path(folder), run) if run else pictures(to, Path(folder)):
            print(f"{path} {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
