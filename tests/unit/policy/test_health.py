"""When a silent connection is pinged, and when it is given up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.policy.health import Act, Verdict, judge

pins = pytest.mark.pins


@pytest.mark.parametrize(
    ("now", "last_read", "pinged_at", "interval", "verdict"),
    [
        # Nothing was read for a while, and no ping is out.
        (100.0, 100.0, None, 30.0, Verdict(Act.WAIT, 130.0)),
        (129.9, 100.0, None, 30.0, Verdict(Act.WAIT, 130.0)),
        (130.0, 100.0, None, 30.0, Verdict(Act.PING, 135.0)),
        (500.0, 100.0, None, 30.0, Verdict(Act.PING, 505.0)),
        # A ping is out.
        (131.0, 100.0, 130.0, 30.0, Verdict(Act.WAIT, 135.0)),
        pytest.param(135.0, 100.0, 130.0, 30.0, Verdict(Act.DROP), marks=pins("case-136")),
        (500.0, 100.0, 130.0, 30.0, Verdict(Act.DROP)),
        # Pings are off, but one was asked for.
        (500.0, 100.0, None, None, Verdict(Act.WAIT, math.inf)),
        pytest.param(131.0, 100.0, 130.0, None, Verdict(Act.WAIT, 135.0), marks=pins("4.9")),
        pytest.param(135.0, 100.0, 130.0, None, Verdict(Act.DROP), marks=pins("4.9")),
    ],
)
def test_the_verdict(now, last_read, pinged_at, interval, verdict):
    assert judge(now, last_read=last_read, pinged_at=pinged_at, interval=interval, timeout=5.0) == verdict


@pins("4.9", "case-136")
@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0, 1e6))
def test_a_server_that_falls_silent_is_dropped_in_time(interval, timeout, last_read):
    """Looking again when told to, the connection is dropped when interval and time-out have passed, not earlier."""
    now, pinged_at = last_read, None
    for _ in range(3):
        verdict = judge(now, last_read=last_read, pinged_at=pinged_at, interval=interval, timeout=timeout)
        if verdict.act is Act.DROP:
            break
        pinged_at = now if verdict.act is Act.PING else pinged_at
        assert verdict.look_again_at >= now
        now = verdict.look_again_at
    assert verdict == Verdict(Act.DROP)
    assert now == pytest.approx(last_read + interval + timeout)
