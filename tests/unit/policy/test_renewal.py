"""When a token is renewed, and when a connection that still has an old one is given up."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_fixed, wait_incrementing

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy.renewal import (
    RenewalSchedule,
    default_pause,
    make_backoff,
    pause_after_failure,
    recycling_time,
    renewal_time,
    rest_of_provider,
)

DEFAULT = RenewalSchedule()
HOUR, MINUTE = 3600.0, 60.0


def delay(life, *, schedule=DEFAULT, refresh_on=None, is_new=True, spread=0.0):
    """After how much of a life that begins at 1000."""
    refresh = None if refresh_on is None else 1000.0 + refresh_on
    found = renewal_time(
        schedule, now=1000.0, expires_at=1000.0 + life, refresh_on=refresh, is_new=is_new, spread=spread
    )
    return round(found - 1000.0, 6)


@pytest.mark.pins("case-78")
@pytest.mark.parametrize(
    ("life", "expected"),
    [
        (24 * HOUR, 18 * HOUR),  # the ratio
        (HOUR, 45 * MINUTE),
        (15 * MINUTE, 10 * MINUTE),  # the margin
        (6 * MINUTE, 3 * MINUTE),  # half of its life, before which no margin counts
        (5 * MINUTE, 225.0),  # shorter than the margin
        (4.0, 3.0),
    ],
)
def test_the_earlier_of_a_ratio_and_a_margin(life, expected):
    assert delay(life) == expected


def test_when_the_identity_provider_wants_it():
    assert delay(24 * HOUR, refresh_on=12 * HOUR) == 12 * HOUR
    assert delay(24 * HOUR, refresh_on=20 * HOUR) == 18 * HOUR
    assert delay(24 * HOUR, refresh_on=-5.0) == 0.5  # it should have been before it was obtained: no loop


def test_a_fleet_does_not_renew_at_once():
    assert delay(HOUR, spread=-1.0) == pytest.approx(0.9 * 45 * MINUTE)
    assert delay(HOUR, spread=1.0) == pytest.approx(1.1 * 45 * MINUTE)
    assert delay(HOUR, spread=1.0, schedule=RenewalSchedule(jitter=0.5)) == pytest.approx(0.95 * HOUR)  # never too late


def test_the_same_token_again_is_asked_for_later():
    assert delay(100.0, is_new=False) == 75.0
    assert delay(0.1, is_new=False) == 0.5
    assert delay(0.0, is_new=False) == 0.5
    assert delay(HOUR, is_new=False, refresh_on=10 * MINUTE) == 10 * MINUTE
    assert delay(HOUR, is_new=False, refresh_on=-5.0) == 45 * MINUTE  # it does not do what it wants: no loop


@given(
    life=st.floats(0.01, 1e6),
    ratio=st.floats(0, 0.95),
    margin=st.floats(0, 1e4),
    jitter=st.floats(0, 0.5),
    spread=st.floats(-1, 1),
    refresh=st.none() | st.floats(-1e3, 1e6),
)
def test_a_new_token_is_renewed_in_its_life(life, ratio, margin, jitter, spread, refresh):
    schedule = RenewalSchedule(ratio=ratio, margin=margin, jitter=jitter)
    found = delay(life, schedule=schedule, spread=spread, refresh_on=refresh)
    assert min(0.5, life / 2) - 1e-6 <= found <= 0.95 * life + 1e-6


@pytest.mark.pins("case-81")
def test_after_failures():
    """It doubles up to half a minute; a token that ends soon is asked for more often, but not in a loop."""
    pause = make_backoff(DEFAULT, lambda low, high: (low + high) / 2)
    assert [pause(failures, ValueError(), 0.0) for failures in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert make_backoff(DEFAULT, lambda _, high: high)(0, ValueError(), 0.0) == 1.2
    assert default_pause(10_000, lambda low, _: low) == 24.0
    assert pause_after_failure(30.0, left=HOUR) == 30.0
    assert pause_after_failure(30.0, left=20.0) == 2.0
    assert pause_after_failure(30.0, left=1.0) == 0.5
    assert pause_after_failure(0.0, left=HOUR) == 0.5


def test_a_backoff_of_tenacitys():
    pause = make_backoff(RenewalSchedule(backoff=wait_fixed(5) + wait_incrementing(1, 2)), max)
    assert [pause(failures, ValueError(), 0.0) for failures in range(3)] == [6.0, 8.0, 10.0]


def test_how_long_a_provider_without_a_token_is_left_in_peace():
    assert [rest_of_provider(fruitless) for fruitless in range(1, 8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert rest_of_provider(10_000) == 2.0


def test_when_a_connection_is_recycled():
    assert recycling_time(obtained_at=0.0, expires_at=HOUR) == HOUR - 60
    assert recycling_time(obtained_at=0.0, expires_at=100.0) == 90.0


def test_a_schedule_takes_a_timedelta():
    assert RenewalSchedule(margin=timedelta(minutes=3)).margin == 180.0


@pytest.mark.pins("case-79")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ratio": 0.96}, "ratio must be a number from 0 to 0.95, not 0.96"),
        ({"ratio": "much"}, "ratio must be a number from 0 to 0.95, not 'much'"),
        ({"jitter": True}, "jitter must be a number from 0 to 0.5, not True"),
        ({"margin": -1}, "margin must be seconds or a timedelta: a duration is from 0"),
        ({"backoff": 5.0}, "backoff must be one of tenacity's wait objects, not 5.0"),
        ({"margin": "1"}, "margin must be seconds or a timedelta: a duration is a number"),
    ],
)
def test_what_makes_no_sense_is_refused(options, text):
    """A ratio above 0.95 as well: with jitter the token would have ended."""
    with pytest.raises(ConfigurationError, match=text):
        RenewalSchedule(**options)
