"""Whose a watch is, and what ends it: the pipelines and the user of one session, and a connection that is lost."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import WatchError

from aioredis_kit.exceptions import ConnectionLostError
from aioredis_kit.testing import resp
from tests.support.blocking import lease_count, words_on
from tests.support.observing import outcome, sockets_to, turns, until

MOMENTS = ["before a read", "before exec"]


async def finish(pipe, moment="before exec"):
    """Go on with a pipeline that watches: what comes of a read, or of a transaction."""
    if moment == "before a read":
        return await outcome(pipe.get("k"))
    pipe.multi()
    pipe.incr("k")
    return await outcome(pipe.execute())


async def lose(peer):
    """Lose the connection that was opened last, and wait until the client knows."""
    known = len(sockets_to(peer.port))
    peer.connections[-1].close()
    await until(lambda: len(sockets_to(peer.port)) < known, "the loss")


def close_at_first(answer):
    """A rule: the connection is closed at the first command, and the next ones are answered."""
    seen = []

    def rule(received):
        seen.append(received)
        return received.connection.close() if len(seen) == 1 else answer

    return rule


# -- several on one session -------------------------------------------------------------------------


@pytest.mark.pins("P1")
@pytest.mark.parametrize("moment", MOMENTS)
async def test_one_that_ends_its_watch_ends_that_of_the_other(transactional, client, moment):
    """UNWATCH lets go of all keys of a connection: the other must not go on as if it still watched."""
    async with client.dedicated() as session:
        first, second = session.pipeline(), session.pipeline()
        await first.watch("a")
        await second.watch("b")
        await second.reset()
        assert isinstance(await finish(first, moment), WatchError)
        await first.watch("a")
        assert await finish(first) == [1]
    assert words_on(transactional.connections[1])[:4] == ["WATCH a", "WATCH b", "UNWATCH", "WATCH a"]
    assert words_on(transactional.connections[1]).count("EXEC") == 1


@pytest.mark.pins("P1")
async def test_concurrent_transactions(transactional, client):
    """EXEC of one ends the watches of all others, who try again: none is executed with a watch that has ended."""
    async with client.dedicated() as session:

        async def transfer(pipe):
            await pipe.get("k")
            pipe.multi()
            pipe.incr("k")

        assert await asyncio.gather(*(session.transaction(transfer, "k") for _ in range(5))) == [[1]] * 5
    watching = False
    for words in words_on(transactional.connections[1]):
        assert words != "MULTI" or watching
        watching = words.startswith("WATCH") or (watching and words not in ("EXEC", "UNWATCH"))
    assert words_on(transactional.connections[1]).count("EXEC") == 5


@pytest.mark.pins("P1")
async def test_a_late_reset_ends_no_watch_that_began_afterwards(transactional, client):
    async with client.dedicated() as session:
        first, second = session.pipeline(), session.pipeline()
        await first.watch("a")
        await session.execute_command("UNWATCH")
        await second.watch("b")
        await first.reset()
        assert await finish(second) == [1]
    assert words_on(transactional.connections[1]).count("UNWATCH") == 1


@pytest.mark.pins("P1")
@pytest.mark.parametrize("kind", ["blocking", "other"])
async def test_a_pipeline_leaves_the_watch_of_the_sessions_user(transactional, client, kind):
    """Although it is one that would have a connection to itself on a client."""
    transactional.on("BLPOP", resp.null())
    transactional.on("CLIENT NO-EVICT", resp.simple("OK"))
    async with client.dedicated() as session:
        await session.execute_command("WATCH", "k")
        pipe = session.pipeline(transaction=False)
        assert await (pipe.blpop("x", 1) if kind == "blocking" else pipe.client_no_evict("ON")).execute()
        assert "UNWATCH" not in words_on(transactional.connections[1])


async def test_one_that_is_given_up_gives_the_connection_back(transactional, client):
    pipe = client.pipeline()
    await pipe.watch("k")
    assert lease_count(client) == (1, 1)
    await pipe.unwatch()
    assert lease_count(client) == (1, 0)
    await pipe.watch("k")
    assert await finish(pipe) == [1]


async def test_nothing_was_asked_for_while_keys_were_watched(transactional, client):
    """The pipeline is empty, and the watch ends with it."""
    pipe = client.pipeline(transaction=False)
    await pipe.watch("k")
    assert await pipe.execute() == []
    assert words_on(transactional.connections[1])[:2] in (["WATCH k"], ["WATCH k", "RESET"])
    await until(lambda: lease_count(client)[1] == 0)


# -- a connection that is lost ----------------------------------------------------------------------


@pytest.mark.pins("case-68", "P1")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["client()", "single connection"])
async def test_a_session_that_goes_on_on_another_connection_does_not_watch_there(
    transactional, make_client, kind, moment
):
    client = await make_client(single_connection_client=kind != "client()", reconnect_strategy=0.0).connect()
    session = client.client() if kind == "client()" else client
    pipe = session.pipeline()
    await pipe.watch("k")
    await lose(transactional)
    assert isinstance(await finish(pipe, moment), WatchError)
    await pipe.watch("k")
    assert await finish(pipe) == [1]
    assert [words_on(each) for each in transactional.connections[1:]] == [
        ["WATCH k"],
        ["WATCH k", "MULTI", "INCRBY k 1", "EXEC"],
    ]
    await session.close()


@pytest.mark.pins("case-68")
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_session_that_was_lost(transactional, client, moment):
    """To its pipeline the watch was lost, once; then the session is."""
    async with client.dedicated() as session:
        pipe = session.pipeline()
        await pipe.watch("k")
        await lose(transactional)
        assert isinstance(await finish(pipe, moment), WatchError)
        assert isinstance(await outcome(pipe.watch("k")), ConnectionLostError)
        assert isinstance(await outcome(session.get("k")), ConnectionLostError)


@pytest.mark.pins("case-68")
async def test_the_first_watch_was_lost_on_the_way(transactional, client):
    """Nothing is watched, and the pipeline can be used again, on another connection."""
    transactional.on("WATCH", close_at_first(resp.simple("OK")))
    pipe = client.pipeline()
    assert isinstance(await outcome(pipe.watch("k")), WatchError)
    await pipe.watch("k")
    assert await finish(pipe) == [1]
    assert words_on(transactional.connections[1]) == ["WATCH k"]


@pytest.mark.pins("case-68")
async def test_the_loop_tries_again_when_the_first_watch_was_lost_on_the_way(transactional, client):
    transactional.on("WATCH", close_at_first(resp.simple("OK")))
    calls = []

    def transfer(pipe):
        calls.append(pipe)
        pipe.multi()
        pipe.incr("k")

    assert await client.transaction(transfer, "k") == [1]
    assert len(calls) == 1


async def test_on_a_session_the_first_watch_is_lost_as_any_command(transactional, client):
    """The session is the user's, and it is gone: trying again would not help."""
    transactional.on("WATCH", close_at_first(resp.simple("OK")))
    async with client.dedicated() as session:
        error = await outcome(session.transaction(lambda pipe: pipe.multi(), "k"))
    assert isinstance(error, ConnectionLostError)
    assert error.maybe_executed is True
    await turns()
    assert [each.name for each in transactional.commands].count("WATCH") == 1
