"""The machine slept for an hour or two, and its monotonic clock with it: no storm, and no token that has ended is used."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from aioredis_kit.exceptions import TokenRenewalError
from aioredis_kit.testing import resp
from tests.support.broadcaster import Broadcaster
from tests.support.observing import EventRecord, until
from tests.support.token_source import Source, authentications
from tests.support.virtual_time import EPOCH

CLIENTS = 3
CONNECTIONS = 5
"""Of each client: three shared ones, the push connection, and a lease."""


class Machine:
    """The wall clock that has gone on while the machine slept."""

    def __init__(self, clock):
        self.slept = 0.0
        self._clock = clock

    def __call__(self):
        return self._clock() + self.slept


@pytest.fixture
async def machine(clock, monkeypatch):
    machine = Machine(clock)
    clocks = SimpleNamespace(monotonic=asyncio.get_running_loop().time, time=lambda: EPOCH + machine())
    monkeypatch.setattr("aioredis_kit.client.equip.time", clocks)
    return machine


@pytest.fixture
async def fleet(machine, peer, make_client):
    """Several clients that share a provider, each with all kinds of connections."""
    peer.on("AUTH", resp.simple("OK"))
    Broadcaster(peer, 3)
    source = Source(machine, life=3600.0)
    options = {"credential_provider": source.provider, "ping_interval": None, "connections": 3}
    clients = [await make_client(reconnect_strategy=0.0, **options).connect() for _ in range(CLIENTS)]
    contexts = [each.subscribe("news") for each in clients] + [each.dedicated() for each in clients]
    opened = [await each.__aenter__() for each in contexts]
    for session in opened[CLIENTS:]:
        await session.get("k")
    await until(lambda: len(authentications(peer)) == CLIENTS * CONNECTIONS)
    yield SimpleNamespace(source=source, clients=clients, sessions=opened[CLIENTS:])
    for each in contexts:
        await each.__aexit__(None, None, None)


@pytest.mark.pins("case-76", "case-83")
async def test_connections_that_have_survived(clock, peer, machine, fleet):
    """One request for all, within half a minute, and one AUTH on each connection."""
    events = [EventRecord(each) for each in fleet.clients]
    await asyncio.sleep(10)
    machine.slept = 3600.0
    await asyncio.sleep(31)
    assert len(fleet.source.asked_at) == 2
    assert fleet.source.asked_at[1] <= 3600 + 10 + 30
    await until(lambda: len(authentications(peer)) == 2 * CLIENTS * CONNECTIONS)
    await asyncio.sleep(60)
    assert sorted(authentications(peer)) == [
        (number, f"token-{token}") for number in range(CLIENTS * CONNECTIONS) for token in (1, 2)
    ]
    assert len(peer.connections) == CLIENTS * CONNECTIONS
    assert all(each.names.count("reauthenticated") == CONNECTIONS and "error" not in each.names for each in events)


@pytest.mark.pins("case-76", "case-83")
async def test_connections_that_the_server_has_closed(clock, peer, machine, fleet):
    """One request for all; all handshakes use the new token, and nothing is left to authenticate afterwards."""
    machine.slept = 7200.0
    for connection in peer.connections[:]:
        connection.close()
    await until(lambda: len(peer.connections) == CLIENTS * (2 * CONNECTIONS - 1))  # leases are opened when needed
    await until(lambda: all(each.is_ready for each in fleet.clients))
    await asyncio.sleep(60)
    assert len(fleet.source.asked_at) == 2
    new = authentications(peer)[CLIENTS * CONNECTIONS :]
    assert sorted(new) == [(number, "token-2") for number in range(CLIENTS * CONNECTIONS, len(peer.connections))]
    async with fleet.clients[0].dedicated() as session:
        await session.get("k")
    assert authentications(peer)[-1] == (len(peer.connections) - 1, "token-2")
    assert len(fleet.source.asked_at) == 2


async def test_a_provider_that_is_not_there_yet(clock, peer, machine, fleet):
    """All connections of all clients wait for it together, at the pace of one."""
    machine.slept = 7200.0
    fleet.source.answers = [OSError("down")] * 10_000
    for connection in peer.connections[:]:
        connection.close()
    await asyncio.sleep(30)
    asked = len(fleet.source.asked_at)
    # 0.05, 0.1 … 1.6 s, which are 3.15 s, and then every 2 s.
    assert 10 <= asked - 1 <= 8 + 27 / 2
    assert len(peer.connections) == CLIENTS * CONNECTIONS
    fleet.source.answers = []
    await asyncio.sleep(10)
    assert all(each.is_ready for each in fleet.clients)
    assert len(fleet.source.asked_at) == asked + 1
    assert {token for number, token in authentications(peer) if number >= CLIENTS * CONNECTIONS} == {
        f"token-{asked + 1}"
    }


async def test_connections_that_have_survived_and_a_provider_that_is_not_there(clock, peer, machine, fleet):
    """That is told once; what the server lets live goes on, and is not asked for any more."""
    events = [EventRecord(each) for each in fleet.clients]
    machine.slept = 3600.0
    fleet.source.answers = [OSError("down")] * 10_000
    await asyncio.sleep(100)
    assert len(fleet.source.asked_at) == 2
    for each in events:
        (error,) = each.of("error")
        assert isinstance(error, TokenRenewalError)
        assert str(error) == "the token could not be renewed (OSError), and has ended"
        assert error.expires_at == EPOCH + 3600
    assert all(each.is_ready for each in fleet.clients)
    assert len(peer.connections) == CLIENTS * CONNECTIONS
