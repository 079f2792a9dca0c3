"""Pipelines, transactions and sessions beside a cache."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from aioredis_kit import CacheOptions
from aioredis_kit.testing import resp
from tests.support.caching import sent, stats
from tests.support.observing import outcome, turns


async def test_the_reads_of_a_pipeline(server, client):
    """Hits are not sent; what is sent is kept; responses are in their places."""
    await client.get("b")
    server.on("INCRBY", resp.integer(1))
    pipe = client.pipeline(transaction=False)
    pipe.get("a").get("b").incr("n").get("c").get("a")
    assert await pipe.execute() == [b"a", b"b", 1, b"c", b"a"]
    assert [key for _, key in sent(server, "GET")] == ["b", "a", "c", "a"]
    assert await client.pipeline(transaction=False).get("a").get("b").get("c").execute() == [b"a", b"b", b"c"]
    assert len(sent(server, "GET")) == 4


async def test_a_pipeline_asks_when_keys_end(clock, server, expiring):
    server.on("PTTL", resp.integer(1000))
    assert await expiring.pipeline(transaction=False).get("a").set("b", 1).get("b").execute() == [b"a", True, b"b"]
    assert [each.name for each in server.commands][-5:] == ["GET", "PTTL", "SET", "GET", "PTTL"]
    assert await expiring.get("a") == b"a"
    await asyncio.sleep(1.1)
    await expiring.get("a")
    assert len(sent(server, "GET")) == 3


async def test_a_pipeline_that_opts_in(server, make_client):
    client = await make_client(client_side_cache=CacheOptions(mode="optin")).connect()
    view = client.with_options(cache=True)
    for _ in range(2):
        assert await view.pipeline(transaction=False).get("a").set("b", 1).execute() == [b"a", True]
    names = [each.name for each in server.commands if each.name in ("CLIENT", "GET", "PTTL", "SET")]
    assert names[-5:] == ["CLIENT", "GET", "PTTL", "SET", "SET"]


async def test_a_pipeline_in_parts_opts_in_for_nothing(server, make_client):
    """What was to accompany a read may have gone with somebody else's."""
    client = await make_client(client_side_cache=CacheOptions(mode="optin"), commands_queue_max_length=2).connect()
    view = client.with_options(cache=True)
    for _ in range(2):
        assert await view.pipeline(transaction=False).get("a").get("b").execute() == [b"a", b"b"]
    assert len(sent(server, "GET")) == 4


async def test_writes_in_a_pipeline_end_what_is_cached(server, client):
    """What comes before them may be a hit, what comes behind them is none."""
    await client.get("k")
    server.on("GET", resp.bulk("new"))
    assert await client.pipeline(transaction=False).get("k").set("k", "new").get("k").execute() == [b"k", True, b"new"]
    assert await client.get("k") == b"new"


@pytest.mark.parametrize("kind", ["transaction", "session", "session's transaction"])
async def test_writes_elsewhere_end_what_is_cached(server, transactional, client, kind):
    server.on("SET", resp.simple("OK"))
    await client.get("k")
    if kind == "session":
        async with client.dedicated() as session:
            await session.set("k", "v")
    else:
        server.on("SET", resp.simple("QUEUED"))
        server.on("EXEC", resp.array(resp.simple("OK")))
        if kind == "transaction":
            await client.pipeline().set("k", "v").execute()
        else:
            async with client.dedicated() as session:
                await session.pipeline().set("k", "v").execute()
    await client.get("k")
    assert len(sent(server, "GET")) == 2


async def test_a_block_that_is_written_by_hand(server, transactional, client):
    """Nobody knows any more at EXEC what was in it."""
    server.on("SET", resp.simple("QUEUED"))
    async with client.dedicated() as session:
        await session.execute_command("MULTI")
        await session.execute_command("SET", "k", "v")
        await client.get("k")
        await session.execute_command("EXEC")
    await client.get("k")
    assert len(sent(server, "GET")) == 2


async def test_reads_in_sessions_and_transactions_are_not_cached(server, transactional, client):
    server.on("EXEC", resp.array(resp.bulk("v")))
    for _ in range(2):
        async with client.dedicated() as session:
            await session.get("k")
    server.on("GET", resp.simple("QUEUED"))
    for _ in range(2):
        assert await client.pipeline().get("k").execute() == [b"v"]
    assert stats(client).requests == 0


@pytest.mark.parametrize("end", ["error", "cancelled", "not sent"])
async def test_a_pipeline_that_fails_keeps_nothing(server, client, end):
    """Whoever waits for its reads asks by itself."""
    server.on("GET", None)
    pipe = client.pipeline(transaction=False).get("a").get("b")
    if end == "not sent":
        pipe.execute_command("GET", object())
        assert "DataError" in repr(await outcome(pipe.execute()))
    else:
        run = asyncio.create_task(outcome(pipe.execute()))
        await server.wait_for_command("GET", count=2)
        joined = asyncio.create_task(client.get("a"))
        await turns()
        assert stats(client).joined_loads == 1
        if end == "cancelled":
            run.cancel()
            await server.wait_for_command("GET", count=3)
            server.connections[0].send(resp.bulk("1"), resp.bulk("2"), resp.bulk("v"))
            assert await joined == b"v"
        else:
            server.connections[0].send(resp.error("WRONGTYPE no"), resp.bulk("2"))
            assert isinstance(await run, ResponseError)
            await server.wait_for_command("GET", count=3)
            server.connections[0].send(resp.bulk("v"))
            assert await joined == b"v"
    server.on("GET", resp.bulk("v"))
    assert await client.get("a") == b"v"
    assert not client.client_side_cache.loads


async def test_a_pipeline_joins_nobody(server, client):
    """Its other commands would have to wait."""
    server.on("GET", None)
    read = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    run = asyncio.create_task(client.pipeline(transaction=False).get("k").execute())
    await server.wait_for_command("GET", count=2)
    server.connections[0].send(resp.bulk("1"), resp.bulk("2"))
    assert (await read, await run) == (b"1", [b"2"])
    assert await client.get("k") == b"1"


async def test_the_replies_of_a_pipeline_that_was_lost(server, client):
    """Those to its own commands, hits among them."""
    await client.get("hit")
    server.on("INCRBY", resp.integer(1))
    server.on("DECR", None)
    pipe = client.pipeline(transaction=False).incr("n").get("hit").get("a").execute_command("DECR", "n")
    run = asyncio.create_task(outcome(pipe.execute()))
    await server.wait_for_command("DECR")
    server.connections[0].close()
    error = await run
    assert error.replies == (1, b"hit", b"a")
    assert error.maybe_executed
    assert stats(client).entries == 0
