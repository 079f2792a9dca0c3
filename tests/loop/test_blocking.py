"""Blocking commands: each on a connection of its own, and accounted for when its caller has gone."""

from __future__ import annotations

import asyncio

import anyio
import pytest
import redis.exceptions

from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    ConnectionLostError,
    PoolExhaustedError,
)
from aioredis_kit.testing import resp
from tests.support.blocking import BlockingPeer, accounts, dedicated_lane, lease_count, start_blocking, words_on
from tests.support.observing import EventRecord, outcome, turns, until

ELEMENT = resp.array(resp.bulk("k"), resp.bulk("v"))
HOUR = 3600.0


@pytest.fixture
def blocking(peer):
    """A peer that answers blocking commands when asked to."""
    return BlockingPeer(peer)


# -- on connections of their own --------------------------------------------------------------------


@pytest.mark.pins("P4")
async def test_others_are_not_kept_waiting(blocking, client):
    """Each has a connection; the shared one serves on; afterwards the connections are free again."""
    tasks = [await start_blocking(blocking, client.blpop(f"k{number}", 0)) for number in range(5)]
    assert await client.get("k") == b"k"
    for _ in tasks:
        blocking.give(ELEMENT)
    assert await asyncio.gather(*tasks) == [(b"k", b"v")] * 5
    assert accounts(client) == (0, 0, 5, 0)
    task = await start_blocking(blocking, client.blpop("k", 0))
    blocking.give(resp.null())
    assert await task is None
    assert len(blocking.peer.connections) == 6


@pytest.mark.pins("P4")
@pytest.mark.parametrize("kind", ["command", "pipeline"])
async def test_earlier_commands_of_the_same_turn_are_sent_first(blocking, client, kind):
    """They wait for the end of the turn, as something is in flight; its own connection is there, and free."""
    peer = blocking.peer
    peer.on("BLPOP", resp.null())
    await client.blpop("k", 1)
    peer.on("SET", None)
    slow = asyncio.create_task(client.execute_command("SLOW"))
    await peer.wait_for_command("SLOW")
    known = len(peer.commands)
    earlier = client.set("k", 1) if kind == "command" else client.pipeline(transaction=False).set("k", 1).execute()
    tasks = [slow, asyncio.create_task(earlier), asyncio.create_task(client.blpop("k", 1))]
    await until(lambda: len(peer.commands) == known + 2)
    assert [each.name for each in peer.commands[known:]] == ["SET", "BLPOP"]
    peer.connections[0].send(resp.simple("slow"), resp.simple("OK"))
    assert await asyncio.gather(*tasks) == [b"slow", True if kind == "command" else [True], None]


async def test_a_reply_is_decoded_and_shaped_as_any_other(blocking, make_client):
    client = await make_client(decode_responses=True).connect()
    task = await start_blocking(blocking, client.blpop("k", 0))
    blocking.give(resp.array(resp.bulk("k"), resp.bulk("ü")))
    assert await task == ("k", "ü")
    task = await start_blocking(blocking, client.execute_command("blmove", "a", "b", "LEFT", "LEFT", 0))
    blocking.give(resp.bulk(b"\xff"))
    assert isinstance(await outcome(task), UnicodeDecodeError)
    task = await start_blocking(blocking, client.blpop("k", 0))
    blocking.give(resp.error("WRONGTYPE of another kind"))
    error = await outcome(task)
    assert isinstance(error, redis.exceptions.ResponseError)
    assert accounts(client) == (0, 0, 1, 0)


@pytest.mark.pins("4.6")
async def test_what_can_not_be_encoded_takes_no_connection(blocking, client):
    with pytest.raises(redis.exceptions.DataError):
        await client.execute_command("BLPOP", object(), 0)
    assert accounts(client) == (0, 0, 0, 0)


async def test_streams_block_only_if_they_are_asked_to(blocking, client):
    blocking.peer.on("XREAD", resp.null())
    await client.xread({"s": 0})
    assert accounts(client) == (0, 0, 0, 0)
    await client.xread({"s": 0}, block=5)
    assert accounts(client) == (0, 0, 1, 0)


