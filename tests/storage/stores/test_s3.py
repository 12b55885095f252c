"""What is particular to S3: faults on the way, lost answers, and errors that the user has to mend."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import boto3
import pytest
import urllib3

from synood_ray import waits
from synood_ray.errors import UserError
from synood_ray.storage.stores import open_store
from synood_ray.storage.stores.base import NotFound, Put, StoreUnavailable
from synood_ray.storage.stores.counted import CountedStore
from synood_ray.storage.stores.s3 import S3Store
from tests.faultproxy import Fault, FaultProxy
from tests.storage.conftest import BUCKET, use_s3

TRANSIENT = [Fault.ERROR_500, Fault.SLOW_DOWN, Fault.CONFLICT, Fault.RESET]


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture(params=["moto", pytest.param("seaweed", marks=pytest.mark.real)])
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before a server; the environment points at the proxy."""
    endpoint = request.getfixturevalue({"moto": "moto_endpoint", "seaweed": "weed_endpoint"}[request.param])
    use_s3(monkeypatch, endpoint)
    with FaultProxy(endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def remote(proxy: FaultProxy, clock: Clock, request: pytest.FixtureRequest) -> S3Store:
    """A store behind the proxy, with a budget of 60 seconds that pass at once."""
    return S3Store(BUCKET, request.node.name, budget=60.0, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_passes_is_not_noticed(remote: S3Store, proxy: FaultProxy, clock: Clock, fault: Fault) -> None:
    proxy.script("PUT", fault, fault)
    assert remote.put_new("a/x", b"1") is Put.CREATED
    proxy.script("GET", fault)
    assert remote.get("a/x") == b"1"
    proxy.script("GET", fault)
    assert [e.key for e in remote.list()] == ["a/x"]
    proxy.script("HEAD", fault)
    assert remote.exists("a/x")
    proxy.script("DELETE", fault)
    remote.delete("a/x")
    assert not remote.exists("a/x")
    assert proxy.done[fault] == len(clock.pauses) == 6


def test_a_lost_answer_is_found_to_be_ones_own_write(remote: S3Store, proxy: FaultProxy) -> None:
    proxy.script("PUT", Fault.DROP_ANSWER)
    assert remote.put_new("x", b"mine") is Put.SAME
    assert proxy.seen["PUT"] == 2
    assert remote.get("x") == b"mine"


def test_a_lost_answer_of_a_lost_race(remote: S3Store, proxy: FaultProxy) -> None:
    remote.put_new("x", b"theirs")
    proxy.script("PUT", Fault.DROP_ANSWER)
    assert remote.put_new("x", b"mine") is Put.DIFFERENT
    assert remote.get("x") == b"theirs"


def test_a_body_cut_short_is_read_again(remote: S3Store, proxy: FaultProxy) -> None:
    remote.put_new("x", b"0123456789" * 1000)
    proxy.script("GET", Fault.CUT_BODY)
    assert remote.get("x") == b"0123456789" * 1000
    proxy.script("GET", Fault.CUT_BODY)
    assert remote.get_range("x", 5, 5000) == b"5678901234" * 500
    proxy.script("GET", Fault.CUT_BODY)
    assert [e.key for e in remote.list()] == ["x"]
    assert proxy.done[Fault.CUT_BODY] == 3


def test_an_error_whose_own_body_is_cut_off_is_a_fault_like_others(clock: Clock) -> None:
    answers = iter([urllib3.exceptions.ProtocolError("Connection broken"), {"Body": io.BytesIO(b"data")}])

    def get_object(**_: object) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = SimpleNamespace(get_object=get_object)
    assert S3Store("bucket", "", client=client, clock=clock, sleep=clock.sleep).get("key") == b"data"


def test_of_racing_writers_behind_faults_exactly_one_wins(remote: S3Store, proxy: FaultProxy) -> None:
    proxy.script("PUT", Fault.DROP_ANSWER, Fault.CONFLICT, Fault.RESET, Fault.DROP_ANSWER, Fault.SLOW_DOWN)
    gate = threading.Barrier(8)

    def write(number: int) -> Put:
        gate.wait()
        return remote.put_new("x", f"writer {number}".encode())

    with ThreadPoolExecutor(8) as writers:
        results = list(writers.map(write, range(8)))
    winners = [i for i, result in enumerate(results) if result is not Put.DIFFERENT]
    assert len(winners) == 1
    assert remote.get("x") == f"writer {winners[0]}".encode()


def test_the_time_budget_ends_the_retries(remote: S3Store, proxy: FaultProxy, clock: Clock) -> None:
    proxy.script("PUT", *[Fault.SLOW_DOWN] * 1000)
    with pytest.raises(StoreUnavailable, match=r"could not write x in 60 s .*SlowDown"):
        remote.put_new("x", b"1")
    assert 40.0 < clock.now <= 60.0
    assert max(clock.pauses) <= 8.0
    assert len(clock.pauses) > 10


@pytest.mark.parametrize(
    ("fault", "words"),
    [(Fault.EXPIRED, "have expired"), (Fault.SKEWED, "clock"), (Fault.DENIED, "access denied")],
)
def test_what_the_user_must_mend_is_told_at_once(
    remote: S3Store, proxy: FaultProxy, clock: Clock, fault: Fault, words: str
) -> None:
    proxy.script("PUT", fault)
    with pytest.raises(UserError, match=words):
        remote.put_new("x", b"1")
    assert clock.pauses == []
    assert proxy.seen["PUT"] == 1


def test_no_such_bucket(moto_uri: str) -> None:
    with pytest.raises(UserError, match="the bucket does not exist"):
        open_store("s3://no-such-bucket/x")


@pytest.mark.real
def test_wrong_credentials(weed_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = use_s3(monkeypatch, weed_endpoint)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match="credentials are not accepted"):
        open_store(uri)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(UserError, match="credentials are not accepted"):
        open_store(uri)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no complete credentials"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "redentials"),
        ({"AWS_PROFILE": "nobody"}, r"profile \(nobody\)"),
        ({"AWS_ENDPOINT_URL": "not a url"}, "Invalid endpoint"),
    ],
)
def test_a_wrong_environment(
    moto_uri: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None], words: str
) -> None:
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        open_store(moto_uri)


