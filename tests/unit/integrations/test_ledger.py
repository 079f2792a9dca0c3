"""The numbers of clients that share a hook: they never go back."""

from __future__ import annotations

import pytest

from aioredis_kit.cache.statistics import CacheStatistics
from aioredis_kit.integrations.ledger import Ledger
from aioredis_kit.integrations.measures import MEASURES
from aioredis_kit.statistics import CommandStatistics, ConnectionStatistics, LaneStatistics, QueueStatistics, Statistics

MEASURE = {each.name: each for each in MEASURES}


class Origin:
    """A client, as a ledger sees it."""

    host, port, db, client_name, max_connections = "localhost", 6379, 0, None, 10
    is_gone = False

    def __init__(self, **numbers):
        self.address = f"{self.host}:{self.port}"
        self.numbers = numbers

    def totals(self):
        return Statistics(**self.numbers)


def ledger_of(*origins):
    ledger = Ledger()
    for origin in origins:
        ledger.add(origin)
    return ledger


def read(ledger, name):
    (reading,) = ledger.read()
    return dict(ledger.values(MEASURE[name], reading))


def test_clients_of_one_identity_are_one():
    shared = LaneStatistics(ready=1)
    one = Origin(queue=QueueStatistics(oldest=1.0, waiting=2), token_expires_at=9.0, bytes_read=1)
    other = Origin(queue=QueueStatistics(oldest=3.0, waiting=4), token_expires_at=5.0, bytes_read=2)
    for each in (one, other):
        each.numbers["connections"] = ConnectionStatistics(shared=shared)
    ledger = ledger_of(one, other)
    assert read(ledger, "io") == {("transmit",): 0, ("receive",): 3}
    assert read(ledger, "queue.commands") == {("waiting",): 6, ("in_flight",): 0}
    assert read(ledger, "queue.oldest") == {("waiting",): 3.0, ("in_flight",): 0}
    assert read(ledger, "credentials.expiry_timestamp") == {(): 5.0}
    assert read(ledger, "connections")["shared", "ready"] == 2
    (reading,) = ledger.read()
    assert reading.max_connections == 20


def test_names_and_databases_are_told_apart():
    named = Origin()
    named.client_name = "web"
    another = Origin()
    another.db = 1
    ledger = ledger_of(Origin(), named, another)
    assert [reading.identity.pool_name for reading in ledger.read()] == ["localhost:6379/0", "web", "localhost:6379/1"]


def test_there_are_only_so_many_names():
    ledger = Ledger()
    for number in range(1200):
        origin = Origin(commands=CommandStatistics(answered=1))
        origin.client_name = f"web-{number}"
        ledger.add(origin)
        origin.is_gone = True
    *others, last = readings = ledger.read()
    assert len(readings) == 1001
    assert (last.identity.pool_name, last.identity.host, last.identity.port) == ("_OTHER", "_OTHER", None)
    assert dict(ledger.values(MEASURE["commands"], last))["answered",] == 200
    assert all(dict(ledger.values(MEASURE["commands"], each))["answered",] == 1 for each in others)


def test_a_counter_never_goes_back():
    """Somebody who looks from another thread may see one number too few."""
    origin = Origin(commands=CommandStatistics(answered=5))
    ledger = ledger_of(origin)
    assert read(ledger, "commands")["answered",] == 5
    origin.numbers["commands"] = CommandStatistics(answered=4)
    assert read(ledger, "commands")["answered",] == 5
    origin.numbers["commands"] = CommandStatistics(answered=6)
    assert read(ledger, "commands")["answered",] == 6


@pytest.mark.parametrize("is_read_before", [True, False])
def test_what_gone_clients_have_done_stays_and_what_they_were_doing_does_not(is_read_before):
    origin = Origin(
        commands=CommandStatistics(answered=5),
        connections=ConnectionStatistics(shared=LaneStatistics(ready=1)),
        cache=CacheStatistics(hits=3, entries=2),
    )
    ledger = ledger_of(origin)
    if is_read_before:
        read(ledger, "commands")
    origin.is_gone = True
    ledger.add(Origin(commands=CommandStatistics(answered=1)))
    assert read(ledger, "commands")["answered",] == 6
    assert read(ledger, "connections")["shared", "ready"] == 0
    assert read(ledger, "cache.requests")["hit",] == 3
    assert read(ledger, "cache.items") == {(): 0}


def test_a_cache_that_is_cleared_goes_on():
    origin = Origin(cache=CacheStatistics(hits=3, misses=2, entries=2))
    ledger = ledger_of(origin)
    assert read(ledger, "cache.requests") == {("hit",): 3, ("miss",): 2}
    origin.numbers["cache"] = CacheStatistics(hits=1, entries=1)
    assert read(ledger, "cache.requests") == {("hit",): 4, ("miss",): 2}
    assert read(ledger, "cache.items") == {(): 1}


def test_without_a_cache_and_tokens_there_are_no_such_numbers():
    ledger = ledger_of(Origin())
    assert read(ledger, "cache.requests") == read(ledger, "credentials.expiry_timestamp") == {}
