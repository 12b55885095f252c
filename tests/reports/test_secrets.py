"""Secrets."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from synood_ray.cli import evaluate, finetune, synthesize
from synood_ray.cli.arguments import parse
from synood_ray.cli.guard import main_guard
from synood_ray.locations import without_credentials
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.detection.tiny_clip import save_tiny_clip
from tests.farm.local_ray import make_images, use_local_ray
from tests.farm.stubs import stub_actors
from tests.reports.table import reported, rows
from tests.training.run_folder import make_run, make_settings

PASSWORD, KEY, QUERY, SECRET = "hunter22/pass@word", "sk-hunter22key", "hunter22query", "hunter22secret"
ENDPOINT = f"http://operator:{quote(PASSWORD, safe='')}@host.example:8000/v1?api_key={QUERY}"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", f"hf_{SECRET}")


def forms() -> Iterator[bytes]:
    """The secrets in clear and encoded: in URLs, in base64 by itself and in a Basic header."""
    for secret in (PASSWORD, KEY, QUERY, SECRET):
        for text in (secret, quote(secret), quote(secret, safe="")):
            yield text.encode()
        yield base64.b64encode(secret.encode()).rstrip(b"=")[:-1]
    yield base64.b64encode(f"operator:{PASSWORD}".encode()).rstrip(b"=")[:-1]


def leaked(*texts: str | bytes) -> set[bytes]:
    data = b"\n".join(text.encode() if isinstance(text, str) else text for text in texts)
    return {form for form in forms() if form in data}


def written(store: Store) -> list[bytes]:
    """All that a run has written, the names too."""
    return [part for entry in store.list() for part in (entry.key.encode(), store.get(entry.key))]


@rows(
    "place",
    (
        "trial",
        "a run with a password and a key in `describer.endpoint`, and keys in the environment",
        "none of them in anything that it writes, prints or logs, in clear or encoded",
        "folder",
    ),
    ("trial", "the same on S3, whose secret is in the environment and whose address has a password", "the same", "s3"),
)
def test_nothing_that_a_run_writes_or_says_holds_a_secret(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    use_local_ray(monkeypatch)
    caplog.set_level(logging.DEBUG)
    output = str(tmp_path / "run")
    if place == "s3":
        output = request.getfixturevalue("moto_uri")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        address = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://operator:{quote(PASSWORD, safe='')}@{address}")
    arguments = ["--data", str(make_images(tmp_path / "images", 6)), "--output", output, "--limit", "8"]
    arguments += ["--farm.unit_size", "4", "--describer.endpoint", ENDPOINT, "--log-level", "debug"]

    def run(argv: list[str]) -> int:
        return synthesize.run(parse(synthesize.COMMAND, argv), actors=stub_actors("error-1"))

    code = main_guard(run, arguments)
    said = capfd.readouterr()
    assert code == 3, said.err
    assert "describer.endpoint" in said.out, "it is shown, without what is secret in it"
    assert "http://host.example:8000/v1" in said.out
    found = written(open_store(output))
    assert len(found) > 20 and any(b"http://host.example:8000/v1" in data for data in found)
    own = [record.getMessage() for record in caplog.records if not record.name.startswith("botocore")]  # DEBUG only
    assert not leaked(*found, said.out, said.err, *own)


@reported("OpenBB-finance/OpenBB#6662", "fine-tuning, evaluation and report of such a run", "none of them there either")
def test_nor_does_what_is_made_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, str(save_tiny_clip(tmp_path / "clip")))
    settings.describer.endpoint = ENDPOINT
    store = make_run(settings)
    for command in (finetune, evaluate):
        assert (
            main_guard(lambda argv, command=command: command.run(parse(command.COMMAND, argv)), ["--run", store.uri])
            == 0
        )
    said = capfd.readouterr()
    found = written(store)
    assert any(b"<html" in data for data in found), "the report is among it"
    assert not leaked(*found, said.out, said.err)


@rows(
    "text",
    ("trial", "`user:password@` in any URL of a message", "left out", f"cannot read s3://key:{SECRET}@bucket/x"),
    (
        "trial",
        "a presigned URL in a message",
        "its query is left out",
        f"GET https://b.example/x?X-Amz-Signature={SECRET} failed",
    ),
)
def test_messages(text: str) -> None:
    assert leaked(text) and not leaked(without_credentials(text))


@reported("chocolatey/chocolatey.org#560", "a key with a line feed in it", "refused without being shown")
def test_a_malformed_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "run"), "--describer.endpoint", "http://host/v1"]
    assert main_guard(lambda argv: synthesize.run(parse(synthesize.COMMAND, argv)), arguments) == 2
    said = capfd.readouterr()
    assert "OPENAI_API_KEY" in said.err and not leaked(said.out, said.err)