def test_nobody_at_the_endpoint(moto_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("synood_ray.storage.stores.s3.OPEN_BUDGET", 0.2)
    with pytest.raises(UserError, match=r"127.0.0.1:9 cannot be reached.*AWS_ENDPOINT_URL"):
        open_store(moto_uri)


def test_workers_are_patient_with_a_server_that_is_down_as_they_start(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synood_ray.storage.stores.s3.OPEN_BUDGET", 0.0)
    proxy.script("GET", Fault.RESET, Fault.RESET)
    with pytest.raises(UserError, match="does not answer properly"):
        open_store(f"s3://{BUCKET}/patience")
    open_store(f"s3://{BUCKET}/patience", patient=True)
    assert proxy.done[Fault.RESET] == 2


@pytest.mark.real
def test_a_key_that_is_a_folder_on_the_server(weed_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weed_store = open_store(use_s3(monkeypatch, weed_endpoint))
    weed_store.put_new("a/b", b"1")
    with pytest.raises(UserError, match="a folder of that name"):
        weed_store.put_new("a", b"2")


def test_folder_marks_of_consoles_are_not_objects(moto_uri: str) -> None:
    store = open_store(moto_uri)
    store.put_new("parts/x", b"1")
    prefix = moto_uri.split("/")[-1]
    for mark in (f"{prefix}/", f"{prefix}/parts/"):
        boto3.client("s3").put_object(Bucket=BUCKET, Key=mark, Body=b"")
    assert [e.key for e in store.list()] == ["parts/x"]


def test_a_prefix_ends_at_a_slash(moto_uri: str) -> None:
    open_store(f"{moto_uri}-other").put_new("x", b"1")
    assert list(open_store(moto_uri).list()) == []
    assert open_store(f"{moto_uri}//").uri == moto_uri


def test_the_region_of_the_standard_variable(moto_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    store = open_store(moto_uri)
    assert isinstance(store, CountedStore) and isinstance(store.inner, S3Store)
    assert store.inner._client.meta.region_name == "eu-central-1"


def test_a_write_that_must_be_refused_is_and_leaves_nothing(remote: S3Store) -> None:
    remote.check_conditions()
    assert not list(remote.list())


def test_a_server_that_ignores_conditions_is_found_out(clock: Clock) -> None:
    held: dict[str, bytes] = {}

    class Careless:
        def put_object(self, Bucket: str, Key: str, Body: bytes, **ignored: object) -> None:
            held[Key] = Body

        def delete_object(self, Bucket: str, Key: str) -> None:
            del held[Key]

    store = S3Store("bucket", "run", client=Careless(), clock=clock, sleep=clock.sleep)
    with pytest.raises(UserError, match="does not honour the condition of a write"):
        store.check_conditions()
    assert not held


def test_a_store_that_is_waited_for_is_noted_until_it_answers(remote: S3Store, proxy: FaultProxy, clock: Clock) -> None:
    noted: list[bool] = []
    remote._sleep = lambda seconds: noted.append(remote.uri in dict(waits.current(0.0)))
    proxy.script("GET", *[TRANSIENT[0]] * 2)
    with pytest.raises(NotFound):
        remote.get("a/x")
    assert noted == [True, True] and remote.uri not in dict(waits.current(0.0))
