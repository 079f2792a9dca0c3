"""What pings come to."""

from __future__ import annotations

import pytest

from aioredis_kit.cli.output import ExitCode
from aioredis_kit.cli.ping import Pings, milliseconds
from aioredis_kit.cli.server import Server, server_of
from aioredis_kit.cli.target import read_target
from aioredis_kit.health import Concern, Health, Reason

LOST = Health(is_live=True, is_ready=False, state="ready", reasons=(Reason(Concern.SILENT, "it says nothing"),))


def answered(latency):
    return Health(is_live=True, is_ready=True, state="ready", latency=latency)


def pings(*answers, **more):
    return Pings(read_target("redis://cache"), Server(name="Valkey", version="9", protocol=3), list(answers), **more)


def test_all_answered():
    some = pings(answered(0.003), answered(0.001), answered(0.002))
    assert some.exit_code is ExitCode.WELL
    assert some.as_document() == {
        "target": {"address": "cache:6379", "db": 0, "name": None, "sources": ["the URL"]},
        "server": {"name": "Valkey", "version": "9", "protocol": 3},
        "sent": 3,
        "answered": 3,
        "latency": {"min": 0.001, "median": 0.002, "max": 0.003},
        "pings": [{"latency": each, "reasons": []} for each in (0.003, 0.001, 0.002)],
        "is_interrupted": False,
    }


def test_one_that_is_not_answered_is_wrong():
    some = pings(answered(0.001), LOST)
    assert some.exit_code is ExitCode.WRONG
    assert some.as_document()["pings"][1] == {"latency": None, "reasons": ["it says nothing"]}
    assert pings(LOST).as_document()["latency"] == {"min": None, "median": None, "max": None}


def test_interrupted():
    assert pings(answered(0.001), is_interrupted=True).exit_code is ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("info", "hello", "told", "protocol"),
    [
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, {"server": "valkey", "proto": 3}, "Valkey 9.1.2", 3),
        ({"redis_version": "7.0.15"}, {"proto": 2}, "Redis 7.0.15", 2),
        ({"redis_version": "7.4.3", "garnet_version": "1.0.84"}, {}, "Garnet 1.0.84", None),
        ({}, {"server": "redis", "version": "8.0", "proto": 3}, "Redis 8.0", 3),
        ({}, {"server": "new", "version": "1", "proto": 3}, "new 1", 3),
        ({}, {}, "a server that does not say which", None),
    ],
)
def test_a_server_by_what_it_says(info, hello, told, protocol):
    server = server_of(info, hello)
    assert str(server) == told
    assert server.protocol == protocol


@pytest.mark.parametrize(
    ("duration", "text"), [(0.000123456, "0.123 ms"), (0.0123456, "12.3 ms"), (0.9994, "999 ms"), (12.3456, "12346 ms")]
)
def test_durations_are_read_by_people(duration, text):
    assert milliseconds(duration) == text