@pytest.mark.pins("4.13")
async def test_a_server_that_does_not_serve_yet_is_asked_again(blocking, client):
    blocking.peer.on("BLPOP", resp.error("LOADING dataset"), resp.error("LOADING dataset"), ELEMENT)
    assert await client.blpop("k", 0) == (b"k", b"v")
    assert accounts(client)[2:] == (1, 0)


READONLY = resp.error("READONLY You can't write against a read only replica.")


@pytest.mark.pins("4.14")
async def test_a_server_that_has_become_a_replica_is_left(blocking, client):
    """The name may lead to a primary again: on a new connection, as the old ones lead to the replica."""
    blocking.peer.on("BLPOP", ELEMENT, READONLY, ELEMENT)
    assert await client.blpop("k", 0) == (b"k", b"v")
    async with client.dedicated() as session:
        await session.get("k")
        old = blocking.peer.connections
        assert await client.blpop("k", 0) == (b"k", b"v")
        assert len(old) == 2  # the shared one and the session's
    assert len(blocking.peer.connections) == 5  # the one that was refused, the new shared one, and the one that took it
    for connection in blocking.peer.connections[:3]:
        await connection.wait_closed()


@pytest.mark.pins("4.14")
async def test_a_replica_from_the_beginning_stays_one(blocking, client):
    blocking.peer.on("BLPOP", READONLY)
    with pytest.raises(redis.exceptions.ReadOnlyError):
        await client.blpop("k", 0)
    assert accounts(client) == (0, 0, 1, 0)


# -- time -------------------------------------------------------------------------------------------


@pytest.mark.pins("P2", "4.8")
async def test_the_deadline_is_the_block_time_and_the_timeout_from_the_write_on(clock, blocking, make_client):
    """Connecting has a time of its own: waiting for a lease takes nothing off."""
    client = await make_client(ping_interval=None, max_dedicated_connections=1, command_timeout=5.0).connect()
    session = await client.dedicated().connect()
    asyncio.get_running_loop().call_later(4, lambda: asyncio.ensure_future(session.close()))
    error = await outcome(client.blpop("k", 20))
    assert clock() == pytest.approx(4 + 20 + 5, abs=0.1)
    assert isinstance(error, CommandTimeoutError)
    assert error.maybe_executed is True
    assert "BLPOP was not answered within 25 s, its block time included" in str(error)
    await until(lambda: lease_count(client)[1] == 0)
    assert accounts(client) == (0, 0, 1, 0)  # it was unblocked, and answered nil


@pytest.mark.pins("P2")
async def test_milliseconds_too(clock, blocking, make_client):
    client = await make_client(ping_interval=None, command_timeout=5.0).connect()
    assert isinstance(await outcome(client.xread({"s": 0}, block=3000)), CommandTimeoutError)
    assert clock() == pytest.approx(8, abs=0.1)


@pytest.mark.pins("P2")
async def test_block_time_0_has_no_deadline(clock, blocking, make_client):
    client = await make_client(ping_interval=None).connect()
    task = await start_blocking(blocking, client.blpop("k", 0))
    await asyncio.sleep(10 * HOUR)
    assert not task.done()
    blocking.give(ELEMENT)
    assert await task == (b"k", b"v")


@pytest.mark.pins("4.8")
async def test_without_a_command_timeout_there_is_no_deadline(clock, blocking, make_client):
    client = await make_client(ping_interval=None, command_timeout=None).connect()
    task = await start_blocking(blocking, client.blpop("k", 1))
    await asyncio.sleep(HOUR)
    assert not task.done()
    blocking.give(resp.null())
    assert await task is None


