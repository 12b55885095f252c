"""The store in an S3 bucket, or in anything that speaks S3 and honours conditional writes.

Endpoint, region, profile and credentials come from the standard AWS environment and files. boto's own retries are
off: they hide lost answers. Here every call is retried with full jitter until its time budget is used up, and a write
that finds its key taken looks whether it was its own earlier attempt.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3
import botocore.session
import urllib3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from synood_ray import waits
from synood_ray.errors import UserError
from synood_ray.storage.stores.base import Entry, NotFound, Put, Store, StoreUnavailable, check_key
from synood_ray.storage.stores.s3_errors import code_of, complaint, is_transient

T = TypeVar("T")

BUDGET = 120.0
"""Seconds that one call may take with all its retries (the attempt under way may add a read timeout)."""
OPEN_BUDGET = 5.0
"""The same for the first contact of a user's command: a wrong endpoint should be told at once."""

_BROKEN = (
    BotoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,  # botocore lets it through where an error's own body is cut off
)
"""A connection that failed, an answer that was cut off or garbled: the request may or may not have been carried out."""
_EXPECTED = {"NoSuchKey", "404", "PreconditionFailed", "412", "InvalidRange", "416"}
"""Answers that are results, not failures; the caller of `_call` handles them."""


class S3Store(Store):
    """See `Store`. The client is shared by all threads."""

    page_size = 1000  # objects a listing request

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        client: Any = None,
        budget: float = BUDGET,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")
        self._budget, self._clock, self._sleep = budget, clock, sleep
        try:
            self._client = client or _make_client()
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
            raise UserError(f"{self.uri}: {complaint(error) or error}") from error

    @classmethod
    def open(cls, uri: str, *, write: bool, patient: bool = False) -> S3Store:
        match = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
        if not match or not re.fullmatch(r"[A-Za-z0-9._-]{3,255}", match[1]):
            raise UserError(
                f"{uri}: not an S3 location; write s3://bucket/prefix, the bucket with 3 characters or more"
            )
        store = cls(match[1], match[2])
        try:
            page = store._page(store.prefix, None, limit=1, budget=None if patient else OPEN_BUDGET)
        except StoreUnavailable as error:
            raise UserError(f"{store.uri}: {error}; check AWS_ENDPOINT_URL, AWS_REGION and the network") from error
        if not write and not page.get("Contents"):
            raise UserError(f"{store.uri}: nothing here; name the location of an existing run")
        return store

    def put_new(self, key: str, data: bytes) -> Put:
        name = self.prefix + check_key(key)
        for _ in range(5):
            try:
                self._call(
                    f"write {key}",
                    lambda: self._client.put_object(Bucket=self.bucket, Key=name, Body=data, IfNoneMatch="*"),
                )
                return Put.CREATED
            except ClientError:  # 412, the only expected answer: taken, perhaps by our own write whose answer was lost
                try:
                    taken = self.get(key)
                except NotFound:
                    continue  # deleted in between
            return Put.SAME if _sha256(taken) == _sha256(data) else Put.DIFFERENT
        raise UserError(f"{self.uri}/{key}: the server neither writes nor has it; is there a folder of that name?")

    def get(self, key: str) -> bytes:
        return self._read(key, {})

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if start < 0:
            raise ValueError(f"range starts at {start}, outside {key!r}")
        # HTTP has no empty range, and an empty object has no range at all: ask for a byte and cut.
        try:
            return self._read(key, {"Range": f"bytes={start}-{start + max(length, 1) - 1}"})[:length]
        except ClientError:
            if start == 0:
                return b""
            raise ValueError(f"range starts at {start}, outside {key!r}") from None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        token = None
        while True:
            page = self._page(self.prefix + prefix, token, self.page_size)
            for found in page.get("Contents", []):
                if not found["Key"].endswith("/"):  # consoles mark "folders" with such empty objects
                    yield Entry(
                        found["Key"].removeprefix(self.prefix), found["Size"], found["LastModified"].timestamp()
                    )
            token = page.get("NextContinuationToken")
            if not token:
                return

    def exists(self, key: str) -> bool:
        name = self.prefix + check_key(key)
        try:
            self._call(f"look up {key}", lambda: self._client.head_object(Bucket=self.bucket, Key=name))
        except ClientError:
            return False
        return True

    def delete(self, key: str) -> None:
        name = self.prefix + check_key(key)
        self._call(f"delete {key}", lambda: self._client.delete_object(Bucket=self.bucket, Key=name))

    def check_conditions(self) -> None:
        """A write that must be refused: in place of an object that is not there, with a digest that none has."""
        key = f"check-{uuid.uuid4().hex}"
        name = self.prefix + key
        try:
            self._call(
                f"write {key}",
                lambda: self._client.put_object(Bucket=self.bucket, Key=name, Body=b"", IfMatch=f'"{"0" * 32}"'),
                budget=OPEN_BUDGET,
            )
        except ClientError:
            return
        self.delete(key)
        raise UserError(f"{self.uri}: this store does not honour the condition of a write; a run is not safe in it")

    def _read(self, key: str, extra: dict[str, str]) -> bytes:
        name = self.prefix + check_key(key)

        def read() -> bytes:  # with the body, whose end may be missing
            return self._client.get_object(Bucket=self.bucket, Key=name, **extra)["Body"].read()

        try:
            return self._call(f"read {key}", read)
        except ClientError as error:
            if code_of(error) in ("NoSuchKey", "404"):
                raise NotFound(key) from None
            raise

    def _page(self, prefix: str, token: str | None, limit: int, budget: float | None = None) -> dict[str, Any]:
        extra = {"ContinuationToken": token} if token else {}
        return self._call(
            "list",
            lambda: self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=limit, **extra),
            budget=budget,
        )

    def _call(self, what: str, request: Callable[[], T], *, budget: float | None = None) -> T:
        """Do it until it works. Raises UserError, StoreUnavailable, or ClientError with an expected answer."""
        budget = self._budget if budget is None else budget
        start = self._clock()
        pause_limit = 0.1
        while True:
            try:
                answer = request()
            except ClientError as error:
                if code_of(error) in _EXPECTED:
                    waits.over(self.uri)
                    raise
                if not is_transient(error):
                    raise self._translated(what, error) from error
                last: Exception = error
            except _BROKEN as error:
                last = error
            except BotoCoreError as error:
                raise self._translated(what, error) from error
            else:
                waits.over(self.uri)
                return answer
            waits.note(self.uri, f"{type(last).__name__}: {last}")
            pause = random.uniform(0.0, pause_limit)  # full jitter: many workers must not come back together
            pause_limit = min(2 * pause_limit, 8.0)
            if self._clock() - start + pause > budget:
                state = "cannot be reached" if isinstance(last, EndpointConnectionError) else "does not answer properly"
                endpoint = self._client.meta.endpoint_url
                raise StoreUnavailable(f"{endpoint} {state}: could not {what} in {budget:.0f} s ({last})") from last
            self._sleep(pause)

    def _translated(self, what: str, error: Exception) -> Exception:
        text = complaint(error)
        return UserError(f"{self.uri}: could not {what}: {text}") if text else error


def _make_client() -> Any:
    core = botocore.session.Session()
    session = boto3.Session(botocore_session=core, region_name=os.environ.get("AWS_REGION"))
    options: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": 5,
        "read_timeout": 60,
        "max_pool_connections": 32,
        "tcp_keepalive": True,
    }
    client = session.client("s3", config=Config(**options))
    own_endpoint = "amazonaws.com" not in client.meta.endpoint_url
    if own_endpoint and "addressing_style" not in core.get_scoped_config().get("s3", {}):
        # bucket.host does not resolve for most servers of one's own.
        client = session.client("s3", config=Config(**options, s3={"addressing_style": "path"}))
    return client


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
