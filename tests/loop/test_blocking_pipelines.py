"""Pipelines with blocking commands: each of those is accounted for like one that is sent alone."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ReadOnlyError, ResponseError

from aioredis_kit.exceptions import ClientClosedError, CommandTimeoutError, ConnectionLostError
from aioredis_kit.testing import resp
from tests.support.blocking import BlockingPeer, accounts, lease_count, start_blocking, words_on
from tests.support.observing import EventRecord, outcome, turns, until

ELEMENT = resp.array(resp.bulk("k"), resp.bulk("v"))


@pytest.fixture
def blocking(peer):
    """A peer that answers blocking commands when asked to."""
    return BlockingPeer(peer)


def pop_between(client, *, pops=1):
    """A pipeline that sets a key, pops so many times, and sets another one."""
    pipe = client.pipeline(transaction=False).set("before", 1)
    for number in range(pops):
        pipe.blpop(f"k{number}", 0)
    return pipe.set("behind", 1)


@pytest.mark.pins("P4")
async def test_what_follows_is_sent_when_it_was_answered(blocking, client):
    """All on one connection, in the order of the pipeline; what does not block goes in one write."""
    pipe = client.pipeline(transaction=False).set("a", 1).set("b", 1).blpop("k", 0).blpop("k", 0).set("c", 1).get("d")
    task = await start_blocking(blocking, pipe.execute())
    own = blocking.peer.connections[1]
    assert words_on(own) == ["SET a 1", "SET b 1", "BLPOP k 0"]
    assert len({each.chunk for each in own.commands if each.name == "SET"}) == 1
    blocking.give(ELEMENT)
    await until(lambda: blocking.waiting)
    blocking.give(resp.null())
    assert await task == [True, True, (b"k", b"v"), None, True, b"d"]
    assert words_on(own)[3:] == ["BLPOP k 0", "SET c 1", "GET d"]
    assert accounts(client) == (0, 0, 1, 0)


@pytest.mark.pins("4.12")
async def test_in_a_transaction_nothing_blocks(blocking, client):
    """So it is a unit on the shared lane, as any other."""
    peer = blocking.peer
    peer.on("MULTI", resp.simple("OK"))
    peer.on("BLPOP", resp.simple("QUEUED"))
    peer.on("EXEC", resp.array(resp.null()))
    assert await client.pipeline(transaction=True).blpop("k", 0).execute() == [None]
    assert len(peer.connections) == 1


@pytest.mark.pins("P1", "P3", "4.8")
async def test_its_caller_has_gone(blocking, client):
    """It is unblocked, what follows is never sent, and the connection serves on."""
    task = await start_blocking(blocking, pop_between(client).execute())
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    await until(lambda: lease_count(client)[1] == 0)
    assert blocking.unblocks == [1]
    assert accounts(client) == (0, 0, 1, 0)
    task = await start_blocking(blocking, client.blpop("k", 0))
    blocking.give(ELEMENT)
    assert await task == (b"k", b"v")
    assert words_on(blocking.peer.connections[1]) == ["SET before 1", "BLPOP k0 0", "BLPOP k 0"]


@pytest.mark.pins("P1", "P3")
async def test_an_element_that_comes_all_the_same_is_reported(blocking, client):
    events = EventRecord(client)
    blocking.peer.on("CLIENT UNBLOCK", resp.integer(0))
    task = await start_blocking(blocking, pop_between(client, pops=2).execute())
    task.cancel()
    await outcome(task)
    blocking.give(ELEMENT)
    await events.wait_for("reply-orphaned")
    assert events == [("reply-orphaned", ("BLPOP", "k0", 0), [b"k", b"v"])]
    await until(lambda: lease_count(client)[1] == 0)
    assert accounts(client) == (1, 0, 1, 0)


@pytest.mark.pins("P2", "P3", "4.12")
async def test_each_has_its_own_time(clock, blocking, make_client):
    """Its block time and the time-out, from when it is sent on; what had been answered is told."""
    client = await make_client(ping_interval=None, command_timeout=5.0).connect()
    pipe = client.pipeline(transaction=False).set("a", 1).blpop("k", 20).blpop("k", 30).set("b", 1)
    loop = asyncio.get_running_loop()
    loop.call_later(24, lambda: blocking.give(resp.null()))
    error = await outcome(pipe.execute())
    assert clock() == pytest.approx(24 + 30 + 5, abs=0.1)
    assert isinstance(error, CommandTimeoutError)
    assert error.maybe_executed is True
    assert error.replies == (b"OK", None)
    await until(lambda: lease_count(client)[1] == 0)
    assert accounts(client) == (0, 0, 1, 0)
    assert "SET b 1" not in words_on(blocking.peer.connections[1])


@pytest.mark.pins("P3")
@pytest.mark.parametrize("is_first", [True, False])
async def test_lost(blocking, client, is_first):
    pipe = client.pipeline(transaction=False).blpop("k", 0) if is_first else pop_between(client)
    task = await start_blocking(blocking, pipe.execute())
    blocking.peer.connections[1].reset()
    error = await outcome(task)
    assert isinstance(error, ConnectionLostError)
    assert error.maybe_executed is True
    assert error.replies == (() if is_first else (b"OK",))
    assert [each.name for each in blocking.peer.commands].count("BLPOP") == 1
    await until(lambda: lease_count(client) == (0, 0))


async def test_a_refusal_is_a_result(blocking, client):
    blocking.peer.on("BLPOP", resp.error("WRONGTYPE of another kind"))
    results = await pop_between(client).execute(raise_on_error=False)
    assert [type(each) for each in results] == [bool, ResponseError, bool]
    with pytest.raises(ResponseError, match=r"Command # 2 \(BLPOP k0 0\) of pipeline caused error: .*WRONGTYPE"):
        await pop_between(client).execute()


@pytest.mark.pins("4.13")
async def test_refused_as_a_whole_because_nothing_was_done(blocking, client):
    blocking.peer.on("BLPOP", resp.error("LOADING dataset"), ELEMENT)
    assert await client.pipeline(transaction=False).blpop("k", 0).execute() == [(b"k", b"v")]


async def test_in_a_session_the_next_command_waits_until_it_has_ended(blocking, client):
    async with client.dedicated() as session:
        task = await start_blocking(blocking, pop_between(session).execute())
        task.cancel()
        await outcome(task)
        assert await session.get("next") == b"next"
        assert words_on(blocking.peer.connections[1]) == ["SET before 1", "BLPOP k0 0", "GET next"]
    assert accounts(client) == (0, 0, 1, 0)


async def test_its_session_ends_meanwhile(blocking, client):
    """The connection may be somebody else's by then: nothing more is sent on it."""
    session = await client.dedicated().connect()
    task = await start_blocking(blocking, pop_between(session).execute())
    await session.close()
    assert isinstance(await outcome(task), ClientClosedError)
    await until(lambda: lease_count(client)[1] == 0)
    await turns()
    assert words_on(blocking.peer.connections[1]) == ["SET before 1", "BLPOP k0 0"]