@pytest.mark.pins("4.9")
async def test_a_blocked_connection_is_not_pinged(clock, blocking, make_client):
    """It can't answer. The shared one is pinged all the time; the lease again when it is free."""
    client = await make_client(ping_interval=10, ping_timeout=2).connect()
    task = await start_blocking(blocking, client.blpop("k", 0))
    await asyncio.sleep(300)  # of virtual time: 30 intervals
    assert words_on(blocking.peer.connections[1], handshakes=True).count("PING") == 1  # of the handshake
    assert words_on(blocking.peer.connections[0], handshakes=True).count("PING") > 25
    blocking.give(ELEMENT)
    assert await task == (b"k", b"v")
    await asyncio.sleep(21)  # of virtual time: two intervals
    assert words_on(blocking.peer.connections[1], handshakes=True).count("PING") > 1


@pytest.mark.pins("P2")
async def test_waiting_for_a_connection_is_bounded_by_the_timeout_alone(clock, blocking, make_client):
    client = await make_client(ping_interval=None, max_dedicated_connections=1).connect()
    task = await start_blocking(blocking, client.blpop("k", 0))
    assert isinstance(await outcome(client.blpop("k", 1000)), PoolExhaustedError)
    assert clock() == pytest.approx(5, abs=0.1)
    blocking.give(ELEMENT)
    await task


# -- callers who have gone --------------------------------------------------------------------------


@pytest.mark.pins("P1", "P2", "4.8")
@pytest.mark.parametrize("way", ["cancel", "timeout", "anyio"])
async def test_it_is_unblocked_and_its_connection_used_again(blocking, client, way):
    """The caller goes on at once; nil says that nothing was taken."""
    if way == "cancel":
        task = await start_blocking(blocking, client.blpop("k", 0))
        task.cancel()
        assert isinstance(await outcome(task), asyncio.CancelledError)
    elif way == "timeout":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.blpop("k", 0), 0.02)
    else:
        with anyio.move_on_after(0.02) as scope:
            await client.blpop("k", 0)
        assert scope.cancelled_caught
    await until(lambda: lease_count(client)[1] == 0)
    assert accounts(client) == (0, 0, 1, 0)
    assert words_on(blocking.peer.connections[0])[-1] == "CLIENT UNBLOCK 2"
    task = await start_blocking(blocking, client.blpop("k", 0))
    blocking.give(ELEMENT)
    assert await task == (b"k", b"v")
    assert len(blocking.peer.connections) == 2


@pytest.mark.pins("P1", "P3")
async def test_an_element_that_comes_all_the_same_is_reported(blocking, client):
    """With the command, and before any response callback; the connection is used again."""
    events = EventRecord(client)
    blocking.peer.on("CLIENT UNBLOCK", resp.integer(0))
    task = await start_blocking(blocking, client.blpop("k", 0))
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    blocking.give(ELEMENT)
    await events.wait_for("reply-orphaned")
    assert events == [("reply-orphaned", ("BLPOP", "k", 0), [b"k", b"v"])]
    await until(lambda: lease_count(client)[1] == 0)
    assert accounts(client) == (1, 0, 1, 0)


@pytest.mark.pins("P1", "P3")
@pytest.mark.parametrize("first", ["cancel", "reply"])
async def test_a_reply_and_a_cancellation_in_one_turn_are_reported_once(blocking, client, monkeypatch, first):
    """Whichever comes first. The cancellation comes when the reply was read, before or after that is told."""
    events = EventRecord(client)
    loop = asyncio.get_running_loop()
    task = await start_blocking(blocking, client.blpop("k", 0))
    (lease,) = dedicated_lane(client)._lent
    monkeypatch.setattr(
        *(lease.link, "answered", (lambda: task.cancel()) if first == "cancel" else lambda: loop.call_soon(task.cancel))
    )
    lease.link.connection.tell_answers(wanted=True)
    blocking.give(ELEMENT)
    assert isinstance(await outcome(task), asyncio.CancelledError)
    await until(lambda: lease_count(client)[1] == 0)
    await turns()
    assert events == [("reply-orphaned", ("BLPOP", "k", 0), [b"k", b"v"])]
    assert accounts(client) == (1, 0, 1, 0)


