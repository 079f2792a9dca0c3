"""Four failures of the best multiplexing client in pure Python there was, coredis 6.9, which must never be ours.

Each is one scenario for both clients, with the defaults of each. On ours it goes well; on coredis it is shown to fail:
``uv run --group bench pytest --long tests/chaos/test_peer_failures.py``. Where coredis does better one day, the test
of that failure fails, and what is said about it has to change.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from importlib.util import find_spec

import pytest

from aioredis_kit import CommandTimeoutError, QueueFullError, create_client
from aioredis_kit.testing import ScriptedPeer, resp
from tests.support.caching import LASTING, invalidation
from tests.support.observing import outcome

FLOOD = 20_000
"""So many commands of 4 KiB: more than 64 MiB, which is what ours lets wait."""
BLOCKED = 3


@asynccontextmanager
async def ours(url, *, cached=False, connections=50):
    cache = {"client_side_cache": LASTING} if cached else {}
    async with create_client(
        url, max_dedicated_connections=connections, command_timeout=1.0, queue_full="raise", **cache
    ) as client:
        yield client


@asynccontextmanager
async def coredis(url, *, cached=False, connections=64):
    from coredis import Redis
    from coredis.patterns.cache import LRUCache

    async with Redis.from_url(url, max_connections=connections, cache=LRUCache() if cached else None) as client:
        yield client


on_coredis = pytest.mark.skipif(find_spec("coredis") is None, reason="coredis is not installed: uv sync --group bench")


# -- a blocking call that is cancelled ----------------------------------------------------------------


async def cancel_blocked_calls(make, server):
    """Cancel as many blocked calls as there may be connections; return what a PING comes to after that."""
    async with make(server.url, connections=BLOCKED) as client, create_client(server.url) as observer:
        for number in range(BLOCKED):
            pop = asyncio.ensure_future(client.blpop([f"nothing:{number}"], timeout=30))
            while not (await observer.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0.001)  # between two looks at the condition
            pop.cancel()
            assert isinstance(await outcome(pop), asyncio.CancelledError)
            while (await observer.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0.001)  # between two looks at the condition
        return await outcome(asyncio.wait_for(client.ping(), 1.0))


@pytest.mark.pins("P5")
async def test_cancelled_blocking_calls_give_their_connections_back(server):
    assert await cancel_blocked_calls(ours, server) in (True, b"PONG")


@on_coredis
@pytest.mark.only_long
async def test_in_coredis_they_do_not(server):
    assert isinstance(await cancel_blocked_calls(coredis, server), TimeoutError)


# -- a write whose reply is lost ----------------------------------------------------------------------


async def lose_replies(make):
    """Apply an increment and lose its reply, twice; return how often one call was applied, and what it came to."""
    applied = 0

    def lose(received):
        nonlocal applied
        applied += 1
        if applied <= 2:
            return received.connection.reset()
        return resp.integer(applied)

    async with ScriptedPeer() as peer:
        peer.on("INCR", lose)
        peer.on("INCRBY", lose)  # what redis-py's method sends
        async with make(peer.url) as client:
            result = await outcome(client.incr("n"))
            return applied, result


@pytest.mark.pins("P3", "4.11")
async def test_a_write_of_unknown_outcome_is_not_sent_again():
    applied, result = await lose_replies(ours)
    assert applied == 1
    assert result.maybe_executed


@on_coredis
@pytest.mark.only_long
async def test_in_coredis_it_is_sent_three_times():
    assert await lose_replies(coredis) == (3, 3)


# -- a server that does not read ----------------------------------------------------------------------


async def flood(make):
    """Send to a server that does not read; return what each command has come to within two seconds, if anything."""
    async with ScriptedPeer() as peer, make(peer.url) as client:
        await client.ping()
        for connection in peer.connections:
            connection.pause_reading()
        value = b"x" * 4096
        tasks = [asyncio.ensure_future(client.set(f"k:{number}", value)) for number in range(FLOOD)]
        await asyncio.wait(tasks, timeout=2.0)
        ended = [task.exception() for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ended


@pytest.mark.only_long
@pytest.mark.pins("P2", "P5", "4.5")
async def test_what_waits_is_limited_and_ends():
    ended = await flood(ours)
    assert len(ended) == FLOOD
    kinds = {type(error) for error in ended}
    assert kinds == {QueueFullError, CommandTimeoutError}


@on_coredis
@pytest.mark.only_long
async def test_in_coredis_it_is_not():
    assert not await flood(coredis)


# -- an invalidation that is faster than the reply ----------------------------------------------------


async def race_an_invalidation(make):
    """Let the server say that a key has changed before it answers with the old value; return three later reads."""
    async with ScriptedPeer() as peer:
        peer.on("PTTL", resp.integer(-1))
        peer.on("GET", None)
        async with make(peer.url, cached=True) as client:
            read = asyncio.ensure_future(client.get("k"))
            received = await peer.wait_for_command("GET")
            tracking = await peer.wait_for_command("CLIENT TRACKING")
            told = received.connection
            if b"REDIRECT" in tracking.words:
                told = peer.connections[int(tracking.words[-1]) - 1]
            told.send(invalidation("k"))
            await asyncio.sleep(0.1)  # nothing tells from outside that a client has read it
            received.connection.send(resp.bulk("old"))
            assert await read == b"old"
            peer.on("GET", resp.bulk("new"))
            return [await client.get("k") for _ in range(3)]


@pytest.mark.pins("case-104")
async def test_a_reply_that_is_older_than_its_invalidation_is_not_kept():
    assert await race_an_invalidation(ours) == [b"new"] * 3


@on_coredis
@pytest.mark.only_long
async def test_in_coredis_it_is_kept():
    assert await race_an_invalidation(coredis) == [b"old"] * 3