@pytest.mark.pins("4.19", "P6")
async def test_closing_unblocks_it(blocking, make_client):
    client = await make_client(close_timeout=60).connect()
    task = await start_blocking(blocking, pop_between(client).execute())
    async with asyncio.timeout(2):
        await client.close()
    error = await outcome(task)
    assert isinstance(error, ClientClosedError)
    assert error.replies == (b"OK",)
    assert error.maybe_executed is True


@pytest.mark.pins("P1", "P3")
async def test_cancelled_behind_it_what_it_took_is_reported(blocking, client):
    """Its reply was read, but the pipeline's caller never sees it."""
    events = EventRecord(client)
    blocking.peer.on("GET", None)
    pipe = client.pipeline(transaction=False).blpop("k0", 0).blpop("k1", 0).get("k")
    task = await start_blocking(blocking, pipe.execute())
    blocking.give(resp.null())
    await until(lambda: blocking.waiting)
    blocking.give(ELEMENT)
    await blocking.peer.wait_for_command("GET")
    task.cancel()
    await outcome(task)
    await events.wait_for("reply-orphaned")
    assert events == [("reply-orphaned", ("BLPOP", "k1", 0), [b"k", b"v"])]
    assert client.statistics().orphaned_replies == 1


@pytest.mark.pins("P1", "P3")
async def test_what_takes_nothing_leaves_nothing_behind(blocking, client):
    """The number that WAIT was answered with is no element that somebody could miss."""
    events = EventRecord(client)
    peer = blocking.peer
    peer.on("WAIT", resp.integer(1))
    peer.on("GET", None)
    task = asyncio.create_task(client.pipeline(transaction=False).set("a", 1).wait(1, 100).get("k").execute())
    await peer.wait_for_command("GET")
    task.cancel()
    await outcome(task)
    peer.connections[1].send(resp.null())
    await until(lambda: lease_count(client)[1] == 0)
    assert events == []
    assert client.statistics().orphaned_replies == 0


@pytest.mark.pins("4.14")
async def test_a_server_that_has_become_a_replica_is_left(blocking, client):
    """The refusal is raised; the next pipeline finds another connection."""
    assert await client.set("k", 1) is True
    blocking.peer.on("BLPOP", resp.error("READONLY You can't write against a read only replica."), ELEMENT)
    with pytest.raises(ReadOnlyError):
        await client.pipeline(transaction=False).blpop("k", 0).execute()
    await until(lambda: len(blocking.peer.connections) == 3 and client.is_ready)
    assert await client.pipeline(transaction=False).blpop("k", 0).execute() == [(b"k", b"v")]
    assert [each.connection.number for each in blocking.peer.commands if each.name == "BLPOP"] == [1, 3]
