"""The error of a command that was not answered in time says where the time went and what to do."""

import dataclasses

import pytest

from aioredis_kit.exceptions import TimeoutDiagnosis
from aioredis_kit.policy.deadlines import RESOLUTION, timeout_error

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


def test_a_deadline_is_at_most_50_ms_late():
    assert 0 < RESOLUTION <= 0.025


@pytest.mark.pins("4.7", "P3")
def test_a_command_that_was_never_sent():
    error = timeout_error("GET", QUEUED, was_sent=False)
    assert error.maybe_executed is False
    assert error.diagnosis is QUEUED
    assert str(error) == (
        "GET was not answered within 5 s (5.000 s in the queue; 7 commands with 210 bytes ahead; 0 bytes read since; "
        "connection reconnecting; event loop 0.001 s late): it was never sent, as there was no connection: see the "
        "error and reconnecting events"
    )


@pytest.mark.pins("4.8", "P3")
def test_a_command_that_was_sent():
    error = timeout_error("GET", FLYING, was_sent=True)
    assert error.maybe_executed is True
    assert error.diagnosis is FLYING
    assert "(0.500 s in the queue, 4.500 s in flight; 7 commands" in str(error)


@pytest.mark.parametrize(
    ("diagnosis", "changes", "was_sent", "advice"),
    [
        (QUEUED, {"lag": 0.2}, False, "the event loop was blocked: look for synchronous work in this process"),
        (FLYING, {"lag": 0.2}, True, "the event loop was blocked: look for synchronous work in this process"),
        (QUEUED, {"state": "ready"}, False, "the queue is longer than the server is fast"),
        (QUEUED, {}, False, "there was no connection"),
        (QUEUED, {}, True, "its reply was lost with the connection, and it was not sent again in time"),
        (FLYING, {}, True, "nothing at all was read since it was sent: the server or the network is stalled"),
        (FLYING, {"bytes_read": 1}, True, "the server was answering, but slowly: look for slow commands"),
        (FLYING, {"bytes_read": 2 << 20}, True, "large replies were being read before its own"),
    ],
)
def test_what_to_do_about_it(diagnosis, changes, was_sent, advice):
    error = timeout_error("GET", dataclasses.replace(diagnosis, **changes), was_sent=was_sent)
    assert advice in str(error).rpartition("late): ")[2]


def test_a_short_timeout_is_written_as_it_is():
    assert "within 0.25 s" in str(timeout_error("GET", dataclasses.replace(QUEUED, timeout=0.25), was_sent=False))