@pytest.mark.pins("P1")
async def test_answered_0_it_is_repeated(blocking, client):
    """The server did not block the connection yet, or had just ended that."""
    answers = [0, 0, 0, 0, 1]

    def unblock(received):
        answer = answers.pop(0)
        if answer:
            blocking.give(resp.null())
        return resp.integer(answer)

    blocking.peer.on("CLIENT UNBLOCK", unblock)
    task = await start_blocking(blocking, client.blpop("k", 0))
    task.cancel()
    await outcome(task)
    await until(lambda: lease_count(client)[1] == 0)
    assert answers == []
    assert accounts(client) == (0, 0, 1, 0)


@pytest.mark.pins("P3", "P5")
@pytest.mark.parametrize("answer", [resp.error("NOPERM no right to"), None, resp.integer(0), resp.integer(1)], ids=str)
async def test_one_that_can_not_be_unblocked_is_closed_and_counted(clock, blocking, make_client, answer):
    """At once where there is no right to, else after 1 s. What the server gave it meanwhile nobody knows."""
    client = await make_client(ping_interval=None, max_dedicated_connections=1).connect()
    events = EventRecord(client)
    blocking.peer.on("CLIENT UNBLOCK", answer)
    task = await start_blocking(blocking, client.blpop("k", 0))
    began = clock()
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    assert clock() - began < 0.01
    await blocking.peer.connections[1].wait_closed(timeout=HOUR)
    await until(lambda: client.statistics().unknown_outcomes)
    assert clock() - began == pytest.approx(0.0 if b"NOPERM" in (answer or b"") else 1.0, abs=0.1)
    assert accounts(client) == (0, 1, 0, 0)
    assert events == []
    blocking.peer.on("BLPOP", ELEMENT)
    assert await client.blpop("k", 0) == (b"k", b"v")


@pytest.mark.pins("P3")
async def test_a_server_that_does_not_tell_the_connections_number(blocking, make_client):
    """Then it can't be unblocked either."""
    blocking.peer.on("HELLO", resp.error("NOPROTO"))
    blocking.peer.on("CLIENT ID", resp.error("NOPERM no right to"))
    client = await make_client().connect()
    task = await start_blocking(blocking, client.blpop("k", 0))
    task.cancel()
    await until(lambda: client.statistics().unknown_outcomes == 1)
    assert lease_count(client) == (0, 0)


@pytest.mark.pins("P1")
async def test_in_resp2_as_well(blocking, make_client):
    blocking.peer.on("HELLO", resp.error("NOPROTO"))
    blocking.peer.on("CLIENT ID", lambda received: resp.integer(received.connection.number + 1))
    client = await make_client().connect()
    task = await start_blocking(blocking, client.blpop("k", 0))
    task.cancel()
    await until(lambda: lease_count(client) == (1, 0))
    assert blocking.unblocks == [1]


@pytest.mark.pins("P3")
async def test_lost_while_it_is_being_unblocked(blocking, client):
    """Nobody knows: counted, and nothing is lent that was lost."""
    blocking.peer.on("CLIENT UNBLOCK", lambda _: blocking.peer.connections[1].close())
    task = await start_blocking(blocking, client.blpop("k", 0))
    task.cancel()
    await until(lambda: client.statistics().unknown_outcomes == 1)
    await until(lambda: lease_count(client) == (0, 0))


@pytest.mark.pins("P1", "P3")
async def test_the_shared_connection_is_lost_while_it_unblocks(blocking, make_client):
    """It is asked again on the next one. As the lost one may still be on its way, the connection is not used again."""
    client = await make_client(reconnect_strategy=0.01).connect()
    events = EventRecord(client)
    task = await start_blocking(blocking, client.blpop("k", 0))
    lost = []

    def unblock(received):
        if not lost:
            lost.append(received)
            received.connection.close()
            return None
        return blocking._unblock(received)

    blocking.peer.on("CLIENT UNBLOCK", unblock)
    task.cancel()
    await events.wait_for("ready")
    await until(lambda: lease_count(client) == (0, 0))
    assert blocking.unblocks == [1]
    assert accounts(client) == (0, 0, 0, 0)


