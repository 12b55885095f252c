"""The queue of units: who works on what, until when, and what happens when it fails. No Ray, no threads, no I/O.

A unit is in exactly one state. The store decides what is committed; the queue only remembers it, so that a late or
double answer, from a worker thought dead or from a second copy, is never an error.
"""

from __future__ import annotations

import enum
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np


class State(enum.IntEnum):
    """State of a unit. BLOCKED: not to be handed out before `UnitQueue.add`."""

    WAITING = 0
    LEASED = 1
    COMMITTED = 2
    QUARANTINED = 3
    BLOCKED = 4


_RETURNED = len(State)
"""Waiting again after a lease; inside the queue told apart from the fresh units, outside the same."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right and duty to do a unit until the deadline (a time of the queue's clock).

    attempt: number of this lease among all leases of the unit, from 1, counted across runs. copy: a second lease of a
    unit that somebody else has already, for stragglers. again: who had the unit before is gone, and may have done it.
    """

    id: int
    unit: int
    worker: str
    attempt: int
    started: float
    deadline: float
    copy: bool
    again: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Units in every state."""

    waiting: int
    leased: int
    committed: int
    quarantined: int
    blocked: int

    @property
    def total(self) -> int:
        """Units of the run."""
        return self.waiting + self.leased + self.committed + self.quarantined + self.blocked


@dataclass(slots=True)
class _History:
    """What went wrong with a unit; kept only for units with which something did."""

    failures: int = 0
    losses: int = 0


class UnitQueue:
    """Units 0 … n_units - 1.

    committed, quarantined: where units stand at the start (`storage.progress.scan`); attempts: attempts on record, so
    that numbers go on. blocked: the other units wait until `add` releases them (a second stage; a retry of some).
    in_turn: workers do their units one after the other, in the order of their leases; else all that they hold at once.
    clock: `time.monotonic`. rng: where `leap` goes.

    Order: fresh units in turn (for a shared queue see `share`). A unit that came back waits until no more fresh units
    are left than there are leases, the tail; from then on it goes first, so that it is not the last to end.

    Budget: max_attempts errors or expired leases, and max_losses deaths of the worker while the unit was in progress.
    A unit that has used one up is quarantined; the two are apart because losing a spot machine says little about the
    unit. Two leases at once are the most that a unit ever has.
    """

    def __init__(
        self,
        n_units: int,
        committed: Iterable[int] = (),
        *,
        quarantined: Iterable[int] = (),
        attempts: Mapping[int, int] | None = None,
        blocked: bool = False,
        in_turn: bool = False,
        max_attempts: int = 3,
        max_losses: int = 10,
        deadline: float = 1800.0,
        clock: Callable[[], float] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._max_attempts, self._max_losses = max_attempts, max_losses
        self._deadline, self._clock = deadline, clock or time.monotonic
        self._in_turn = in_turn
        # One byte a unit. A bytearray finds the next waiting one at C speed; numpy fills and counts it.
        self._states = bytearray([State.BLOCKED if blocked else State.WAITING]) * n_units
        view = self._view()
        view[_indices(quarantined)] = State.QUARANTINED
        view[_indices(committed)] = State.COMMITTED
        self._counts = np.bincount(view, minlength=_RETURNED + 1).tolist()
        self._cursor = 0  # where to look for the next fresh unit; none lies before it unless the queue is shared
        self._shared, self._leapt, self._rng = False, 0, rng or random.Random()  # _leapt: the first lease after a leap
        self._returned: deque[int] = deque()
        self._orphans: set[int] = set()  # units whose worker has been given up
        self._attempts = dict(attempts or {})  # leases so far, of units that are not committed
        self._history: dict[int, _History] = {}
        self._leases: dict[int, Lease] = {}
        self._by_unit: dict[int, list[int]] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def done(self) -> bool:
        """Whether every unit is committed or quarantined."""
        return self._counts[State.COMMITTED] + self._counts[State.QUARANTINED] == len(self)

    def counts(self) -> Counts:
        """Units in every state."""
        waiting, leased, committed, quarantined, blocked, returned = self._counts
        return Counts(waiting + returned, leased, committed, quarantined, blocked)

    def committed(self, sizes: np.ndarray) -> int:
        """Sum of these sizes, int64 [units], over the committed units."""
        return int(sizes[self._view() == State.COMMITTED].sum())

    def age(self) -> float:
        """Seconds since the unit was begun that has been leased longest; 0 if none is."""
        return max((self._clock() - lease.started for lease in self._leases.values()), default=0.0)

    def state(self, unit: int) -> State:
        """State of a unit."""
        state = self._states[unit]
        return State.WAITING if state == _RETURNED else State(state)

    def leases(self, unit: int | None = None) -> list[Lease]:
        """Live leases, of one unit or all, oldest first."""
        ids = self._leases if unit is None else self._by_unit.get(unit, [])
        return [self._leases[i] for i in ids]

    def add(self, unit: int) -> bool:
        """Release a blocked unit. False if it was not blocked."""
        if self._states[unit] != State.BLOCKED:
            return False
        self._move(unit, State.WAITING)
        if not self._shared:
            self._cursor = min(self._cursor, unit)
        return True

    def add_all(self, units: np.ndarray) -> None:
        """`add` for many units, int64, each named once."""
        view = self._view()
        blocked = units[view[units] == State.BLOCKED]
        view[blocked] = State.WAITING
        self._counts[State.BLOCKED] -= len(blocked)
        self._counts[State.WAITING] += len(blocked)
        if len(blocked) and not self._shared:
            self._cursor = min(self._cursor, int(blocked.min()))

    def share(self) -> None:
        """Somebody else is at work on these units too. From now on, when a run of waiting units ends, `leap`.

        What follows such a run was done by the other, whose next units lie just behind, and two that go in step do
        everything twice.
        """
        self._shared = True

    def leap(self, met: Lease | None = None) -> None:
        """Share, and go on elsewhere: at a random waiting unit, and in turn from there.

        met: because somebody else had done this one. If the queue has leapt since it was handed out, it stays.
        """
        self._shared = True
        if met is not None and met.id < self._leapt:
            return
        self._leapt = self._next_id
        waiting = np.flatnonzero(self._view() == State.WAITING)
        if len(waiting):
            self._cursor = int(waiting[self._rng.randrange(len(waiting))])

    def lease(self, worker: str) -> Lease | None:
        """Hand out a waiting unit, or None if there is none."""
        unit = self._take()
        return None if unit is None else self._grant(unit, worker, copy=False)

    def lease_copy(self, worker: str, older_than: float) -> Lease | None:
        """Hand out a unit that another worker has had for more than older_than seconds: the oldest that has no copy."""
        now = self._clock()
        candidates = [
            lease
            for lease in self._leases.values()
            if lease.worker != worker and now - lease.started > older_than and len(self._by_unit[lease.unit]) == 1
        ]
        candidates = [lease for lease in candidates if not self._spent(lease.unit)]
        if not candidates:
            return None
        return self._grant(min(candidates, key=lambda lease: (lease.started, lease.id)).unit, worker, copy=True)

    def extend(self, lease: Lease) -> Lease | None:
        """Set a lease's deadline anew: its worker has only now begun. Returns the lease as it is now, None if ended."""
        if lease.id not in self._leases:
            return None
        extended = replace(lease, deadline=self._clock() + self._deadline)
        self._leases[lease.id] = extended
        return extended

    def ack(self, lease: Lease) -> bool:
        """The lease's unit is in the store. True if this is the first to say so. Counts however late it comes."""
        return self.commit(lease.unit)

    def commit(self, unit: int) -> bool:
        """The unit is in the store, whoever put it there. Its leases end."""
        if self._states[unit] == State.COMMITTED:
            return False
        self._end_all(unit)
        self._move(unit, State.COMMITTED)
        self._orphans.discard(unit)
        self._attempts.pop(unit, None)
        self._history.pop(unit, None)
        return True

    def commit_others(self, units: np.ndarray) -> int:
        """What is in the store by now, int64: commit of it what nobody here has in hand. Returns how many somebody else
        has made.

        A unit that is leased is left to its worker: it may well be the one that has just put it there. So may a worker
        that was given up.
        """
        states = self._view()[units]
        news = units[np.isin(states, (State.WAITING, State.BLOCKED, State.QUARANTINED, _RETURNED))].tolist()
        own = self._orphans.intersection(news)
        for unit in news:
            self.commit(unit)
        return len(news) - len(own)

    def nack(self, lease: Lease, *, lost: bool = False, away: bool = False) -> State:
        """The attempt failed. Returns where the unit now stands. A lease that is no longer live changes nothing.

        lost: another actor died, which counts as a loss. away: a service did not answer, which counts as nothing.
        """
        if self._end(lease):
            history = self._past(lease.unit)
            history.losses += lost and not away
            history.failures += not (lost or away)
            self._settle(lease.unit)
        return self.state(lease.unit)

    def release(self, worker: str, *, lost: bool = True) -> list[Lease]:
        """The worker is gone; its units go back. Returns its leases, oldest first.

        The oldest counts as a loss: the one in progress of a worker that does them in turn, and of others the one that
        was in progress longest. lost=False: the worker left in good order (drained), and none does.
        """
        ended = [lease for lease in self._leases.values() if lease.worker == worker]
        for position, lease in enumerate(ended):
            self._end(lease)
            self._orphans.add(lease.unit)
            if lost and position == 0:
                self._past(lease.unit).losses += 1
            self._settle(lease.unit)
        return ended

    def expire(self, now: float | None = None) -> list[Lease]:
        """End the leases whose deadline has passed: their workers hang. Returns those that count as failed attempts:
        all, or of a worker that does its units in turn the oldest, for which the others had to wait."""
        now = self._clock() if now is None else now
        failed: list[Lease] = []
        for lease in [lease for lease in self._leases.values() if lease.deadline <= now]:
            self._end(lease)
            self._orphans.add(lease.unit)
            if not (self._in_turn and lease.worker in {one.worker for one in failed}):
                self._past(lease.unit).failures += 1
                failed.append(lease)
            self._settle(lease.unit)
        return failed

    def quarantine(self, unit: int) -> None:
        """Give a unit up, such as one whose prompts could not be made. A committed one stays committed."""
        if self._states[unit] in (State.COMMITTED, State.QUARANTINED):
            return
        self._end_all(unit)
        self._move(unit, State.QUARANTINED)

    def _take(self) -> int | None:
        """The next unit to do. The state of what is handed out is the caller's to change."""
        while self._returned and self._states[self._returned[0]] != _RETURNED:
            self._returned.popleft()  # committed or quarantined meanwhile
        fresh = self._counts[State.WAITING]
        if self._returned and fresh <= len(self._leases):
            return self._returned.popleft()
        if not fresh:
            return None
        if not self._shared:
            self._cursor = self._states.index(State.WAITING, self._cursor)
            return self._cursor
        if self._cursor == len(self) or self._states[self._cursor] != State.WAITING:
            self.leap()
        self._cursor += 1
        return self._cursor - 1

    def _view(self) -> np.ndarray:
        return np.frombuffer(self._states, dtype=np.uint8)

    def _grant(self, unit: int, worker: str, *, copy: bool) -> Lease:
        now = self._clock()
        attempt = self._attempts.get(unit, 0) + 1
        lease = Lease(self._next_id, unit, worker, attempt, now, now + self._deadline, copy, unit in self._orphans)
        self._next_id += 1
        self._attempts[unit] = attempt
        self._leases[lease.id] = lease
        self._by_unit.setdefault(unit, []).append(lease.id)
        self._move(unit, State.LEASED)
        return lease

    def _end(self, lease: Lease) -> bool:
        """Take a lease away. False if it was not live."""
        if self._leases.pop(lease.id, None) is None:
            return False
        self._by_unit[lease.unit].remove(lease.id)
        return True

    def _end_all(self, unit: int) -> None:
        for lease in self.leases(unit):
            self._end(lease)
        self._by_unit.pop(unit, None)

    def _settle(self, unit: int) -> None:
        """Put a unit where it belongs after one of its leases has ended without a commit."""
        if self._by_unit[unit]:
            return  # the other lease may still bring it home
        del self._by_unit[unit]
        if self._spent(unit):
            self._move(unit, State.QUARANTINED)
        else:
            self._move(unit, _RETURNED)
            self._returned.append(unit)

    def _spent(self, unit: int) -> bool:
        history = self._history.get(unit)
        return history is not None and (history.failures >= self._max_attempts or history.losses >= self._max_losses)

    def _past(self, unit: int) -> _History:
        return self._history.setdefault(unit, _History())

    def _move(self, unit: int, state: int) -> None:
        self._counts[self._states[unit]] -= 1
        self._counts[state] += 1
        self._states[unit] = state


def _indices(units: Iterable[int]) -> np.ndarray:
    return units if isinstance(units, np.ndarray) else np.fromiter(units, dtype=np.int64)
