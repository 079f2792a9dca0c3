"""Blocking commands in sessions: the session goes on behind them, and gives its connection back when they have ended."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.testing import resp
from tests.support.blocking import BlockingPeer, accounts, lease_count, start_blocking, words_on
from tests.support.observing import EventRecord, outcome, turns, until

ELEMENT = resp.array(resp.bulk("k"), resp.bulk("v"))


@pytest.fixture
def blocking(peer):
    """A peer that answers blocking commands when asked to."""
    return BlockingPeer(peer)


@pytest.mark.pins("P1")
async def test_in_a_session(blocking, client):
    """On its own connection; cancelled, it is unblocked, and the session goes on behind it."""
    async with client.dedicated() as session:
        task = await start_blocking(blocking, session.blpop("k", 0))
        blocking.give(ELEMENT)
        assert await task == (b"k", b"v")
        task = await start_blocking(blocking, session.blpop("k", 0))
        task.cancel()
        assert isinstance(await outcome(task), asyncio.CancelledError)
        assert await session.get("k") == b"k"
        assert accounts(client) == (0, 0, 1, 1)
    assert lease_count(client) == (1, 0)
    assert words_on(blocking.peer.connections[1]) == ["BLPOP k 0", "BLPOP k 0", "GET k"]


@pytest.mark.pins("P1", "P3")
async def test_a_session_that_ends_with_its_caller(blocking, client):
    """The usual way: a time limit around both. The connection is given back when the command has ended."""
    events = EventRecord(client)
    blocking.peer.on("CLIENT UNBLOCK", lambda _: (blocking.give(ELEMENT), resp.integer(0))[1])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), client.dedicated() as session:
            await session.blpop("k", 0)
    await events.wait_for("reply-orphaned")
    await until(lambda: lease_count(client)[1] == 0)
    assert accounts(client) == (1, 0, 1, 0)
    assert not session.is_open


@pytest.mark.pins("P2")
async def test_a_session_that_ends_under_its_caller(blocking, client):
    session = await client.dedicated().connect()
    task = await start_blocking(blocking, session.blpop("k", 0))
    await session.close()
    error = await outcome(task)
    assert isinstance(error, ClientClosedError)
    assert "the session has ended" in str(error)
    await until(lambda: accounts(client) == (0, 0, 1, 0))


@pytest.mark.pins("4.19")
async def test_while_the_client_is_closing_nothing_blocks_any_more(blocking, client):
    """A session has its time to end, but not to wait for somebody else."""
    session = await client.dedicated().connect()
    closing = asyncio.create_task(client.close())
    await turns()
    assert isinstance(await outcome(session.blpop("k", 0)), ClientClosedError)
    assert await session.get("k") == b"k"
    await session.close()
    await closing
    assert words_on(blocking.peer.connections[1]) == ["GET k"]


@pytest.mark.pins("P1", "4.7")
async def test_cancelled_before_it_is_written_it_never_is(blocking, client):
    """It waited in the queue, as the server read nothing."""
    async with client.dedicated() as session:
        connection = blocking.peer.connections[1]
        connection.pause_reading()
        filling = [asyncio.create_task(session.set("k", b"x" * 2**20)) for _ in range(20)]
        await until(lambda: not session.is_ready)
        task = asyncio.create_task(session.blpop("k", 0))
        await turns()
        task.cancel()
        assert isinstance(await outcome(task), asyncio.CancelledError)
        connection.resume_reading()
        await asyncio.gather(*filling)
        assert await session.get("k") == b"k"
        assert {each.name for each in connection.commands} == {"HELLO", "CLIENT", "PING", "SET", "GET"}
        assert blocking.unblocks == []
    assert accounts(client) == (0, 0, 1, 0)


@pytest.mark.pins("P1")
async def test_to_unblock_the_second_is_not_to_unblock_the_first(blocking, client):
    """Two that wait one behind the other: UNBLOCK would end the first."""
    async with client.dedicated() as session:
        first = await start_blocking(blocking, session.blpop("a", 0))
        second = await start_blocking(blocking, session.blpop("b", 0))
        second.cancel()
        await outcome(second)
        await turns(50)
        assert blocking.unblocks == []
        blocking.give(ELEMENT)
        assert await first == (b"k", b"v")
        assert await session.get("k") == b"k"
        assert blocking.unblocks == [1]
    assert accounts(client) == (0, 0, 1, 0)


@pytest.mark.pins("P1")
async def test_in_the_middle_of_a_transaction_nothing_blocks(blocking, client):
    """The server does not block there: it is a command like others, and not unblocked."""
    blocking.peer.on("MULTI", resp.simple("OK"))
    blocking.peer.on("DISCARD", resp.simple("OK"))
    blocking.peer.on("BLMOVE", resp.simple("QUEUED"))
    async with client.dedicated() as session:
        await session.execute_command("MULTI")
        assert await session.execute_command("BLMOVE", "a", "b", "LEFT", "LEFT", 0) == b"QUEUED"
        await session.execute_command("DISCARD")
    assert blocking.unblocks == []


async def test_a_wait_whose_caller_has_gone_is_no_orphan(blocking, client):
    """It is unblocked too, but its reply is a number, not something taken."""
    events = EventRecord(client)
    blocking.peer.on("CLIENT UNBLOCK", lambda _: (blocking.give(resp.integer(0)), resp.integer(1))[1])
    async with client.dedicated() as session:
        task = await start_blocking(blocking, session.wait(1, 0))
        task.cancel()
        await outcome(task)
        await session.get("k")
    assert events == []
    assert accounts(client) == (0, 0, 1, 0)


@pytest.mark.pins("P1")
async def test_an_unblock_that_is_late_does_not_end_the_sessions_next_command(blocking, client):
    """The next command waits for the answer to UNBLOCK, as it might still hit whatever waits then."""
    unblocks = []
    blocking.peer.on("CLIENT UNBLOCK", unblocks.append)
    async with client.dedicated() as session:
        first = await start_blocking(blocking, session.blpop("a", 0))
        first.cancel()
        await outcome(first)
        await until(lambda: unblocks)
        blocking.give(ELEMENT)
        second = asyncio.create_task(session.blpop("b", 0))
        await turns(50)
        assert words_on(blocking.peer.connections[1]) == ["BLPOP a 0"]
        blocking.peer.connections[0].send(resp.integer(0))
        await until(lambda: blocking.waiting)
        assert words_on(blocking.peer.connections[1]) == ["BLPOP a 0", "BLPOP b 0"]
        blocking.give(resp.null())
        assert await second is None
    assert client.statistics().orphaned_replies == 1
