"""Stores to test against: a folder, a mock S3 server, and a real one."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import Store
from tests.storage.seaweed import AWS_ENVIRONMENT, Seaweed

BUCKET = "synood-test"


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """URL of a mock S3 server. In a process of its own: vLLM looks at every imported module, and Flask's mind that."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", line)
        if found:
            break
    else:
        pytest.fail("the mock S3 server did not start")
    threading.Thread(target=server.stderr.read, daemon=True).start()  # its log must not fill the pipe
    yield found[1]
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def weed_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a SeaweedFS."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    server.start()
    yield server.endpoint
    server.kill()


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> str:
    """Point the AWS environment at endpoint and return a fresh location in its bucket."""
    for name, value in {**AWS_ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    _make_bucket(endpoint)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@functools.cache
def _make_bucket(endpoint: str) -> None:
    import boto3

    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)


@pytest.fixture
def moto_uri(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh location on the mock server."""
    return use_s3(monkeypatch, moto_endpoint)


@pytest.fixture(params=["folder", "moto", pytest.param("seaweed", marks=pytest.mark.real)])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh location of every kind of store in turn."""
    if request.param == "folder":
        return str(tmp_path / "run")
    return use_s3(
        monkeypatch, request.getfixturevalue({"moto": "moto_endpoint", "seaweed": "weed_endpoint"}[request.param])
    )


@pytest.fixture
def store(uri: str) -> Store:
    """A fresh store of every kind in turn."""
    return open_store(uri)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    """A fresh store in a folder."""
    return open_store(str(tmp_path / "run"))
