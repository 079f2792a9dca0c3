"""What is kept and logged of calls that took long, by the numbers of a call."""

from __future__ import annotations

import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.hooks import MULTI, PIPELINE, Call
from aioredis_kit.slow_commands import SlowCommand, SlowCommandLog

ORIGIN = SimpleNamespace(address="cache:6379")


def make_call(*commands, operation="GET", took=0.5, queued=0.2, error=None, is_blocking=False):
    call = Call(ORIGIN, 0, operation, commands or (("GET", "user:ada"),), 100.0)
    call.ended = 100.0 + took
    call.written = None if queued is None else 100.0 + queued
    call.error, call.is_blocking = error, is_blocking
    return call


def end(log, call):
    (log.after if call.error is None else log.error)(call, None)


def test_times_of_a_call():
    call = make_call(took=0.5, queued=0.2)
    assert (call.duration, call.queue_time, call.server_time) == pytest.approx((0.5, 0.2, 0.3))
    unwritten = make_call(took=0.5, queued=None)
    assert (unwritten.duration, unwritten.queue_time, unwritten.server_time) == (0.5, 0.5, 0.0)


def test_a_call_shows_neither_key_nor_value():
    assert repr(make_call(("SET", "user:ada", "value"), operation="SET")) == "<Call SET 0.500000 s>"


def test_batch_size():
    sizes = [make_call(("GET", "a"), ("GET", "b"), operation=each).batch_size for each in ("GET", PIPELINE, MULTI)]
    assert sizes == [None, 2, 2]


def test_what_is_kept_and_logged(caplog):
    log = SlowCommandLog(timedelta(milliseconds=100))
    with caplog.at_level(logging.INFO):
        end(log, make_call(took=0.0999))
        end(log, make_call(took=0.125, queued=0.0625))
        end(log, make_call(("GET", "a"), ("SET", "a", "1"), operation=PIPELINE, took=1, error=TimeoutError("a")))
    assert log.entries() == [
        SlowCommand(
            operation="PIPELINE",
            batch_size=2,
            address="cache:6379",
            duration=1.0,
            queue_time=pytest.approx(0.2),
            server_time=pytest.approx(0.8),
            error="TimeoutError",
        ),
        SlowCommand(
            operation="GET",
            batch_size=None,
            address="cache:6379",
            duration=pytest.approx(0.125),
            queue_time=pytest.approx(0.0625),
            server_time=pytest.approx(0.0625),
            error=None,
        ),
    ]
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "aioredis_kit.slow_commands",
            "WARNING",
            "cache:6379: GET took 0.125 s (0.062 before it was written, 0.062 until it ended)",
        ),
        (
            "aioredis_kit.slow_commands",
            "WARNING",
            f"cache:6379: {log.entries()[0]}",
        ),
    ]
    assert str(log.entries()[0]) == (
        "PIPELINE of 2 ended with TimeoutError after 1.000 s (0.200 before it was written, 0.800 until it ended)"
    )
    record = caplog.records[1]
    assert (record.redis_operation, record.redis_batch_size, record.redis_duration) == ("PIPELINE", 2, 1.0)
    assert "user:ada" not in str([vars(each) for each in caplog.records])


def test_blocking_is_no_slowness_but_waiting_for_a_lease_is():
    log = SlowCommandLog(0.1, is_logged=False)
    end(log, make_call(operation="BLPOP", took=30, queued=0.01, is_blocking=True))
    assert log.entries() == []
    end(log, make_call(operation="BLPOP", took=30, queued=0.2, is_blocking=True))
    assert [each.operation for each in log.entries()] == ["BLPOP"]


def test_the_latest_are_kept(caplog):
    log = SlowCommandLog(0.1, most=3, is_logged=False)
    for name in "ABCDE":
        end(log, make_call(operation=name))
    assert [each.operation for each in log.entries()] == ["E", "D", "C"]
    assert not caplog.records
    log.clear()
    assert log.entries() == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": 0}, "threshold must be a finite number of seconds"),
        ({"threshold": "1"}, "threshold must be a finite number of seconds"),
        ({"threshold": float("nan")}, "threshold must be a finite number of seconds"),
        ({"most": 0}, "most must be a whole number of at least 1, not 0"),
        ({"is_logged": 1}, "is_logged must be True or False, not 1"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(ConfigurationError, match=text):
        SlowCommandLog(**options)
