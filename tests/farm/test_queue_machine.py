"""The queue's specification: a state machine that does anything, beside a model of what must come of it."""

from __future__ import annotations

import random
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from synood_ray.farm.queue import Counts, Lease, State, UnitQueue
from tests.farm.test_queue import Clock

DEADLINE, MAX_ATTEMPTS, MAX_LOSSES = 10.0, 3, 4
UNITS = st.sets(st.integers(0, 7))
WORKERS = st.sampled_from(["w1", "w2", "w3"])


class QueueMachine(RuleBasedStateMachine):
    """Does anything in any order, beside a simple model of what must come of it."""

    given = Bundle("given")

    @initialize(
        n=st.integers(1, 8),
        committed=st.sets(st.integers(0, 7)),
        quarantined=st.sets(st.integers(0, 7)),
        block=st.booleans(),
    )
    def start(self, n: int, committed: set[int], quarantined: set[int], block: bool) -> None:
        self.clock = Clock()
        self.committed = {u for u in committed if u < n}
        self.blocked = set(range(n)) - self.committed - quarantined if block else set()
        self.failures, self.losses = [0] * n, [0] * n
        self.live: dict[int, Lease] = {}
        self.given_up = {u for u in quarantined if u < n} - self.committed
        self.queue = UnitQueue(
            n,
            self.committed,
            quarantined=self.given_up,
            blocked=block,
            max_attempts=MAX_ATTEMPTS,
            max_losses=MAX_LOSSES,
            deadline=DEADLINE,
            clock=self.clock,
            rng=random.Random(0),
        )

    @rule(target=given, worker=WORKERS)
    def lease(self, worker: str) -> Any:
        waiting = self._waiting()
        lease = self.queue.lease(worker)
        if not waiting:
            assert lease is None
            return multiple()
        assert lease is not None and lease.unit in waiting and not lease.copy
        return self._granted(lease)

    @rule(target=given, worker=WORKERS, age=st.floats(0, 8))
    def lease_copy(self, worker: str, age: float) -> Any:
        lease = self.queue.lease_copy(worker, age)
        if lease is None:
            return multiple()
        (other,) = [held for held in self.live.values() if held.unit == lease.unit]
        assert other.worker != worker and self.clock.now - other.started > age and lease.copy
        return self._granted(lease)

    @rule(lease=consumes(given))
    def ack(self, lease: Lease) -> None:
        assert self.queue.ack(lease) == (lease.unit not in self.committed)
        self._commit(lease.unit)

    @rule(unit=st.integers(0, 7))
    def commit(self, unit: int) -> None:
        if unit < len(self.queue):
            assert self.queue.commit(unit) == (unit not in self.committed)
            self._commit(unit)

    @rule(units=UNITS)
    def commit_others(self, units: set[int]) -> None:
        there = {unit for unit in units if unit < len(self.queue)}
        leased = {lease.unit for lease in self.live.values()}
        news = there - self.committed - leased
        assert self.queue.commit_others(np.array(sorted(there), dtype=np.int64)) == len(news)
        for unit in news:
            self._commit(unit)

    @rule(lease=given, lost=st.booleans(), away=st.booleans())
    def nack(self, lease: Lease, lost: bool, away: bool) -> None:
        if self.live.pop(lease.id, None) and not away:
            (self.losses if lost else self.failures)[lease.unit] += 1
        assert self.queue.nack(lease, lost=lost, away=away) is self.queue.state(lease.unit)

    @rule(far=st.booleans())
    def share(self, far: bool) -> None:
        if far:
            self.queue.leap()
        else:
            self.queue.share()

    @rule(worker=WORKERS, lost=st.booleans())
    def release(self, worker: str, lost: bool) -> None:
        mine = [lease for lease in self.live.values() if lease.worker == worker]
        assert [lease.id for lease in self.queue.release(worker, lost=lost)] == [lease.id for lease in mine]
        for lease in mine:
            del self.live[lease.id]
        if mine and lost:
            self.losses[mine[0].unit] += 1

    @rule(lease=given)
    def extend(self, lease: Lease) -> None:
        extended = self.queue.extend(lease)
        assert (extended is not None) == (lease.id in self.live)
        if extended is not None:
            assert extended.started == lease.started
            (self.live[lease.id],) = [held for held in self.queue.leases(lease.unit) if held.id == lease.id]
            assert self.live[lease.id].deadline == self.clock.now + DEADLINE

    @rule(seconds=st.floats(0, 12))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        late = [i for i, lease in self.live.items() if lease.deadline <= self.clock.now]
        assert [lease.id for lease in self.queue.expire()] == late
        for i in late:
            self.failures[self.live.pop(i).unit] += 1

    @precondition(lambda self: self.blocked)
    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        unit = data.draw(st.sampled_from(sorted(self.blocked)))
        assert self.queue.add(unit)
        assert not self.queue.add(unit)
        self.blocked.remove(unit)

    @rule(units=UNITS)
    def add_all(self, units: set[int]) -> None:
        there = {unit for unit in units if unit < len(self.queue)}
        self.queue.add_all(np.array(sorted(there), dtype=np.int64))
        self.blocked -= there

    @rule(unit=st.integers(0, 7))
    def quarantine(self, unit: int) -> None:
        if unit < len(self.queue):
            self.queue.quarantine(unit)
            if unit not in self.committed:
                self.given_up.add(unit)
                self.blocked.discard(unit)
                self._drop_leases(unit)

    @invariant()
    def every_unit_is_in_the_one_state_it_must_be_in(self) -> None:
        expected = [self._expected(unit) for unit in range(len(self.queue))]
        assert [self.queue.state(unit) for unit in range(len(self.queue))] == expected
        assert self.queue.counts() == Counts(*(expected.count(State(i)) for i in range(5)))
        assert self.queue.done == all(state in (State.COMMITTED, State.QUARANTINED) for state in expected)

    @invariant()
    def the_leases_are_the_models(self) -> None:
        assert {lease.id: lease for lease in self.queue.leases()} == self.live

    @invariant()
    def budgets_hold(self) -> None:
        # Two leases at once are the most: when the budget ends with one, the other may still fail.
        assert max(self.failures) <= MAX_ATTEMPTS + 1
        assert max(self.losses) <= MAX_LOSSES + 1

    def teardown(self) -> None:
        """No unit is lost: whatever has happened, patient workers finish everything that was not given up."""
        if not hasattr(self, "queue"):
            return
        for unit in self.blocked:
            self.queue.add(unit)
        for worker in ("w1", "w2", "w3"):
            self.queue.release(worker, lost=False)
        while lease := self.queue.lease("patient"):
            assert self.queue.ack(lease)
        assert self.queue.done

    def _granted(self, lease: Lease) -> Lease:
        assert self.failures[lease.unit] < MAX_ATTEMPTS and self.losses[lease.unit] < MAX_LOSSES
        assert lease.deadline == self.clock.now + DEADLINE
        self.live[lease.id] = lease
        return lease

    def _commit(self, unit: int) -> None:
        self.committed.add(unit)
        self.blocked.discard(unit)
        self.given_up.discard(unit)
        self._drop_leases(unit)

    def _drop_leases(self, unit: int) -> None:
        self.live = {i: lease for i, lease in self.live.items() if lease.unit != unit}

    def _waiting(self) -> set[int]:
        return {u for u in range(len(self.queue)) if self._expected(u) is State.WAITING}

    def _expected(self, unit: int) -> State:
        if unit in self.committed:
            return State.COMMITTED
        if unit in self.given_up:
            return State.QUARANTINED
        if unit in self.blocked:
            return State.BLOCKED
        if any(lease.unit == unit for lease in self.live.values()):
            return State.LEASED
        spent = self.failures[unit] >= MAX_ATTEMPTS or self.losses[unit] >= MAX_LOSSES
        return State.QUARANTINED if spent else State.WAITING


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
