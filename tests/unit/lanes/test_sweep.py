"""One timer for all deadlines: none is more than 50 ms late, and the queue is looked at as seldom as that allows."""

import heapq
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.lanes.sweep import Sweep
from aioredis_kit.policy.deadlines import RESOLUTION

LATE = 0.05


class Loop:
    """The part of an event loop that a sweep uses, with a clock of its own."""

    def __init__(self, early=0.0, lag=0.0):
        self.now = 1000.0
        self.early = early  # asyncio fires a timer up to its clock's resolution before its time
        self.lag = lag
        self.timers = []

    def time(self):
        return self.now

    def call_later(self, delay, callback):
        assert delay >= 0
        timer = Timer(self.now + delay, callback)
        heapq.heappush(self.timers, timer)
        return timer

    @property
    def pending(self):
        return [timer for timer in self.timers if not timer.is_cancelled]

    def run_until(self, end):
        while self.timers and self.timers[0].when - self.early + self.lag <= end:
            timer = heapq.heappop(self.timers)
            if not timer.is_cancelled:
                self.now = max(self.now, timer.when - self.early + self.lag)
                timer.callback()
        self.now = max(self.now, end)


class Timer:
    def __init__(self, when, callback):
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True

    def __lt__(self, other):
        return self.when < other.when


class Owner:
    """Deadlines, and when they ended: what a lane does with a sweep."""

    def __init__(self, loop):
        self.loop = loop
        self.sweep = Sweep(loop, loop.time, self.expire)
        self.earliest = math.inf
        self.deadlines = []
        self.ended = []  # the deadline, and when it ended
        self.lags = []

    def add(self, deadline):
        self.deadlines.append(deadline)
        if deadline < self.earliest:
            self.earliest = self.sweep.expect(deadline)

    def expire(self, now, lag):
        assert now == self.loop.now
        self.lags.append(lag)
        self.ended += [(deadline, now) for deadline in self.deadlines if deadline <= now]
        self.deadlines = [deadline for deadline in self.deadlines if deadline > now]
        self.earliest = min(self.deadlines, default=math.inf)
        return self.earliest


def test_nothing_is_looked_at_before_the_first_deadline():
    loop = Loop()
    owner = Owner(loop)
    owner.add(1005.0)
    loop.run_until(1004.999)
    assert owner.lags == []
    loop.run_until(1005.0)
    assert owner.ended == [(1005.0, 1005.0)]


def test_it_sleeps_when_nothing_is_left():
    loop = Loop()
    owner = Owner(loop)
    owner.add(1005.0)
    loop.run_until(2000.0)
    assert len(owner.lags) == 1
    assert not loop.pending


def test_one_look_ends_many():
    loop = Loop()
    owner = Owner(loop)
    for number in range(1000):
        owner.add(1005.0 + number * RESOLUTION / 1000)
    assert len(loop.pending) == 1
    loop.run_until(1010.0)
    assert len(owner.ended) == 1000
    assert len(owner.lags) == 2


def test_commands_of_one_timeout_cost_one_look_in_that_time():
    """Answered ones are gone when their deadline comes: the next look is as far away as the timeout is long."""
    loop = Loop()
    owner = Owner(loop)
    for _ in range(5000):
        owner.add(loop.now + 5.0)
        loop.run_until(loop.now + 0.01)
        owner.deadlines.clear()  # all answered
    assert len(owner.lags) <= 50.0 / 5.0 + 1


def test_a_shorter_deadline_wakes_earlier():
    loop = Loop()
    owner = Owner(loop)
    owner.add(1060.0)
    loop.run_until(1001.0)
    owner.add(1001.5)
    assert len(loop.pending) == 1
    loop.run_until(1002.0)
    assert owner.ended == [(1001.5, 1001.5)]
    loop.run_until(1061.0)
    assert [deadline for deadline, _ in owner.ended] == [1001.5, 1060.0]


def test_a_deadline_that_has_passed_already_is_looked_at_in_the_next_turn():
    loop = Loop()
    owner = Owner(loop)
    owner.add(900.0)
    loop.run_until(1000.0)
    assert owner.ended == [(900.0, 1000.0)]


def test_the_lag_is_how_late_the_timer_fired():
    loop = Loop(lag=0.3)
    owner = Owner(loop)
    owner.add(1005.0)
    loop.run_until(1006.0)
    assert owner.lags == [pytest.approx(0.3)]


def test_a_timer_that_fires_early_has_no_lag():
    loop = Loop(early=1e-6)
    owner = Owner(loop)
    owner.add(1005.0)
    loop.run_until(1006.0)
    assert owner.lags[0] == 0.0
    assert owner.ended[0][1] - 1005.0 <= LATE


def test_nothing_fires_after_stop():
    loop = Loop()
    owner = Owner(loop)
    owner.sweep.stop()
    owner.add(1005.0)
    owner.sweep.stop()
    owner.sweep.stop()
    assert not loop.pending
    owner.earliest = math.inf
    owner.add(1006.0)
    loop.run_until(1010.0)
    assert owner.lags == [0.0]


@pytest.mark.pins("P2")
@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.floats(-0.01, 2.0)), min_size=1, max_size=40),
    st.sampled_from([0.0, 1e-9, 1e-3]),
)
def test_every_deadline_ends_on_time_and_looks_are_rare(arrivals, early):
    loop = Loop(early=early)
    owner = Owner(loop)
    issued = {}
    for pause, timeout in arrivals:
        loop.run_until(loop.now + pause)
        deadline = loop.now + timeout
        issued[deadline] = loop.now
        owner.add(deadline)
    loop.run_until(loop.now + 5.0)
    assert len(owner.ended) == len(arrivals)
    for deadline, ended in owner.ended:
        assert 0 <= ended - max(deadline, issued[deadline]) <= LATE
    assert len(owner.lags) <= 2 * len(arrivals), "never more than one look for a deadline, and one that came early"
    assert not loop.pending
