"""Pipelines as units on the shared lane: DESIGN 4.12."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import BusyLoadingError, DataError

from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectionLostError,
    NotConnectedError,
    QueueFullError,
)
from aioredis_kit.testing import resp
from tests.support.observing import outcome, turns, until

QUEUED = resp.simple("QUEUED")


def words(peer):
    """What was received after the handshakes."""
    handshake = {"HELLO", "CLIENT", "PING", "SELECT", "AUTH"}
    return [tuple(word.decode() for word in each.words) for each in peer.commands if each.name not in handshake]


def chunks(peer, *names):
    """In which reads commands of these names came."""
    return {(each.connection.number, each.chunk) for each in peer.commands if each.name in names}


def filled(client, count=3, *, name="GET", transaction=False):
    """A pipeline with so many commands."""
    pipe = client.pipeline(transaction=transaction)
    for number in range(count):
        pipe.execute_command(name, f"p{number}")
    return pipe


@pytest.mark.pins("4.12", "case-70")
async def test_a_pipeline_is_one_write_and_no_multi(peer, client):
    before = len(peer.commands)
    assert await filled(client, 20).execute() == [f"p{number}".encode() for number in range(20)]
    assert words(peer) == [("GET", f"p{number}") for number in range(20)]
    assert len({each.chunk for each in peer.commands[before:]}) == 1


@pytest.mark.pins("4.12", "case-70")
async def test_an_empty_pipeline_sends_nothing(peer, client):
    before = len(peer.commands)
    assert await client.pipeline(transaction=False).execute() == []
    assert await client.pipeline().execute() == []
    await turns()
    assert len(peer.commands) == before


@pytest.mark.pins("4.12", "case-64")
async def test_a_transaction_is_contiguous(peer, client):
    """Commands of others issued in the same turn come before or after it, never in between."""
    peer.on("MULTI", resp.simple("OK"))
    peer.on("INCR", QUEUED)
    peer.on("EXEC", resp.array(resp.integer(1), resp.integer(2)))
    others = [asyncio.create_task(client.get(f"before{number}")) for number in range(3)]
    blocks = [asyncio.create_task(filled(client, 2, name="INCR", transaction=True).execute()) for _ in range(5)]
    others += [asyncio.create_task(client.get(f"after{number}")) for number in range(3)]
    assert await asyncio.gather(*blocks) == [[1, 2]] * 5
    await asyncio.gather(*others)
    names = [each[0] for each in words(peer)]
    for place, name in enumerate(names):
        if name == "MULTI":
            assert names[place : place + 4] == ["MULTI", "INCR", "INCR", "EXEC"]


@pytest.mark.pins("4.12", "case-66", "4.1")
async def test_a_closed_client(client):
    pipe = filled(client)
    await client.close()
    with pytest.raises(ClientClosedError):
        await pipe.execute()


@pytest.mark.pins("4.6", "4.12")
@pytest.mark.parametrize("transaction", [True, False])
async def test_what_cant_be_encoded_sends_nothing_of_it(peer, client, transaction):
    pipe = client.pipeline(transaction=transaction).get("a")
    pipe.execute_command("SET", "k", object())
    with pytest.raises(DataError):
        await pipe.execute()
    assert await client.get("next") == b"next"
    assert words(peer) == [("GET", "next")]


@pytest.mark.parametrize("name", ["SUBSCRIBE", "MONITOR", "SYNC", "CLIENT REPLY"])
async def test_what_cant_be_sent_on_any_connection(peer, client, name):
    pipe = client.pipeline(transaction=False).get("a")
    pipe.execute_command(name, "x")
    with pytest.raises(ConfigurationError, match=name):
        await pipe.execute()
    assert words(peer) == []


@pytest.mark.pins("4.4", "4.12")
async def test_not_connected_and_no_offline_queue(peer, make_client):
    peer.on("PING", None)
    client = make_client(disable_offline_queue=True)
    with pytest.raises(NotConnectedError):
        await filled(client).execute()


@pytest.mark.pins("4.3", "4.12")
async def test_waiting_for_the_connection_keeps_its_place(peer, make_client):
    client = make_client()
    tasks = [asyncio.create_task(client.get("first")), asyncio.create_task(filled(client).execute())]
    tasks.append(asyncio.create_task(client.get("last")))
    await asyncio.gather(*tasks)
    assert [each[1] for each in words(peer)] == ["first", "p0", "p1", "p2", "last"]


# -- cancelled, timed out, lost -----------------------------------------------------------------------


@pytest.mark.pins("4.7", "4.8", "P1")
@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("delay", range(8))
async def test_cancelling_at_any_turn_shifts_no_reply(peer, client, delay, transaction):
    peer.on("MULTI", resp.simple("OK"))
    peer.on("EXEC", resp.array(*[resp.bulk(f"p{number}") for number in range(3)]))
    before = asyncio.create_task(client.get("before"))
    victim = asyncio.create_task(filled(client, 3, transaction=transaction).execute())
    await turns(delay)
    is_cancelled = victim.cancel()
    assert await asyncio.gather(client.get("x"), client.get("y")) == [b"x", b"y"]
    assert await before == b"before"
    result = await outcome(victim)
    assert isinstance(result, asyncio.CancelledError) if is_cancelled else len(result) == 3


@pytest.mark.pins("4.7", "4.12")
async def test_cancelled_before_it_is_written_nothing_is_sent(peer, make_client):
    peer.on("PING", None)
    client = make_client(connect_timeout=30)
    victim = asyncio.create_task(filled(client).execute())
    kept = asyncio.create_task(client.get("kept"))
    await peer.wait_for_command("PING")
    victim.cancel()
    await turns()
    peer.connections[0].send(resp.simple("PONG"))
    assert await kept == b"kept"
    assert words(peer) == [("GET", "kept")]


@pytest.mark.pins("4.8", "4.12", "P3")
async def test_no_reply_by_the_deadline(peer, make_client):
    client = await make_client(command_timeout=0.05, ping_timeout=10).connect()
    peer.on("PING", None)
    error = await outcome(filled(client, name="SLOW").execute())
    assert isinstance(error, CommandTimeoutError)
    assert error.maybe_executed is True
    assert "PIPELINE" in str(error)


@pytest.mark.pins("4.12")
async def test_the_deadline_starts_anew_with_each_reply(peer, make_client, clock):
    """Each reply takes 4 s, where 5 s are allowed; ten of them take 40."""
    client = await make_client(command_timeout=5, ping_interval=None).connect()
    task = asyncio.create_task(filled(client, 10, name="SLOW").execute())
    for number in range(10):
        await peer.connections[0].expect("SLOW", f"p{number}")
    for number in range(10):
        await asyncio.sleep(4)  # virtual
        peer.connections[0].send(resp.integer(number))
        await turns()
    assert await task == list(range(10))
    assert clock() >= 40


@pytest.mark.pins("4.12", "P3")
async def test_a_reply_that_stays_away_in_the_middle(peer, make_client):
    client = await make_client(command_timeout=0.1, ping_timeout=10).connect()
    peer.on("PING", None)
    task = asyncio.create_task(filled(client, name="SLOW").execute())
    await peer.connections[0].expect("SLOW", "p0")
    peer.connections[0].send(resp.integer(7))
    error = await outcome(task)
    assert isinstance(error, CommandTimeoutError)
    assert error.replies == (7,)


@pytest.mark.pins("4.12", "4.11", "case-50")
@pytest.mark.parametrize(
    ("name", "transaction"),
    [("INCR", False), ("INCR", True), ("TYPE", True)],
    ids=["writes", "transaction", "reads in one"],
)
async def test_written_and_lost(peer, client, name, transaction):
    """Never sent again: it may have been executed. What had been answered is told."""
    peer.on("MULTI", None)
    peer.on("EXEC", None)
    peer.on(name, None)
    task = asyncio.create_task(filled(client, name=name, transaction=transaction).execute())
    await peer.wait_for_command(name, count=3)
    peer.connections[0].send(resp.integer(1))
    await turns()
    peer.connections[0].reset()
    error = await outcome(task)
    assert isinstance(error, ConnectionLostError)
    assert error.maybe_executed is True
    assert error.replies == (1,)
    assert await client.get("next") == b"next"
    assert [each[0] for each in words(peer)].count(name) == 3


@pytest.mark.pins("4.12", "4.11")
async def test_a_pipeline_that_only_reads_is_sent_again_as_a_whole(peer, client):
    held = iter([None] * 3 + [resp.bulk("again")] * 3)
    peer.on("TYPE", lambda _: next(held))
    task = asyncio.create_task(filled(client, name="TYPE").execute())
    await peer.wait_for_command("TYPE", count=3)
    peer.connections[0].send(resp.bulk("once"))
    await turns()
    peer.connections[0].reset()
    assert await task == [b"again"] * 3
    await peer.wait_for_command("TYPE", count=6)


@pytest.mark.pins("4.11", "4.12", "P2")
async def test_sent_again_it_has_the_time_that_its_replies_gave_it(peer, make_client, clock):
    """A reply came after 4 s: by the deadline of before, 5 s, it would end while the client connects again."""
    client = await make_client(command_timeout=5, ping_interval=None, reconnect_strategy=1).connect()
    peer.on("TYPE", None)
    task = asyncio.create_task(filled(client, name="TYPE").execute())
    await peer.wait_for_command("TYPE", count=3)
    await asyncio.sleep(4)  # virtual
    peer.connections[0].send(resp.bulk("once"))
    await asyncio.sleep(0.5)
    peer.on("TYPE", resp.bulk("again"))
    peer.connections[0].close()
    assert await task == [b"again"] * 3
    assert clock() > 5


@pytest.mark.pins("4.10", "4.12", "case-50")
async def test_not_yet_written_it_survives_a_loss(peer, client):
    """Behind a write that has a lost reply, in the same turn: only what was written is in doubt."""
    peer.on("MULTI", resp.simple("OK"))
    peer.on("INCR", QUEUED)
    peer.on("EXEC", resp.array(*[resp.integer(each) for each in range(3)]))
    first = asyncio.create_task(client.execute_command("SLOW"))
    await peer.connections[0].expect("SLOW")
    task = asyncio.create_task(filled(client, name="INCR", transaction=True).execute())
    peer.connections[0].reset()
    assert isinstance(await outcome(first), ConnectionLostError)
    assert await task == [0, 1, 2]


# -- limits -----------------------------------------------------------------------------------------


@pytest.mark.pins("4.12", "P5")
async def test_longer_than_the_queue_it_goes_in_parts(peer, make_client):
    """In order, nothing of others in between, and never more in flight than the queue may hold."""
    client = await make_client(commands_queue_max_length=4, reconnect_strategy=0.0).connect()
    most = 0

    def note(received):
        nonlocal most
        most = max(most, len(client._core.lane.connection.in_flight))
        return resp.bulk(received.words[1])

    peer.on("GET", note)
    before = asyncio.create_task(client.get("before"))
    task = asyncio.create_task(filled(client, 11).execute())
    after = asyncio.create_task(client.get("after"))
    assert await task == [f"p{number}".encode() for number in range(11)]
    assert await asyncio.gather(before, after) == [b"before", b"after"]
    assert [each[1] for each in words(peer)] == ["before", *(f"p{number}" for number in range(11)), "after"]
    assert most <= 4


@pytest.mark.pins("4.12")
async def test_parts_that_wait_for_the_one_before_have_its_time_too(peer, make_client, clock):
    client = await make_client(commands_queue_max_length=2, command_timeout=5, ping_interval=None).connect()
    task = asyncio.create_task(filled(client, 6, name="SLOW").execute())
    for number in range(6):
        await peer.connections[0].expect("SLOW", f"p{number}")
        await asyncio.sleep(4)  # virtual
        peer.connections[0].send(resp.integer(number))
        await turns()
    assert await task == list(range(6))
    assert clock() >= 24


@pytest.mark.pins("4.12", "P5")
async def test_a_long_transaction_is_let_in_whole(peer, make_client):
    client = await make_client(commands_queue_max_length=4).connect()
    peer.on("MULTI", resp.simple("OK"))
    peer.on("INCR", QUEUED)
    peer.on("EXEC", resp.array(*[resp.integer(each) for each in range(10)]))
    assert await filled(client, 10, name="INCR", transaction=True).execute() == list(range(10))
    assert len(chunks(peer, "MULTI", "INCR", "EXEC")) == 1


@pytest.mark.pins("4.5", "4.12")
async def test_a_full_queue_refuses_it(peer, make_client):
    client = await make_client(commands_queue_max_length=4, queue_full="raise").connect()
    held = [asyncio.create_task(client.execute_command("SLOW", number)) for number in range(3)]
    await turns()
    with pytest.raises(QueueFullError):
        await filled(client, 3).execute()
    with pytest.raises(QueueFullError):
        await filled(client, 9).execute()
    for number in range(3):
        await peer.connections[0].expect("SLOW", number)
        peer.connections[0].send(resp.integer(number))
    assert await asyncio.gather(*held) == [0, 1, 2]
    assert await filled(client, 9).execute() == [f"p{number}".encode() for number in range(9)]  # alone


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.pins("4.13", "4.12")
@pytest.mark.parametrize("transaction", [True, False])
async def test_refused_as_a_whole_because_nothing_was_done(peer, client, transaction):
    """A server that loads its data refuses every command: all of it is sent again."""
    loading = resp.error("LOADING Redis is loading the dataset in memory")
    refusals = iter([loading] * 3)
    peer.on("MULTI", loading, resp.simple("OK"))
    peer.on("INCR", lambda _: next(refusals, QUEUED if transaction else resp.integer(5)))
    peer.on("EXEC", resp.error("ERR EXEC without MULTI"), resp.array(*[resp.integer(5)] * 3))
    assert await filled(client, 3, name="INCR", transaction=transaction).execute() == [5, 5, 5]


@pytest.mark.pins("4.13", "4.12")
async def test_some_refused_is_a_result(peer, client):
    peer.on("INCR", resp.integer(1), resp.error("LOADING x"), resp.integer(3))
    results = await filled(client, 3, name="INCR").execute(raise_on_error=False)
    assert results[0] == 1
    assert isinstance(results[1], BusyLoadingError)
    assert results[2] == 3
    assert [each[0] for each in words(peer)].count("INCR") == 3


@pytest.mark.pins("4.14", "4.12")
async def test_readonly_connects_anew_and_sends_a_block_again(peer, client):
    await client.set("k", 1)  # it led to a primary
    peer.on("MULTI", resp.simple("OK"))
    peer.on("INCR", *[resp.error("READONLY You can't write against a read only replica.")] * 2, QUEUED)
    peer.on(
        "EXEC",
        resp.error("EXECABORT Transaction discarded because of previous errors."),
        resp.array(resp.integer(1), resp.integer(2)),
    )
    assert await filled(client, 2, name="INCR", transaction=True).execute() == [1, 2]
    assert len(peer.connections) == 2


@pytest.mark.pins("4.16", "P1")
async def test_invalid_text_is_one_commands_result(peer, make_client):
    client = await make_client(decode_responses=True).connect()
    peer.on("GET", resp.bulk("a"), resp.bulk(b"\xff"), resp.bulk("c"))
    results = await filled(client).execute(raise_on_error=False)
    assert [results[0], results[2]] == ["a", "c"]
    assert isinstance(results[1], UnicodeDecodeError)
    assert await client.execute_command("GET", "x") == "c"


# -- on a connection of its own ---------------------------------------------------------------------


async def test_what_changes_the_connection_gets_one_of_its_own(peer, client):
    """And that connection is reset before somebody else gets it."""
    peer.on("CLIENT", resp.simple("OK"))
    peer.on("RESET", resp.simple("RESET"))
    pipe = client.pipeline(transaction=False).get("a")
    pipe.execute_command("CLIENT TRACKING", "ON").get("b")
    assert await pipe.execute() == [b"a", b"OK", b"b"]
    assert len(peer.connections) == 2
    assert {each.connection.number for each in peer.commands if each.name == "GET"} == {1}
    await peer.wait_for_command("RESET")


async def test_wait_speaks_of_the_same_connections_writes(peer, client):
    peer.on("WAIT", resp.integer(1))
    assert await client.pipeline(transaction=False).set("k", "v").wait(1, 100).execute() == [True, 1]
    assert len({each.connection.number for each in peer.commands if each.name in ("SET", "WAIT")}) == 1


async def test_a_name_given_in_a_pipeline_is_every_connections(peer, make_client):
    client = await make_client(connections=2, reconnect_strategy=0.0).connect()
    pipe = client.pipeline(transaction=False)
    pipe.client_setname("me")
    await pipe.execute()
    names = lambda: [each.connection.number for each in peer.commands if each.words[:2] == (b"CLIENT", b"SETNAME")]  # noqa: E731
    await until(lambda: sorted(names()) == [0, 1])
    peer.connections[0].reset()
    await peer.wait_for_connections(3)
    hello = await until(lambda: [each for each in peer.connections[2].commands if each.name == "HELLO"])
    assert b"me" in hello[0].words
