"""A scripted peer, clients for it that end with the test, and a clock that jumps."""

from __future__ import annotations

import asyncio
import socket

import pytest

from aioredis_kit import create_client
from aioredis_kit.testing import ScriptedPeer, resp
from tests.support.virtual_time import virtual_time


@pytest.fixture
async def peer():
    """A peer that knows the handshake, and answers SET with OK and GET with the key."""
    async with ScriptedPeer() as peer:
        peer.on("SET", resp.simple("OK"))
        peer.on("GET", lambda received: resp.bulk(received.words[1]))
        yield peer


@pytest.fixture
def transactional(peer):
    """The peer knows transactions; a watched key is never changed."""
    peer.on("WATCH", resp.simple("OK"))
    peer.on("UNWATCH", resp.simple("OK"))
    peer.on("RESET", resp.simple("RESET"))
    peer.on("MULTI", resp.simple("OK"))
    peer.on("INCRBY", resp.simple("QUEUED"))
    peer.on("EXEC", resp.array(resp.integer(1)))
    return peer


@pytest.fixture
async def make_client(peer):
    """A function that makes a client for the peer, or for another URL; it ends with the test."""
    clients = []

    def make(url=None, **options):
        client = create_client(peer.url if url is None else url, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.destroy()
        await client.close()


@pytest.fixture
async def client(make_client):
    """A client that is connected to the peer, with what a test has no time for made short."""
    return await make_client(reconnect_strategy=0.0).connect()


@pytest.fixture
async def clock(monkeypatch):
    """Virtual time for the test's loop and the clients that it makes; a function of the seconds so far."""
    with virtual_time(asyncio.get_running_loop(), monkeypatch) as elapsed:
        yield elapsed


@pytest.fixture
def unused_port():
    """A port on which nobody listens, and nobody will: it is bound."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
