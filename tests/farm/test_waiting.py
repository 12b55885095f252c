"""Nothing waits in silence: what is said about workers without a place and about services that are away."""

from __future__ import annotations

import pytest

from synood_ray import waits
from synood_ray.errors import UserError
from synood_ray.farm import cluster
from synood_ray.farm.cluster import Autoscaling, await_room, outlook
from synood_ray.farm.observers import Snapshot, Tick, WaitBegan, WaitEnded
from synood_ray.farm.placement import Need, Node
from synood_ray.storage.stores.base import Store
from tests.farm.clockwork import TOLD, make, sampling
from tests.farm.local_ray import LocalRay

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


def test_a_head_that_does_not_answer_is_no_reason_to_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered() -> None:
        raise TimeoutError("deadline exceeded")

    monkeypatch.setattr(cluster, "_autoscaling", unanswered)
    assert cluster.autoscaling() == Autoscaling(known=False)


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
