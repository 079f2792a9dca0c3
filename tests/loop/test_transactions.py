"""WATCH, and redis-py's loop around it: what is retried, and what never is."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import RedisError, WatchError

from aioredis_kit.exceptions import ConfigurationError, ConnectionLostError
from aioredis_kit.testing import resp
from tests.support.observing import outcome, turns, until


def names_on(peer, number):
    """What came on one connection, after its handshake."""
    return [each.name for each in peer.connections[number].commands if each.name not in ("HELLO", "CLIENT", "PING")]


async def test_watching_takes_a_connection_of_its_own(transactional, client):
    async with client.pipeline() as pipe:
        await pipe.watch("k")
        assert await pipe.get("k") == b"k"
        pipe.multi()
        pipe.incr("k")
        assert await pipe.execute() == [1]
    assert names_on(transactional, 0) == []
    assert names_on(transactional, 1) == ["WATCH", "GET", "MULTI", "INCRBY", "EXEC"]


async def test_after_exec_the_connection_is_clean(transactional, client):
    """So the next transaction gets it as it is."""
    for _ in range(3):
        async with client.pipeline() as pipe:
            await pipe.watch("k")
            pipe.multi()
            pipe.incr("k")
            await pipe.execute()
    assert len(transactional.connections) == 2
    assert "RESET" not in names_on(transactional, 1)


async def test_a_watch_that_is_given_up_is_undone(transactional, client):
    async with client.pipeline() as pipe:
        await pipe.watch("k")
    await transactional.wait_for_command("RESET")
    await until(lambda: client._core.route(()).dedicated._idle)
    async with client.pipeline() as pipe:
        await pipe.watch("k")
        await pipe.unwatch()
    await turns()
    assert len(transactional.connections) == 2
    assert names_on(transactional, 1).count("RESET") == 1


async def test_a_client_refuses_watch(client):
    with pytest.raises(ConfigurationError, match="session.*pipeline"):
        await client.execute_command("WATCH", "k")


async def test_redis_pys_own_refusals(transactional, client):
    async with client.pipeline() as pipe:
        pipe.multi()
        with pytest.raises(RedisError, match="nested"):
            pipe.multi()
        with pytest.raises(RedisError, match="WATCH after a MULTI"):
            await pipe.watch("k")


@pytest.mark.pins("case-67")
async def test_a_changed_key(transactional, client):
    transactional.on("EXEC", resp.null())
    async with client.pipeline() as pipe:
        await pipe.watch("k")
        pipe.multi()
        pipe.incr("k")
        with pytest.raises(WatchError):
            await pipe.execute()


@pytest.mark.pins("case-68")
@pytest.mark.parametrize("moment", ["before a read", "before exec"])
async def test_lost_before_exec_was_sent(transactional, client, moment):
    """The watch is gone, and nothing was executed: once a WatchError, and the pipeline can be used again."""
    async with client.pipeline() as pipe:
        await pipe.watch("k")
        transactional.connections[1].reset()
        await until(lambda: not pipe._watcher._core.lease or pipe._watcher._core.lease.is_lost)
        if moment == "before exec":
            pipe.multi()
            pipe.incr("k")
        with pytest.raises(WatchError, match="lost"):
            await (pipe.execute() if moment == "before exec" else pipe.get("k"))
        await pipe.watch("k")
        pipe.multi()
        pipe.incr("k")
        assert await pipe.execute() == [1]


@pytest.mark.pins("P3")
async def test_lost_after_exec_was_sent_is_never_tried_again(transactional, client):
    """redis-py's transaction() would apply it a second time."""
    transactional.on("EXEC", None)
    calls = []

    def transfer(pipe):
        calls.append(pipe)
        pipe.multi()
        pipe.incr("k")

    task = asyncio.create_task(client.transaction(transfer, "k"))
    await transactional.wait_for_command("EXEC")
    transactional.connections[1].reset()
    error = await outcome(task)
    assert isinstance(error, ConnectionLostError)
    assert error.maybe_executed is True
    assert len(calls) == 1
    await turns()
    assert names_on(transactional, 1).count("EXEC") == 1
    assert len(transactional.connections) == 2


async def test_the_loop_tries_again_when_a_key_changed(transactional, client):
    transactional.on("EXEC", resp.null(), resp.null(), resp.array(resp.integer(3)))
    calls = []

    def transfer(pipe):
        calls.append(pipe)
        pipe.multi()
        pipe.incr("k")

    assert await client.transaction(transfer, "k") == [3]
    assert len(calls) == 3


async def test_the_loop_tries_again_when_the_connection_was_lost_before_exec(transactional, client):
    calls = []

    async def transfer(pipe):
        calls.append(pipe)
        if len(calls) == 1:
            transactional.connections[1].reset()
            await until(lambda: pipe._watcher._core.lease.is_lost)
        pipe.multi()
        pipe.incr("k")

    assert await client.transaction(transfer, "k") == [1]
    assert len(calls) == 2


@pytest.mark.parametrize("delay", range(12))
async def test_cancelling_anywhere_loses_no_lease(transactional, make_client, delay):
    client = await make_client(max_dedicated_connections=1, reconnect_strategy=0.0).connect()

    async def transfer():
        async with client.pipeline() as pipe:
            await pipe.watch("k")
            await pipe.get("k")
            pipe.multi()
            pipe.incr("k")
            return await pipe.execute()

    victim = asyncio.create_task(transfer())
    await turns(delay)
    victim.cancel()
    await outcome(victim)
    assert await transfer() == [1]
    assert client._core.route(()).dedicated.holders == ()


async def test_on_a_session_the_pipeline_watches_on_its_connection(transactional, client):
    async with client.dedicated() as session:
        async with session.pipeline() as pipe:
            await pipe.watch("k")
            pipe.multi()
            pipe.incr("k")
            assert await pipe.execute() == [1]
        async with session.pipeline() as pipe:
            await pipe.watch("k")
        assert await session.get("k") == b"k"
    assert len(transactional.connections) == 2
    assert names_on(transactional, 1) == ["WATCH", "MULTI", "INCRBY", "EXEC", "WATCH", "UNWATCH", "GET"]