@pytest.mark.pins("P1")
async def test_an_unblock_that_is_late_does_not_end_the_next_command(blocking, client):
    """The element came first: the connection is lent again only when the answer to UNBLOCK is there as well."""
    unblocks = []
    blocking.peer.on("CLIENT UNBLOCK", unblocks.append)
    task = await start_blocking(blocking, client.blpop("k", 0))
    task.cancel()
    await until(lambda: unblocks)
    blocking.give(ELEMENT)
    await until(lambda: client.statistics().orphaned_replies)
    await turns()
    assert lease_count(client) == (1, 1)
    blocking.peer.connections[0].send(resp.integer(0))
    await until(lambda: lease_count(client) == (1, 0))
    assert client.statistics().unknown_outcomes == 0


@pytest.mark.pins("P5")
async def test_cancelled_many_times_with_a_limit_of_three(blocking, make_client):
    """The first of the four failures of peers.md: no slot is ever lost."""
    client = await make_client(max_dedicated_connections=3).connect()
    for number in range(100):
        tasks = [asyncio.create_task(client.blpop("k", 0)) for _ in range(3)]
        await turns(number % 25)
        for task in tasks:
            task.cancel()
        for task in tasks:
            assert isinstance(await outcome(task), asyncio.CancelledError)
    await until(lambda: lease_count(client)[1] == 0)
    assert await client.get("k") == b"k"
    tasks = [await start_blocking(blocking, client.blpop("k", 0)) for _ in range(3)]
    for _ in tasks:
        blocking.give(ELEMENT)
    assert await asyncio.gather(*tasks) == [(b"k", b"v")] * 3
    assert client.statistics().unknown_outcomes == 0
    assert lease_count(client) == (3, 0)


# -- lost connections -------------------------------------------------------------------------------


@pytest.mark.pins("P3", "4.11")
async def test_one_that_takes_something_is_not_sent_again(blocking, client):
    task = await start_blocking(blocking, client.blpop("k", 0))
    blocking.peer.connections[1].close()
    error = await outcome(task)
    assert isinstance(error, ConnectionLostError)
    assert error.maybe_executed is True
    assert lease_count(client) == (0, 0)
    assert client.statistics().unknown_outcomes == 0  # its caller knows


@pytest.mark.pins("4.11")
async def test_one_that_reads_waits_for_the_rest_of_its_time(clock, blocking, make_client):
    """On another connection, and with a whole ``command_timeout`` for that."""
    client = await make_client(ping_interval=None).connect()
    task = await start_blocking(blocking, client.xread({"s": "1-1"}, block=10_000))
    await asyncio.sleep(6)  # longer than ``command_timeout``
    blocking.peer.connections[1].close()
    await blocking.peer.wait_for_command("XREAD", count=2)
    first, second = (each.words for each in blocking.peer.commands if each.name == "XREAD")
    assert first == (b"XREAD", b"BLOCK", b"10000", b"STREAMS", b"s", b"1-1")
    assert (second[:2], second[3:]) == (first[:2], first[3:])
    assert 3900 <= int(second[2]) <= 4000
    error = await outcome(task)
    assert isinstance(error, CommandTimeoutError)
    assert clock() == pytest.approx(10 + 5, abs=0.2)


@pytest.mark.pins("4.11", "P1")
@pytest.mark.parametrize(
    ("streams", "options", "is_repeated"),
    [
        ({"s": "0"}, {}, True),
        ({"s": "0"}, {"retry_unanswered": "idempotent"}, True),
        ({"s": "0"}, {"retry_unanswered": "never"}, False),
        ({"s": "$"}, {}, False),
        ({"s": "0", "t": "$"}, {}, False),
    ],
    ids=str,
)
async def test_what_may_be_missed_is_not_asked_for_again(blocking, make_client, streams, options, is_repeated):
    """``$`` is another place the second time."""
    client = await make_client(**options).connect()
    task = await start_blocking(blocking, client.xread(streams, block=0))
    blocking.blocked.clear()
    blocking.peer.connections[1].close()
    if is_repeated:
        await until(lambda: blocking.waiting)
        blocking.give(resp.null())
        assert await task == []
    else:
        error = await outcome(task)
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed is True
        assert not blocking.waiting


