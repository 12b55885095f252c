"""The queue of units: a state machine that tries everything, and the rules one by one."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
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

DEADLINE, MAX_ATTEMPTS, MAX_LOSSES = 10.0, 3, 4
UNITS = st.sets(st.integers(0, 7))
WORKERS = st.sampled_from(["w1", "w2", "w3"])


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


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

    @rule(lease=given, error=st.sampled_from(["broken", "worse"]), lost=st.booleans())
    def nack(self, lease: Lease, error: str, lost: bool) -> None:
        if self.live.pop(lease.id, None):
            (self.losses if lost else self.failures)[lease.unit] += 1
        assert self.queue.nack(lease, error, lost=lost) is self.queue.state(lease.unit)

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
            self.queue.quarantine(unit, "no prompts")
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
        assert self.queue.idle == (State.WAITING not in expected and State.LEASED not in expected)

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _take(queue: UnitQueue, worker: str = "w") -> Lease:
    lease = queue.lease(worker)
    assert lease is not None
    return lease


def test_fresh_units_come_in_order_and_only_those_not_done(clock: Clock) -> None:
    queue = UnitQueue(6, committed=[0, 3], quarantined=[4], clock=clock)
    assert [_take(queue).unit for _ in range(3)] == [1, 2, 5]
    assert queue.lease("w") is None
    assert queue.counts() == Counts(0, 3, 2, 1, 0)


def test_returned_units_wait_for_the_tail_and_then_go_first(clock: Clock) -> None:
    queue = UnitQueue(8, max_attempts=9, clock=clock)
    failed = [_take(queue, f"w{i}") for i in range(2)]
    _take(queue)
    for lease in failed:
        queue.nack(lease, "broken")
    # Left: 3 4 5 6 7 fresh, 0 1 returned, one lease. Fresh first until as few are left as there are leases.
    assert [_take(queue).unit for _ in range(7)] == [3, 4, 0, 1, 5, 6, 7]


def test_a_unit_that_always_fails_blocks_no_other_and_is_given_up(clock: Clock) -> None:
    queue, done = UnitQueue(5, max_attempts=3, clock=clock), []
    while lease := queue.lease("w"):
        if lease.unit == 1:
            queue.nack(lease, f"broken {lease.attempt}")
        else:
            queue.ack(lease)
        done.append((lease.unit, lease.attempt))
    assert [unit for unit, _ in done].count(1) == 3
    assert queue.state(1) is State.QUARANTINED
    assert queue.counts() == Counts(0, 0, 4, 1, 0)
    assert queue.error(1).splitlines() == [f"attempt {i} on w: broken {i}" for i in (1, 2, 3)]
    assert queue.error(0) == ""


def test_attempts_are_numbered_across_runs(clock: Clock) -> None:
    queue = UnitQueue(2, attempts={1: 4}, max_attempts=2, clock=clock)
    assert [(lease.unit, lease.attempt) for lease in (_take(queue), _take(queue))] == [(0, 1), (1, 5)]
    assert queue.nack(queue.leases()[1], "broken") is State.WAITING
    assert _take(queue).attempt == 6


def test_a_late_answer_counts(clock: Clock) -> None:
    queue = UnitQueue(1, deadline=10, max_attempts=1, clock=clock)
    lease = _take(queue)
    clock.now = 10.0
    assert queue.expire() == [lease]
    assert queue.state(0) is State.QUARANTINED
    assert queue.error(0) == "attempt 1 on w: no answer in 10 s"
    assert queue.ack(lease)
    assert queue.done and queue.counts().committed == 1
    assert not queue.ack(lease)


def test_the_first_of_two_copies_wins(clock: Clock) -> None:
    queue = UnitQueue(2, deadline=100, clock=clock)
    slow, other = _take(queue, "slow"), _take(queue, "fast")
    clock.now = 5.0
    assert queue.lease_copy("fast", older_than=5.0) is None  # not older yet
    clock.now = 6.0
    assert queue.lease_copy("slow", older_than=5.0) == Lease(2, 1, "slow", 2, 6.0, 106.0, copy=True)
    copy = queue.lease_copy("fast", older_than=5.0)
    assert copy and (copy.unit, copy.copy) == (0, True)
    assert queue.lease_copy("third", older_than=5.0) is None  # two at once are enough
    assert queue.ack(copy)
    assert not queue.ack(slow)
    assert [lease.unit for lease in queue.leases()] == [1, 1]
    assert queue.nack(slow, "too late") is State.COMMITTED
    assert queue.nack(other, "broken") is State.LEASED  # the copy may still bring it home


def test_no_copy_of_a_unit_whose_budget_is_spent(clock: Clock) -> None:
    queue = UnitQueue(1, max_attempts=1, clock=clock)
    first = _take(queue, "w1")
    clock.now = 1.0
    copy = queue.lease_copy("w2", older_than=0.5)
    assert copy and queue.nack(first, "broken") is State.LEASED
    clock.now = 2.0
    assert queue.lease_copy("w1", older_than=0.5) is None
    assert queue.nack(copy, "broken") is State.QUARANTINED


def test_only_the_unit_in_progress_pays_for_a_dead_worker(clock: Clock) -> None:
    queue = UnitQueue(3, max_losses=1, clock=clock)
    leases = [_take(queue, "w"), _take(queue, "w"), _take(queue, "other")]
    assert queue.release("w", "node lost") == leases[:2]
    assert [queue.state(u) for u in range(3)] == [State.QUARANTINED, State.WAITING, State.LEASED]
    assert "node lost" in queue.error(0)
    assert queue.release("w") == []
    queue.release("other", lost=False)
    assert queue.state(2) is State.WAITING


def test_losing_machines_is_cheaper_than_errors(clock: Clock) -> None:
    queue = UnitQueue(1, max_attempts=2, max_losses=10, clock=clock)
    for _ in range(9):
        _take(queue)
        queue.release("w")
    assert queue.nack(_take(queue), "broken") is State.WAITING


def test_extending_moves_the_deadline(clock: Clock) -> None:
    queue = UnitQueue(1, deadline=10, clock=clock)
    lease = _take(queue)
    clock.now = 9.0
    assert queue.extend(lease)
    clock.now = 18.0
    assert queue.expire() == []
    assert queue.lease_copy("x", older_than=18.0) is None  # it is as old as it was
    assert queue.lease_copy("x", older_than=17.0)
    clock.now = 19.0
    assert len(queue.expire()) == 1
    assert not queue.extend(lease)


def test_two_stages(clock: Clock) -> None:
    """Describe units feed sample units; a describe unit that is given up takes its sample unit with it."""
    describe, sample = UnitQueue(4, max_attempts=1, clock=clock), UnitQueue(4, committed=[3], blocked=True, clock=clock)
    assert sample.lease("s") is None and sample.idle and not sample.done
    while lease := describe.lease("d"):
        if lease.unit == 1:
            describe.nack(lease, "cannot see")
            sample.quarantine(1, describe.error(1))
        else:
            describe.ack(lease)
            assert sample.add(lease.unit) == (lease.unit != 3)
    assert [_take(sample).unit for _ in range(2)] == [0, 2]
    for lease in sample.leases():
        sample.ack(lease)
    assert sample.done
    assert sample.error(1) == "attempt 1 on d: cannot see"


def test_a_unit_added_behind_the_cursor_is_found(clock: Clock) -> None:
    queue = UnitQueue(5, blocked=True, clock=clock)
    found = []
    for unit in (4, 0, 2):
        queue.add(unit)
        found.append(_take(queue).unit)
    assert found == [4, 0, 2]


def made_twice(units: int, slots: int, joins: float, seed: int) -> int:
    """Units that two drivers of one run both make; they ask the store about a unit before they begin it.

    slots: units that each has in progress; joins: when the second comes, in units of time of the first's work.
    """
    rng = random.Random(seed)
    queues = [UnitQueue(units, rng=random.Random(seed + i)) for i in range(2)]
    store: set[int] = set()
    calls: list[tuple[float, int, Lease]] = []
    made = now = 0.0
    joined = False
    while not all(queue.done for queue in queues):
        if now >= joins and not joined:
            joined = True
            if store:
                queues[1].commit_others(np.array(sorted(store)))
                queues[1].leap()
        for number, queue in enumerate(queues[: 1 + joined]):
            while sum(driver == number for _, driver, _ in calls) < slots and (lease := queue.lease("w")):
                if lease.unit in store:
                    queue.ack(lease)
                    queue.leap(lease)
                else:
                    calls.append((now + (1 + 0.7 * number) * rng.uniform(0.8, 1.2), number, lease))
        done = min(calls, key=lambda call: call[0])
        calls.remove(done)
        now, number, lease = done
        made += 1
        queues[number].ack(lease)
        if lease.unit in store:
            queues[number].leap(lease)
        store.add(lease.unit)
    assert len(store) == units
    return int(made) - units


@pytest.mark.parametrize("joins", [0.0, 10.0])
def test_two_drivers_do_little_twice(joins: float) -> None:
    """They meet a few times, however many units there are, and the last ones are in progress at both."""
    for units in (200, 1000):
        assert sum(made_twice(units, 4, joins, seed) for seed in range(10)) / 10 < 0.1 * 200


def test_a_shared_queue_goes_elsewhere_when_it_meets_the_other() -> None:
    queue = UnitQueue(1000, committed=range(500, 600), rng=random.Random(0))
    queue.share()
    assert [_take(queue).unit for _ in range(500)] == list(range(500))
    assert _take(queue).unit > 600  # at 600 is the one that did 500 to 599
    queue.leap()
    first = _take(queue).unit
    assert _take(queue).unit == first + 1


_RESUME = """
import numpy as np
from synood_ray.farm.plan import Plan
from synood_ray.farm.queue import UnitQueue
class Sources:
    labels = np.arange(1_000_000) % 1000
    def __len__(self): return 1_000_000
    def __getitem__(self, i): raise AssertionError("the plan is lazy")
plan = Plan(Sources(), per_image=32)
rng = np.random.default_rng(0)
left = np.sort(rng.choice(1_000_000, 1000, replace=False))
queue = UnitQueue(len(plan), np.setdiff1d(np.arange(1_000_000), left))
found = []
while lease := queue.lease("w"):
    found.append(lease.unit)
    queue.ack(lease)
assert found == left.tolist() and queue.done
# Not getrusage: its peak is inherited from the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""


def test_a_million_units_are_resumed_in_little_memory() -> None:
    """Each lease searches for the next waiting unit; the time shows in the benchmark, here only that it ends."""
    result = subprocess.run([sys.executable, "-c", _RESUME], capture_output=True, text=True, timeout=120, check=True)
    assert int(result.stdout) <= 500
