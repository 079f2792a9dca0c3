"""What happens to one command on a connection that works, and when that connection is lost: DESIGN 4.1 to 4.11."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import DataError

from aioredis_kit.exceptions import ClientClosedError, CommandTimeoutError, ConnectionLostError
from aioredis_kit.testing import FaultProxy, resp
from tests.support.observing import outcome, turns, until


async def held(peer, client, *args):
    """Issue a command that the peer has no rule for; return its task once it has arrived."""
    task = asyncio.create_task(client.execute_command(*args))
    await peer.connections[-1].expect(*args)
    return task


def received(peer, name):
    """The arguments of the commands of one name, in the order of arrival."""
    return [each.words[1:] for each in peer.commands if each.name == name]


# -- every caller gets its own reply ----------------------------------------------------------------


@pytest.mark.pins("P1")
async def test_replies_in_single_bytes(peer, make_client):
    """Split at every byte, from the handshake on, with pushes and attributes in between."""
    noise = resp.push("invalidate", resp.array(resp.bulk("k"))) + b"|1\r\n" + resp.simple("ttl") + resp.integer(3)
    peer.on("ECHO", lambda each: noise + resp.bulk(each.words[1]))
    peer.on("HGETALL", lambda each: resp.mapping({resp.bulk("field"): resp.bulk(each.words[1])}))
    async with FaultProxy(peer.host, peer.port) as proxy:
        proxy.split("to_client")
        client = await make_client(proxy.url, connect_timeout=20).connect()
        echoes = [client.echo(f"value-{number}") for number in range(10)]
        hashes = [client.hgetall(f"hash-{number}") for number in range(10)]
        replies = await asyncio.gather(*echoes, *hashes)
        assert replies[:10] == [f"value-{number}".encode() for number in range(10)]
        assert replies[10:] == [{b"field": f"hash-{number}".encode()} for number in range(10)]
        await client.close()


@pytest.mark.pins("P1", "P2", "4.7", "4.8", "case-43")
@pytest.mark.parametrize("is_first", [True, False], ids=["alone", "behind others"])
@pytest.mark.parametrize("delay", range(8))
async def test_cancelling_at_any_turn_shifts_no_reply(peer, client, delay, is_first):
    """A command cancelled after so many turns of the loop ends cancelled or answered; the next gets its own reply."""
    before = [] if is_first else [asyncio.create_task(client.get(f"before-{number}")) for number in range(3)]
    victim = asyncio.create_task(client.get("victim"))
    await turns(delay)
    is_cancelled = victim.cancel()
    after = await asyncio.gather(*(client.get(f"after-{number}") for number in range(3)))
    assert after == [b"after-0", b"after-1", b"after-2"]
    assert await asyncio.gather(*before) == [f"before-{number}".encode() for number in range(len(before))]
    result = await outcome(victim)
    assert isinstance(result, asyncio.CancelledError) if is_cancelled else result == b"victim"


@pytest.mark.pins("4.7", "case-41")
async def test_a_command_cancelled_before_the_write_is_never_sent(peer, client):
    """What waits for the end of the turn, because another command is in flight, is taken back."""
    first = await held(peer, client, "SLOW", "1")
    victim = asyncio.create_task(client.get("victim"))
    await turns(1)
    victim.cancel()
    peer.connections[0].send(resp.simple("done"))
    assert await first == b"done"
    assert await client.get("next") == b"next"
    assert isinstance(await outcome(victim), asyncio.CancelledError)
    assert received(peer, "GET") == [(b"next",)]


@pytest.mark.pins("4.7", "case-41", "case-42", "P3")
@pytest.mark.parametrize("end", ["cancelled", "deadline"])
async def test_ending_unwritten_while_not_connected(peer, make_client, end):
    """Cancelled or overdue in the offline queue: not executed, and not sent when the connection is there."""
    peer.on("PING", None)  # the handshake does not end
    client = make_client(command_timeout=0.05, connect_timeout=30)
    victim = asyncio.create_task(client.set("victim", 1))
    kept = asyncio.create_task(client.with_options(command_timeout=None).set("kept", 1))
    await peer.wait_for_command("PING")
    if end == "cancelled":
        victim.cancel()
    error = await outcome(victim)
    if end == "deadline":
        assert isinstance(error, CommandTimeoutError)
        assert error.maybe_executed is False
        assert error.diagnosis.state == "connecting"
        assert error.diagnosis.in_flight == 0
        assert error.diagnosis.queued == pytest.approx(0.05, abs=0.1)
        assert "never sent" in str(error)
    else:
        assert isinstance(error, asyncio.CancelledError)
    peer.connections[0].send(resp.simple("PONG"))
    assert await kept is True
    assert received(peer, "SET") == [(b"kept", b"1")]


@pytest.mark.pins("4.8", "P1", "P3", "case-44")
async def test_a_written_command_ends_by_its_deadline(peer, make_client):
    """node-redis lets it wait for ever. Here it ends, maybe executed; its late reply goes to nobody."""
    client = await make_client(command_timeout=0.05, ping_timeout=10).connect()
    peer.on("PING", None)
    victim = await held(peer, client, "SLOW", "1")
    error = await outcome(victim)
    assert isinstance(error, CommandTimeoutError)
    assert error.maybe_executed is True
    assert error.diagnosis.in_flight >= 0.05
    assert (error.diagnosis.bytes_read, error.diagnosis.commands_ahead) == (0, 0)
    await peer.wait_for_command("PING", count=2)  # 4.9: nothing was read since it was written
    following = await held(peer, client.with_options(command_timeout=None), "SLOW", "2")
    peer.connections[0].send(resp.simple("late"), resp.simple("PONG"), resp.simple("own"))
    assert await following == b"own"
    assert len(peer.connections) == 1


@pytest.mark.pins("4.8", "P1")
async def test_the_reply_to_a_cancelled_command_is_read_and_dropped(peer, client):
    """The command after it waits for its own reply."""
    victim = await held(peer, client, "SLOW", "1")
    following = await held(peer, client, "SLOW", "2")
    victim.cancel()
    assert isinstance(await outcome(victim), asyncio.CancelledError)
    peer.connections[0].send(resp.simple("first"))
    await turns()
    assert not following.done()
    peer.connections[0].send(resp.simple("second"))
    assert await following == b"second"


# -- order ------------------------------------------------------------------------------------------


@pytest.mark.pins("P4", "4.3", "4.10")
async def test_commands_arrive_in_the_order_of_issue(peer, make_client):
    """Before the first connection, while it is there, and across a loss that found them unwritten."""
    peer.on("INCR", resp.integer(1))
    client = make_client(reconnect_strategy=0.01)
    numbers = iter(range(1000))
    tasks = []

    async def issue(count):
        tasks.extend(asyncio.create_task(client.execute_command("INCR", next(numbers))) for _ in range(count))
        await turns(2)

    await issue(100)
    await client.connect()
    await issue(100)
    await asyncio.gather(*tasks)
    peer.connections[-1].close()
    await until(lambda: not client.is_ready)
    await issue(100)
    await issue(100)
    await asyncio.gather(*tasks)
    assert received(peer, "INCR") == [(str(number).encode(),) for number in range(400)]


# -- refused at once --------------------------------------------------------------------------------


@pytest.mark.pins("4.1", "case-30")
@pytest.mark.parametrize("end", ["close", "destroy"])
async def test_a_closed_client_takes_no_command(client, peer, end):
    """At once, not executed, whichever way it was closed."""
    if end == "close":
        await client.close()
    else:
        client.destroy()
    with pytest.raises(ClientClosedError) as caught:
        await client.set("k", 1)
    assert caught.value.maybe_executed is False
    assert received(peer, "SET") == []


@pytest.mark.pins("4.6", "case-45")
@pytest.mark.parametrize(
    "argument",
    [None, True, object(), [1], {"a": 1}, "\ud800", 1j],
    ids=["None", "bool", "object", "list", "dict", "surrogate", "complex"],
)
async def test_an_argument_that_can_not_be_encoded(peer, client, argument):
    """The call fails and nothing else is touched: not the connection, not its neighbours, not the order."""
    neighbours = [asyncio.create_task(client.get("a"))]
    await turns(1)
    with pytest.raises(DataError):
        await client.execute_command("SET", "k", argument)
    with pytest.raises(DataError):
        await client.execute_command("SET", argument, "v")
    neighbours.append(asyncio.create_task(client.get("b")))
    assert await asyncio.gather(*neighbours) == [b"a", b"b"]
    assert await client.ping() is True
    assert received(peer, "SET") == []
    assert len(peer.connections) == 1


@pytest.mark.pins("4.6")
@pytest.mark.parametrize("args", [(), (None,), ("",), (" ",), (5,), (b"",)])
async def test_a_command_without_a_name(peer, client, args):
    """It has no name to be sent under."""
    sent = len(peer.commands)
    with pytest.raises(DataError, match="needs a name"):
        await client.execute_command(*args)
    assert len(peer.commands) == sent


# -- the connection is lost -------------------------------------------------------------------------


@pytest.mark.pins("4.10", "4.11", "P3", "case-48")
async def test_a_loss_ends_what_was_written_and_keeps_what_was_not(peer, make_client):
    """Two in flight get `ConnectionLostError`, maybe executed; two queued go out on the next connection, in order."""
    client = await make_client(reconnect_strategy=0.0, commands_queue_max_length=2).connect()
    written = [await held(peer, client, "WRITE", number) for number in range(2)]
    queued = [asyncio.create_task(client.execute_command("WRITE", number)) for number in range(2, 4)]
    await turns()
    peer.on("WRITE", lambda each: resp.bulk(each.words[1]))
    peer.connections[0].close()
    for task in written:
        error = await outcome(task)
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed is True
        assert error.address == f"{peer.host}:{peer.port}"
    assert await asyncio.gather(*queued) == [b"2", b"3"]
    assert received(peer, "WRITE") == [(b"0",), (b"1",), (b"2",), (b"3",)]


@pytest.mark.pins("4.11", "P3", "P4")
@pytest.mark.parametrize(
    ("allowed", "sent_again"),
    [("never", ""), ("read_only", "get"), ("idempotent", "get set")],
)
async def test_what_is_sent_again(peer, make_client, allowed, sent_again):
    """At the head of the queue, in the original order; the rest ends with an unknown outcome. Scripts are writes."""
    client = await make_client(reconnect_strategy=0.0, retry_unanswered=allowed).connect()
    for name in ("GET", "SET", "INCR", "EVAL_RO", "FOO.READ"):
        peer.on(name, None)
    commands = {
        "incr": client.incr("n"),
        "get": client.get("k"),
        "script": client.execute_command("EVAL_RO", "return 1", 0),
        "set": client.set("k", "v"),
        "unknown": client.execute_command("FOO.READ", "k"),
    }
    tasks = {name: asyncio.create_task(command) for name, command in commands.items()}
    await peer.wait_for_command("FOO.READ")
    peer.on("GET", resp.bulk("x"))
    peer.on("SET", resp.simple("OK"))
    peer.connections[0].reset()
    replies = {name: await outcome(task) for name, task in tasks.items()}
    assert {name for name in replies if not isinstance(replies[name], Exception)} == set(sent_again.split())
    for name, error in replies.items():
        if name not in sent_again.split():
            assert isinstance(error, ConnectionLostError)
            assert error.maybe_executed is True
    again = [each.name.lower() for each in peer.commands if each.connection.number == 1][4:]
    assert [name for name in again if name != "ping"] == sent_again.split()


@pytest.mark.pins("4.11", "P4")
async def test_what_is_sent_again_goes_before_what_waited(peer, make_client):
    """The reads that were in flight keep their places ahead of the queue."""
    client = await make_client(reconnect_strategy=0.01, commands_queue_max_length=3).connect()
    peer.on("GET", None)
    tasks = [asyncio.create_task(client.get(str(number))) for number in range(6)]
    await peer.wait_for_command("GET", count=3)
    peer.on("GET", lambda each: resp.bulk(each.words[1]))
    peer.connections[0].close()
    assert await asyncio.gather(*tasks) == [str(number).encode() for number in range(6)]
    assert received(peer, "GET")[3:] == [(str(number).encode(),) for number in range(6)]


@pytest.mark.pins("4.11", "P2", "P3")
@pytest.mark.parametrize("end", ["deadline", "destroy", "close", "given up"])
async def test_a_repeatable_write_that_was_sent_once_is_maybe_executed(peer, make_client, end):
    """Waiting to be sent again it is unwritten on this connection; all the same the server may have run it."""
    answers = iter([0.0 if end == "given up" else 30.0, False])
    client = make_client(
        retry_unanswered="idempotent",
        reconnect_strategy=lambda retries, cause: next(answers),
        command_timeout=0.1 if end == "deadline" else 5,
        ping_interval=None,
    )
    await client.connect()
    peer.on("SET", None)
    task = asyncio.create_task(client.set("k", "v"))
    await peer.wait_for_command("SET")
    peer.on("HELLO", resp.error("ERR go away"))
    peer.connections[0].close()
    if end != "given up":
        await until(lambda: not client.is_ready)
    if end == "destroy":
        client.destroy()
    elif end == "close":
        await client.close()
    error = await outcome(task)
    assert error.maybe_executed is True, repr(error)


@pytest.mark.pins("4.11", "4.8")
async def test_a_read_whose_caller_has_gone_is_not_sent_again(peer, client):
    """Nobody waits for it any more."""
    peer.on("GET", None)
    task = asyncio.create_task(client.get("gone"))
    await peer.wait_for_command("GET")
    task.cancel()
    await outcome(task)
    peer.on("GET", resp.bulk("x"))
    peer.connections[0].close()
    assert await client.get("here") == b"x"
    assert received(peer, "GET") == [(b"gone",), (b"here",)]
