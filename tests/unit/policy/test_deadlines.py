"""The error of a command that was not answered in time says where the time went, why, and what to do."""

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioredis_kit.exceptions import ConnectError, TimeoutCause, TimeoutDiagnosis
from aioredis_kit.policy.deadlines import RESOLUTION, diagnosed, exhausted_error, timeout_error

QUEUED = TimeoutDiagnosis(
    timeout=5.0,
    queued=5.0,
    in_flight=0.0,
    commands_ahead=7,
    bytes_ahead=210,
    bytes_read=0,
    state="reconnecting",
    lag=0.001,
)
FLYING = dataclasses.replace(QUEUED, queued=0.5, in_flight=4.5, state="ready")
READY = dataclasses.replace(QUEUED, state="ready")

LOOP, GONE, DEAD, SLOW = (
    TimeoutCause.BLOCKED_LOOP,
    TimeoutCause.DISCONNECTED,
    TimeoutCause.DEAD_PEER,
    TimeoutCause.SLOW_SERVER,
)
STALLED, BIG, LONG = TimeoutCause.STALLED, TimeoutCause.BIG_REPLY, TimeoutCause.LONG_QUEUE


def test_a_deadline_is_at_most_50_ms_late():
    assert 0 < RESOLUTION <= 0.025


@pytest.mark.pins("4.7", "P3")
def test_a_command_that_was_never_sent():
    error = timeout_error("GET", QUEUED, was_sent=False)
    assert error.maybe_executed is False
    assert error.diagnosis == diagnosed(QUEUED, was_sent=False)
    assert str(error) == (
        "GET was not answered within 5 s (5.000 s in the queue; 7 commands with 210 bytes ahead; 0 bytes read since, "
        "0 replies; connection reconnecting; event loop delayed for 0.000 s, and 0.001 s late): it was never sent, as "
        "there was no connection: see the error and reconnecting events"
    )


@pytest.mark.pins("4.8", "P3")
def test_a_command_that_was_sent():
    error = timeout_error("GET", FLYING, was_sent=True)
    assert error.maybe_executed is True
    assert error.diagnosis == diagnosed(FLYING, was_sent=True)
    assert "(0.500 s in the queue, 4.500 s in flight; 7 commands" in str(error)


@pytest.mark.parametrize(
    ("diagnosis", "changes", "was_sent", "cause", "advice"),
    [
        # The loop, whatever else there is.
        (QUEUED, {"delayed": 2.0}, False, LOOP, "the event loop was blocked: look for synchronous work"),
        (FLYING, {"delayed": 5.0, "bytes_read": 2 << 20}, True, LOOP, "the event loop was blocked"),
        (FLYING, {"delayed": 1.6, "unacknowledged_for": 0.0}, True, SLOW, "the server's machine has got it"),
        (
            FLYING,
            {"lag": 0.2, "delayed": 0.2, "unacknowledged_for": 0.0},
            True,
            SLOW,
            "the server's machine has got it",
        ),
        # No connection.
        (QUEUED, {}, False, GONE, "there was no connection"),
        (QUEUED, {"state": "connecting", "silent_for": 5.0}, False, GONE, "there was no connection"),
        (QUEUED, {}, True, GONE, "its reply was lost with the connection, and it was not sent again in time"),
        # Silence.
        (FLYING, {}, True, STALLED, "nothing at all was read since it was sent: the server or the network is stalled"),
        (FLYING, {"unacknowledged_for": 0.0}, True, SLOW, "the server is stopped, or busy with something slow"),
        (FLYING, {"unacknowledged_for": 2.0}, True, SLOW, "the server is stopped, or busy with something slow"),
        (FLYING, {"unacknowledged_for": 4.5}, True, DEAD, "nothing was even acknowledged since it was sent"),
        (FLYING, {"unacknowledged_for": 4.46}, True, DEAD, "nothing was even acknowledged since it was sent"),
        # It waited to be sent behind what was not answered.
        (READY, {}, False, LONG, "the queue is longer than the server is fast"),
        (READY, {"silent_for": 2.0, "unacknowledged_for": 2.0}, False, LONG, "the queue is longer"),
        (READY, {"silent_for": 4.9}, False, STALLED, "it was never sent; and of what was sent before, nothing at all"),
        (READY, {"silent_for": 4.9, "unacknowledged_for": 0.0}, False, SLOW, "the server's machine has got it"),
        (READY, {"silent_for": 4.9, "unacknowledged_for": 9.0}, False, DEAD, "nothing was even acknowledged"),
        # Something was read.
        (FLYING, {"bytes_read": 1}, True, SLOW, "the server was answering, but slowly: look for slow commands"),
        (FLYING, {"bytes_read": 2 << 20}, True, BIG, "large replies were being read before its own"),
        (FLYING, {"bytes_read": 90 << 20, "replies_read": 900}, True, BIG, "large replies were being read"),
        (FLYING, {"bytes_read": 2 << 20, "replies_read": 9000}, True, LONG, "the server was answering fast"),
        (FLYING, {"bytes_read": 2 << 20, "replies_read": 900}, True, SLOW, "the server was answering, but slowly"),
    ],
)
def test_what_to_do_about_it(diagnosis, changes, was_sent, cause, advice):
    error = timeout_error("GET", dataclasses.replace(diagnosis, **changes), was_sent=was_sent)
    assert (error.diagnosis.cause, error.diagnosis.advice in str(error)) == (cause, True)
    assert advice in error.diagnosis.advice


durations = st.floats(0, 1e3)


@given(
    st.builds(
        TimeoutDiagnosis,
        timeout=durations,
        state=st.sampled_from(["ready", "connecting", "reconnecting"]),
        queued=durations,
        in_flight=durations,
        bytes_read=st.integers(0, 1 << 40),
        replies_read=st.integers(0, 1 << 30),
        silent_for=durations,
        unacknowledged_for=st.none() | durations,
        delayed=durations,
    ),
    st.booleans(),
)
def test_there_is_always_a_cause_and_an_advice(diagnosis, was_sent):
    error = timeout_error("GET", diagnosis, was_sent=was_sent)
    assert error.diagnosis.cause is not TimeoutCause.UNKNOWN
    assert error.diagnosis.advice
    assert pickle.loads(pickle.dumps(error)).diagnosis == error.diagnosis


def test_no_dedicated_connection_was_free():
    error = exhausted_error(2, ("BLPOP", "session"), None, waited=1.5, state="ready")
    assert str(error) == (
        "all 2 dedicated connections (max_dedicated_connections) were in use, by BLPOP, session: raise "
        "max_dedicated_connections, or end blocking commands and sessions sooner"
    )
    assert (error.diagnosis.cause, error.diagnosis.queued) == (TimeoutCause.LEASES_EXHAUSTED, 1.5)
    assert (error.limit, error.holders, error.maybe_executed) == (2, ("BLPOP", "session"), False)


def test_no_dedicated_connection_could_be_opened():
    error = exhausted_error(2, ("BLPOP",), ConnectError("refused"), waited=1.5, state="reconnecting")
    assert "no dedicated connection could be opened in time, and 1 were in use; last: refused" in str(error)
    assert error.diagnosis.cause is TimeoutCause.DISCONNECTED


def test_a_short_timeout_is_written_as_it_is():
    assert "within 0.25 s" in str(timeout_error("GET", dataclasses.replace(QUEUED, timeout=0.25), was_sent=False))
