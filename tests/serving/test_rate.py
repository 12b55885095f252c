"""How many images a client may send, on a clock of the test's own."""

from __future__ import annotations

import pytest

from synood_ray.serving import rate
from synood_ray.serving.rate import Rate
from synood_ray.serving.refused import Refused


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_so_many_a_second() -> None:
    clock = Clock()
    limit = Rate(2.0, 6, clock)
    limit.take("a", 6)
    with pytest.raises(Refused) as refused:
        limit.take("a", 1)
    assert refused.value.status == 429 and refused.value.retry_after == 0.5
    limit.take("b", 6)
    clock.now = 1.5
    limit.take("a", 3)
    clock.now = 100.0
    limit.take("a", 6)  # no more than the burst is saved up
    with pytest.raises(Refused):
        limit.take("a", 1)


def test_without_a_rate_everything_goes() -> None:
    limit = Rate(None, 1, Clock())
    for _ in range(100):
        limit.take("a", 1000)


def test_clients_that_have_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "CLIENTS", 10)
    clock = Clock()
    limit = Rate(1.0, 2, clock)
    for client in range(500):
        clock.now += 1.0
        limit.take(str(client), 2)
        assert len(limit._buckets) <= 11
    limit.take("new", 2)
    with pytest.raises(Refused):
        limit.take("499", 1)
