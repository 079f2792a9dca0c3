"""For how long the event loop did not turn, noted by a timer that looks how late it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.lanes import watch as module
from aioredis_kit.lanes.watch import NOTABLE, TICK, LoopWatch


class Loop:
    """A loop with one timer and a clock; ``block`` does not turn it for a while."""

    def __init__(self):
        self.now = 100.0
        self.timer = None

    def call_later(self, delay, callback):
        assert self.timer is None
        self.timer = self
        self.due, self.callback = self.now + delay, callback
        return self

    def cancel(self):
        self.timer = None

    def run(self, seconds):
        """Turn, so that every timer fires in time."""
        end = self.now + seconds
        while self.timer and self.due <= end:
            self.now = max(self.due, self.now)
            self.fire()
        self.now = end

    def block(self, seconds):
        self.now += seconds
        if self.timer and self.due <= self.now:
            self.fire()

    def fire(self):
        self.timer = None
        self.callback()


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def watch(loop):
    return LoopWatch(loop, lambda: loop.now)


def test_it_watches_until_it_was_told(loop, watch):
    assert loop.timer is None
    watch.keep(101.0)
    loop.run(0.9)
    assert loop.timer
    watch.keep(100.5)  # earlier: no matter
    loop.run(0.2)
    assert loop.timer is None
    watch.keep(math.inf)
    assert loop.timer is None
    watch.keep(105.0)
    watch.stop()
    assert loop.timer is None


def test_a_block_is_noted(loop, watch):
    watch.keep(110.0)
    loop.run(1)
    loop.block(0.5)
    assert watch.delayed(100.0, loop.now) == pytest.approx(0.5, abs=TICK)
    loop.run(1)
    noted = watch.statistics()
    assert (noted.delays, noted.longest) == (1, noted.total)
    assert noted.total == pytest.approx(0.5, abs=TICK)


def test_only_what_lies_in_the_time_counts(loop, watch):
    watch.keep(110.0)
    loop.run(1)
    loop.block(0.5)
    after = loop.now
    loop.run(1)
    assert watch.delayed(after, loop.now) == 0
    assert watch.delayed(after - 0.2, loop.now) == pytest.approx(0.2)
    loop.block(0.3)
    assert watch.delayed(after - 0.2, loop.now) == pytest.approx(0.5, abs=TICK)


def test_what_is_not_over_counts(loop, watch):
    """Of two timers that are late in one turn another one may fire first."""
    watch.keep(110.0)
    loop.now += 1.0  # the timer has not fired yet
    assert watch.delayed(100.0, loop.now) == pytest.approx(1.0 - TICK)
    assert watch.delayed(100.6, loop.now) == pytest.approx(0.4)


def test_a_machine_that_is_a_little_late_is_not_blocked(loop, watch):
    watch.keep(110.0)
    for _ in range(20):
        loop.run(TICK / 2)
        loop.block(TICK / 2 + NOTABLE * 0.9)
    assert watch.statistics().delays == 0
    assert watch.delayed(100.0, loop.now) == 0


@given(st.lists(st.tuples(st.floats(0.06, 2), st.floats(0, 1)), max_size=60), st.floats(0, 60))
def test_of_any_blocks_it_knows_how_long_they_took(blocks, since):
    loop = Loop()
    watch = LoopWatch(loop, lambda: loop.now)
    watch.keep(1e6)
    true = 0.0
    for pause, block in blocks:
        loop.run(pause)
        began = loop.now
        loop.block(block)
        true += max(loop.now - max(began, 100 + since), 0.0)
    assert watch.delayed(100 + since, loop.now) == pytest.approx(true, abs=(len(blocks) + 1) * (TICK + NOTABLE))
    assert watch.delayed(100 + since, loop.now) <= true + 1e-6


def test_it_does_not_grow_for_ever(loop, watch, monkeypatch):
    monkeypatch.setattr(module, "_MOST_NOTED", 8)
    watch.keep(1e6)
    for _ in range(100):
        loop.run(0.1)
        loop.block(0.2)
    assert len(watch._ends) <= 8
    assert watch.statistics().delays == 100
    assert watch.delayed(loop.now - 0.9, loop.now) == pytest.approx(0.6, abs=3 * TICK)
