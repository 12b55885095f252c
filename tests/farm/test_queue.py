"""The queue's rules one by one; `test_queue_machine` tries everything in any order."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from synood_ray.farm.queue import Counts, Lease, State, UnitQueue


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


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
        queue.nack(lease)
    # Left: 3 4 5 6 7 fresh, 0 1 returned, one lease. Fresh first until as few are left as there are leases.
    assert [_take(queue).unit for _ in range(7)] == [3, 4, 0, 1, 5, 6, 7]


def test_a_unit_that_always_fails_blocks_no_other_and_is_given_up(clock: Clock) -> None:
    queue, done = UnitQueue(5, max_attempts=3, clock=clock), []
    while lease := queue.lease("w"):
        if lease.unit == 1:
            queue.nack(lease)
        else:
            queue.ack(lease)
        done.append((lease.unit, lease.attempt))
    assert [unit for unit, _ in done].count(1) == 3
    assert queue.state(1) is State.QUARANTINED
    assert queue.counts() == Counts(0, 0, 4, 1, 0)


def test_attempts_are_numbered_across_runs(clock: Clock) -> None:
    queue = UnitQueue(2, attempts={1: 4}, max_attempts=2, clock=clock)
    assert [(lease.unit, lease.attempt) for lease in (_take(queue), _take(queue))] == [(0, 1), (1, 5)]
    assert queue.nack(queue.leases()[1]) is State.WAITING
    assert _take(queue).attempt == 6


def test_a_late_answer_counts(clock: Clock) -> None:
    queue = UnitQueue(1, deadline=10, max_attempts=1, clock=clock)
    lease = _take(queue)
    clock.now = 10.0
    assert queue.expire() == [lease]
    assert queue.state(0) is State.QUARANTINED
    assert queue.ack(lease)
    assert queue.done and queue.counts().committed == 1
    assert not queue.ack(lease)


@pytest.mark.parametrize("in_turn, failed", [(True, [0, 2]), (False, [0, 1, 2])])
def test_units_that_wait_behind_a_hung_one_are_not_at_fault(clock: Clock, in_turn: bool, failed: list[int]) -> None:
    queue = UnitQueue(3, deadline=10, max_attempts=1, in_turn=in_turn, clock=clock)
    for worker in ("w", "w", "other"):
        _take(queue, worker)
    clock.now = 10.0
    assert [lease.unit for lease in queue.expire()] == failed
    assert [unit for unit in range(3) if queue.state(unit) is State.QUARANTINED] == failed
    assert queue.counts().waiting == 3 - len(failed) and not queue.leases()


def test_a_unit_whose_worker_is_gone_may_be_done_and_one_that_failed_is_not(clock: Clock) -> None:
    queue = UnitQueue(3, deadline=10, clock=clock)
    queue.nack(_take(queue, "fails"))
    _take(queue, "dies")
    queue.release("dies")
    _take(queue, "hangs")
    clock.now = 10.0
    queue.expire()
    again = {lease.unit: lease.again for lease in (_take(queue, "other") for _ in range(3))}
    assert again == {0: False, 1: True, 2: True}
    queue.release("other")
    assert queue.commit_others(np.array([1, 2])) == 0, "nobody else has made them"
    assert queue.counts().committed == 2


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
    assert queue.nack(slow) is State.COMMITTED
    assert queue.nack(other) is State.LEASED  # the copy may still bring it home


def test_no_copy_of_a_unit_whose_budget_is_spent(clock: Clock) -> None:
    queue = UnitQueue(1, max_attempts=1, clock=clock)
    first = _take(queue, "w1")
    clock.now = 1.0
    copy = queue.lease_copy("w2", older_than=0.5)
    assert copy and queue.nack(first) is State.LEASED
    clock.now = 2.0
    assert queue.lease_copy("w1", older_than=0.5) is None
    assert queue.nack(copy) is State.QUARANTINED


def test_only_the_unit_in_progress_pays_for_a_dead_worker(clock: Clock) -> None:
    queue = UnitQueue(3, max_losses=1, clock=clock)
    leases = [_take(queue, "w"), _take(queue, "w"), _take(queue, "other")]
    assert queue.release("w") == leases[:2]
    assert [queue.state(u) for u in range(3)] == [State.QUARANTINED, State.WAITING, State.LEASED]
    assert queue.release("w") == []
    queue.release("other", lost=False)
    assert queue.state(2) is State.WAITING


def test_losing_machines_is_cheaper_than_errors(clock: Clock) -> None:
    queue = UnitQueue(1, max_attempts=2, max_losses=10, clock=clock)
    for _ in range(9):
        _take(queue)
        queue.release("w")
    assert queue.nack(_take(queue)) is State.WAITING


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
    assert sample.lease("s") is None and not sample.done
    while lease := describe.lease("d"):
        if lease.unit == 1:
            describe.nack(lease)
            sample.quarantine(1)
        else:
            describe.ack(lease)
            assert sample.add(lease.unit) == (lease.unit != 3)
    assert [_take(sample).unit for _ in range(2)] == [0, 2]
    for lease in sample.leases():
        sample.ack(lease)
    assert sample.done


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