@pytest.mark.pins("P1", "4.11", "case-36")
async def test_it_is_repeated_in_the_database_that_it_was_issued_for(blocking, make_client):
    client = await make_client(db=2).connect()
    task = await start_blocking(blocking, client.xread({"s": "0"}, block=0))
    await client.select(3)
    blocking.blocked.clear()
    blocking.peer.connections[1].close()
    await until(lambda: blocking.waiting)
    again = blocking.waiting[0].connection
    assert words_on(again) == ["SELECT 2", "XREAD BLOCK 0 STREAMS s 0"]
    blocking.give(resp.null())
    await task
    assert lease_count(client) == (0, 0)  # nobody else wants that database


@pytest.mark.pins("4.10")
async def test_one_whose_connection_was_closed_before_the_write_goes_over_another(blocking, client):
    """The transport knows it, and nobody was told yet: nothing was written."""
    task = await start_blocking(blocking, client.blpop("k", 0))
    (lease,) = dedicated_lane(client)._leases
    blocking.give(ELEMENT)
    await task
    task = asyncio.create_task(client.blpop("k", 0))
    lease.link.connection._transport.close()
    await until(lambda: blocking.waiting)
    assert len(blocking.peer.connections) == 3
    blocking.give(ELEMENT)
    assert await task == (b"k", b"v")


# -- ending -----------------------------------------------------------------------------------------


@pytest.mark.pins("4.19", "P6")
async def test_closing_unblocks_first(blocking, make_client):
    """It does not wait for ``close_timeout``; nothing was taken, so the callers hear that the client was closed."""
    client = await make_client(close_timeout=60).connect()
    tasks = [await start_blocking(blocking, client.blpop("k", 0)) for _ in range(3)]
    async with asyncio.timeout(2):
        await client.close()
    for task in tasks:
        assert isinstance(await outcome(task), ClientClosedError)
    assert blocking.unblocks == [1, 1, 1]


@pytest.mark.pins("4.19", "P1")
async def test_an_element_that_comes_while_closing_is_delivered(blocking, make_client):
    client = await make_client().connect()
    blocking.peer.on("CLIENT UNBLOCK", lambda _: (blocking.give(ELEMENT), resp.integer(0))[1])
    task = await start_blocking(blocking, client.blpop("k", 0))
    await client.close()
    assert await task == (b"k", b"v")


@pytest.mark.pins("4.19", "P2", "P3")
async def test_closing_ends_although_nothing_can_be_unblocked(clock, blocking, make_client):
    client = await make_client(close_timeout=60, ping_interval=None).connect()
    blocking.peer.on("CLIENT UNBLOCK", None)
    task = await start_blocking(blocking, client.blpop("k", 0))
    closing = asyncio.create_task(client.close())
    error = await outcome(task)
    assert isinstance(error, ConnectionLostError)
    assert error.maybe_executed is True
    client.destroy()  # the answer to UNBLOCK itself is still due
    await closing
    assert clock() == pytest.approx(1, abs=0.1)


@pytest.mark.pins("4.20", "P2")
async def test_destroying_ends_it(blocking, make_client):
    client = await make_client().connect()
    task = await start_blocking(blocking, client.blpop("k", 0))
    gone = await start_blocking(blocking, client.blpop("k", 0))
    blocking.peer.on("CLIENT UNBLOCK", None)
    gone.cancel()
    await blocking.peer.wait_for_command("CLIENT UNBLOCK")
    client.destroy()
    error = await outcome(task)
    assert isinstance(error, ClientClosedError)
    assert error.maybe_executed is True
