"""Nothing waits in silence: what is said about workers without a place and about services that are away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import RpcError

from synood_ray import used, waits
from synood_ray.errors import UserError
from synood_ray.farm import cluster
from synood_ray.farm.cluster import Autoscaling, await_room, outlook
from synood_ray.farm.observers import Snapshot, Tick, Used, WaitBegan, WaitEnded
from synood_ray.farm.placement import Need, Node
from synood_ray.farm.pool import Worker
from synood_ray.farm.stage import Stage
from synood_ray.farm.waiting import waits_of
from synood_ray.storage.stores.base import Store
from tests.farm.clockwork import TOLD, make, sampling
from tests.farm.local_ray import LocalRay
from tests.farm.stubs import stub_actors

GPU = Need("sampler", "farm.samplers", {"GPU": 1.0})


def snapshots() -> list[Snapshot]:
    return [tick.snapshot for tick in TOLD.of(Tick)]


def test_a_worker_without_a_place_is_told_of_within_15_s_and_at_every_tick(ray: LocalRay, store: Store) -> None:
    begin = ray.now
    ray.place = lambda handle: None if handle.name.startswith("sampler-1") else "here"
    ray.seconds = sampling(lambda handle, unit: 100.0)
    driver = make(store, samplers={"max": 2, "gpus": 99.0})
    when: list[float] = []
    driver.observers.append(lambda event: when.append(ray.now - begin) if isinstance(event, WaitBegan) else None)
    driver.run()
    assert when and when[0] <= 15
    line = "sampler: waiting for 99 GPU, 1 CPU; no node has or will have it"
    assert TOLD.of(WaitBegan) == [WaitBegan("samplers without a place", line, "place")]
    waiting = [snapshot.waits for snapshot in snapshots()[10:100]]
    assert set(waiting) == {(line,)}


def test_what_a_worker_waits_for_is_told_by_the_driver(ray: LocalRay, store: Store) -> None:
    """The model server is away from second 10 to second 25."""
    begin = ray.now

    def seconds(handle: object, method: str, arguments: tuple[object, ...]) -> float:
        now = ray.now - begin
        if method == "sample" and now >= 10:
            waits.note("http://host/v1", "HTTP 503: busy") if now < 25 else waits.over("http://host/v1")
        return 8.0 if method == "sample" else 0.0

    ray.seconds = seconds
    make(store).run()
    assert [event.what for event in TOLD.of(WaitBegan)] == ["http://host/v1"]
    assert TOLD.of(WaitBegan)[0].line.startswith("http://host/v1 has not answered for ")
    (ended,) = TOLD.of(WaitEnded)
    assert 10 < ended.seconds < 35 and TOLD.of(WaitBegan)[0].kind == "server"


class StubScorer:
    def __init__(self, *arguments: Any) -> None: ...


def test_workers_of_every_role_are_asked_in_turn(ray: LocalRay, store: Store) -> None:
    """What scorer actors have read of the store is theirs to tell: no unit's report holds it."""
    ray.seconds = sampling(lambda handle, unit: 10.0)
    driver = make(store, actors=replace(stub_actors(), scorer=StubScorer), remote=True, scorers={"max": 2})
    asked: list[str] = []
    inside = driver.calls.inside

    def spy(stage: Stage, worker: Worker, function: Any) -> None:
        if function is waits_of:
            asked.append(worker.name)
            used.add("synood_store_bytes", worker.name)
        inside(stage, worker, function)

    driver.calls.inside = spy  # type: ignore[method-assign]
    driver.run()
    assert {"scorer-0", "scorer-1", "sampler-0", "sampler-1"} <= {*asked}
    told = {name for event in TOLD.of(Used) for name in event.used["synood_store_bytes"]}
    assert {"scorer-0", "scorer-1"} <= told


def test_a_short_hiccup_is_not_worth_a_word(ray: LocalRay) -> None:
    waits.note("s3://runs/x", "HTTP 503\nSlowDown")
    ray.now += 4
    assert not waits.current()
    waits.note("s3://runs/x", "HTTP 500")
    ray.now += 2
    assert waits.current() == [("s3://runs/x", "s3://runs/x has not answered for 6 s (HTTP 500)")]
    waits.over("s3://runs/x")
    assert not waits.current()


@pytest.mark.parametrize(
    ("node", "scaler", "words"),
    [
        (Node({"CPU": 1.0}), None, "no node has or will have it"),
        (Node({"GPU": 1.0}), None, "the nodes that have it are in use"),
        (Node({"CPU": 1.0}), Autoscaling(1), "the autoscaler is starting one"),
        (Node({"CPU": 1.0}), Autoscaling(), "no node has it, and the autoscaler has none on its way yet"),
        (Node({"CPU": 1.0}), Autoscaling(0, [{"GPU": 1.0}]), "no node has or will have it"),
        (Node({"CPU": 1.0}), Autoscaling(known=False), "no node has it, and the cluster does not say whether one will"),
        (Node({"GPU": 1.0}), Autoscaling(known=False), "the nodes that have it are in use"),
    ],
)
def test_what_a_worker_may_expect(
    node: Node, scaler: Autoscaling | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "nodes", lambda: [node])
    monkeypatch.setattr(cluster, "autoscaling", lambda: scaler)
    assert outlook(GPU).startswith(words)


def test_a_head_that_does_not_answer_is_said_once_and_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unanswered() -> None:
        raise RpcError("deadline exceeded\nmore")

    cluster._warn_once.cache_clear()
    monkeypatch.setattr(cluster, "_autoscaling", unanswered)
    assert [cluster.autoscaling() for _ in range(3)] == [Autoscaling(known=False)] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "Ray's head does not say what its autoscaler does: RpcError: deadline exceeded"
    ]
    monkeypatch.setattr(cluster, "_autoscaling", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a defect
        cluster.autoscaling()


def test_nodes_may_join_a_cluster_and_none_comes_to_this_machine(
    ray: LocalRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, said = ray.now, list[str]()
    monkeypatch.setattr(cluster, "nodes", lambda: [Node({"GPU": float(ray.now - begin >= 20)})])
    for name in cluster.JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="no node has that"):
        await_room([[GPU]], said.append)
    assert ray.now == begin and not said
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    await_room([[GPU]], said.append)
    assert ray.now == begin + 20 and len(said) == 1 and said[0].startswith("waiting for nodes to join, 60 s at most: ")
    monkeypatch.setattr(cluster, "nodes", lambda: [])
    with pytest.raises(UserError, match="no node has that"):
        await_room([[GPU]], said.append)
    assert ray.now == begin + 80
    monkeypatch.setattr(cluster, "autoscaling", lambda: Autoscaling())
    await_room([[GPU]], said.append)  # it may see to it
