"""Images on S3."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError

from synood_ray.config.settings import DataSettings
from synood_ray.data.selection import select
from synood_ray.data.source import open_source
from synood_ray.errors import UserError
from synood_ray.storage.stores.s3 import S3Store
from tests.badimages import encode, picture
from tests.data.conftest import MakeFolder, upload
from tests.reports.table import reported, rows

DATA = DataSettings()


def put(uri: str, key: str) -> None:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=encode(picture(seed=len(key))))


@rows(
    "key, words",
    (
        "developmentseed/multistore#116",
        "an object with an empty part in its key (a//b.png)",
        "skipped with the reason; the others are read",
        "cat//x.png",
        "an empty part",
    ),
    (
        "fsspec/s3fs#770",
        "an object whose key begins with a slash",
        "skipped with the reason, no class of no name",
        "/x.png",
        "an empty part",
    ),
    (
        "trial",
        "an object called ../x.png",
        "skipped with the reason; it leads nowhere",
        "cat/../x.png",
        "between slashes",
    ),
    ("trial", "a backslash in a key", "skipped with the reason", "cat/a\\b.png", "backslash"),
    ("trial", "a tab in a key", "skipped with the reason", "cat/a\tb.png", "control characters"),
    (
        "trial",
        "a part of a key longer than a file's name may be",
        "skipped with the reason",
        f"cat/{'x' * 300}.png",
        "too long",
    ),
)
def test_keys_that_are_no_paths(make_folder: MakeFolder, moto_uri: str, key: str, words: str) -> None:
    upload(make_folder(["cat", "dog"], 3), moto_uri)
    put(moto_uri, key)
    found = select(open_source(moto_uri, DATA), DATA)
    assert [one.key for one in found.classes] == ["cat", "dog"] and found.counts == [3, 3]
    assert [skip.key for skip in found.skips] == [key] and words in found.skips[0].reason


@reported("trial", "hidden objects (.thumbs/, @eaDir/)", "left out and counted")
def test_hidden_objects(make_folder: MakeFolder, moto_uri: str) -> None:
    upload(make_folder(["cat", "dog"], 3), moto_uri)
    for key in ("cat/.thumbs/1.png", "@eaDir/1.png"):
        put(moto_uri, key)
    found = select(open_source(moto_uri, DATA), DATA)
    assert [one.key for one in found.classes] == ["cat", "dog"]
    assert "2 hidden files are left out (" in found.notes[0]


@rows(
    "address",
    (
        "aws/aws-cli#439",
        "credentials for one prefix of a bucket",
        "it is listed and read there, nothing else is asked for",
        "",
    ),
    ("fsspec/s3fs#847", "the same, given with a slash behind it", "the same", "/"),
)
def test_credentials_for_a_prefix(
    make_folder: MakeFolder, moto_uri: str, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    upload(make_folder(["cat", "dog"], 3), moto_uri)
    prefix = moto_uri.removeprefix("s3://").partition("/")[2] + "/"
    real = S3Store._call

    def call(store: S3Store, what: str, request: object, *, budget: float | None = None) -> object:
        """The server's part of a policy: s3:ListBucket with s3:prefix like the prefix, s3:GetObject below it."""
        client, allowed = store._client, True

        def watch(params: dict, **_: object) -> None:
            nonlocal allowed
            allowed = allowed and str(params.get("Prefix", params.get("Key"))).startswith(prefix)

        client.meta.events.register("before-parameter-build.s3", watch, unique_id="policy")
        try:
            answer = real(store, what, request, budget=budget)  # type: ignore[arg-type]
        finally:
            client.meta.events.unregister("before-parameter-build.s3", unique_id="policy")
        if not allowed:
            raise store._translated(what, ClientError({"Error": {"Code": "AccessDenied"}}, what))
        return answer

    monkeypatch.setattr(S3Store, "_call", call)
    found = select(open_source(moto_uri + address, DATA), DATA)
    assert found.counts == [3, 3] and not found.skips
    with pytest.raises(UserError, match="access denied"):
        open_source(moto_uri[:-1], DATA)


@rows(
    "unset, words",
    (
        "trial",
        "no credentials at all",
        "refused in one line, before anything is written",
        "AWS_ACCESS_KEY_ID",
        "no complete credentials found",
    ),
    (
        "trial",
        "half of the credentials",
        "refused in one line",
        "AWS_SECRET_ACCESS_KEY",
        "no complete credentials found",
    ),
)
def test_credentials_that_are_missing(moto_uri: str, monkeypatch: pytest.MonkeyPatch, unset: str, words: str) -> None:
    monkeypatch.delenv(unset)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match=words) as caught:
        open_source(moto_uri, DATA)
    assert "\n" not in str(caught.value)


@reported("trial", "an endpoint that nobody answers at", "refused within seconds, not after the budget of a run")
def test_a_wrong_endpoint(moto_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("synood_ray.storage.stores.s3.OPEN_BUDGET", 0.1)
    with pytest.raises(UserError, match=r"check AWS_ENDPOINT_URL"):
        open_source(moto_uri, DATA)
