"""What the server may answer instead of a value, and what comes in that is no answer: DESIGN 4.13 to 4.17."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from aioredis_kit import ClientState
from aioredis_kit.exceptions import (
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    KitError,
    ReplyProtocolError,
)
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, turns, until

HOUR = 3600.0
READONLY = resp.error("READONLY You can't write against a read only replica.")


def count(peer, name):
    """How often a command came in."""
    return sum(each.name == name for each in peer.commands)


# -- 4.13: the server says that it did nothing ------------------------------------------------------


@pytest.mark.pins("4.13")
@pytest.mark.parametrize("code", ["LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"])
async def test_what_was_not_done_is_tried_again(peer, clock, make_client, code):
    """A write too, with growing pauses, on the same connection."""
    client = await make_client().connect()
    peer.on("INCR", *[resp.error(f"{code} not now")] * 4, resp.integer(7))
    assert await client.execute_command("INCR", "n") == 7
    assert count(peer, "INCR") == 5
    assert 0.3 < clock() < 1
    assert len(peer.connections) == 1


@pytest.mark.pins("4.13", "P2")
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("LOADING", BusyLoadingError),
        ("TRYAGAIN", TryAgainError),
        ("CLUSTERDOWN", ClusterDownError),
        ("MASTERDOWN", ResponseError),
    ],
)
async def test_what_is_never_done_ends_with_the_servers_word(peer, clock, make_client, code, kind):
    """By the deadline, with the last error, unchanged."""
    client = await make_client(command_timeout=2).connect()
    numbers = iter(range(100))
    peer.on("INCR", lambda _: resp.error(f"{code} attempt {next(numbers)}"))
    error = await outcome(client.execute_command("INCR", "n"))
    assert isinstance(error, kind)
    assert not isinstance(error, KitError)
    assert f"attempt {count(peer, 'INCR') - 1}" in str(error)
    assert count(peer, "INCR") > 4
    assert 1 < clock() <= 2.05


@pytest.mark.pins("4.13", "4.7")
async def test_cancelled_between_two_tries(peer, clock, make_client):
    """It is not sent again."""
    client = await make_client().connect()
    peer.on("INCR", resp.error("LOADING not now"))
    task = asyncio.create_task(client.execute_command("INCR", "n"))
    await peer.wait_for_command("INCR", count=2)
    task.cancel()
    assert isinstance(await outcome(task), asyncio.CancelledError)
    sent = count(peer, "INCR")
    await asyncio.sleep(10)
    assert count(peer, "INCR") == sent


@pytest.mark.pins("4.13", "4.19", "4.20", "4.21", "P2")
@pytest.mark.parametrize("end", ["close", "aclose", "destroy", "lost"])
async def test_the_client_ends_between_two_tries(peer, clock, make_client, end):
    """The command ends with it, at its next try at the latest; after a mere loss it goes on."""
    client = await make_client(reconnect_strategy=0.0, command_timeout=60).connect()
    peer.on("INCR", resp.error("LOADING not now"))
    task = asyncio.create_task(client.execute_command("INCR", "n"))
    await peer.wait_for_command("INCR", count=4)
    await turns()
    begun = clock()
    if end == "destroy":
        client.destroy()
    elif end == "lost":
        peer.on("INCR", resp.integer(1))
        peer.connections[0].close()
        assert await task == 1
        return
    else:
        await getattr(client, end)()
    result = await outcome(task)
    assert isinstance(result, BusyLoadingError | ClientClosedError)
    assert clock() - begun <= 0.6
    assert not client.is_open


@pytest.mark.pins("4.13", "4.4")
async def test_between_two_tries_the_connection_is_lost_and_there_is_no_offline_queue(peer, clock, make_client):
    """There is nowhere to send it: what is raised is what the server said last."""
    client = await make_client(disable_offline_queue=True, reconnect_strategy=HOUR).connect()
    peer.on("INCR", resp.error("LOADING not now"))
    task = asyncio.create_task(client.execute_command("INCR", "n"))
    await peer.wait_for_command("INCR")
    await turns()
    peer.connections[0].close()
    assert isinstance(await outcome(task), BusyLoadingError)
    assert clock() < 1
    assert count(peer, "INCR") == 1


# -- 4.14: the primary became a replica -------------------------------------------------------------


@pytest.mark.pins("4.14")
async def test_read_only_where_nothing_was_ever_written(peer, client):
    """The address is that of a replica: the error is raised, the connection kept."""
    peer.on("SET", READONLY)
    with pytest.raises(ReadOnlyError):
        await client.set("k", 1)
    assert await client.get("k") == b"k"
    assert len(peer.connections) == 1


@pytest.mark.pins("4.14", "P1")
async def test_read_only_lets_the_others_have_their_replies_first(peer, client):
    """What is in flight is answered on the old connection; what comes in meanwhile waits for the new one."""
    assert await client.set("k", 1) is True
    old = peer.connections[0]
    commands = [("SLOW", 1), ("MSET", "k", 2), ("SLOW", 2)]
    tasks = [asyncio.create_task(client.execute_command(*args)) for args in commands]
    for args in commands:
        await old.expect(*args)
    old.send(resp.simple("first"), READONLY)
    assert await tasks[0] == b"first"
    waiting = asyncio.create_task(client.get("k"))
    await turns()
    assert not client.is_ready
    assert len(peer.connections) == 1
    peer.on("MSET", resp.simple("OK"))
    old.send(resp.simple("second"))
    assert await tasks[2] == b"second"
    assert await tasks[1] is True
    assert await waiting == b"k"
    assert {each.connection.number for each in peer.commands[-2:]} == {1}


@pytest.mark.pins("4.14")
@pytest.mark.parametrize("reopened", [False, True], ids=["first life", "opened again"])
async def test_read_only_goes_on_at_the_new_primary(peer, client, reopened):
    """Also for a client that was closed and opened again in between, and has written since."""
    assert await client.set("k", 1) is True
    if reopened:
        await client.close()
        await client.connect()
        assert await client.set("k", 1) is True
    before = len(peer.connections)
    peer.on("SET", READONLY, resp.simple("OK"))
    assert await client.set("k", 2) is True
    assert len(peer.connections) == before + 1
    assert [each.connection.number for each in peer.commands if each.name == "SET"][-2:] == [before - 1, before]


@pytest.mark.pins("4.14", "P2")
async def test_read_only_for_ever(peer, clock, make_client):
    """By its deadline the command ends with the server's word; reads are served all the time."""
    client = await make_client(reconnect_strategy=0.5, command_timeout=5).connect()
    assert await client.set("k", 1) is True
    peer.on("SET", READONLY)
    task = asyncio.create_task(client.set("k", 2))
    while not task.done():
        assert await client.get("k") == b"k"
        await asyncio.sleep(0.3)
    assert isinstance(await outcome(task), ReadOnlyError)
    assert clock() <= 5.5
    assert 3 <= len(peer.connections) <= 12


@pytest.mark.pins("4.14", "4.18", "P2")
async def test_read_only_with_a_strategy_that_gives_up(peer, make_client):
    """There is no other connection to be had: the command ends, and so does the client."""
    client = await make_client(reconnect_strategy=False).connect()
    assert await client.set("k", 1) is True
    peer.on("SET", READONLY)
    error = await outcome(client.set("k", 2))
    assert isinstance(error, ReadOnlyError | ConnectError | ClientClosedError)
    await until(lambda: client.state is ClientState.TERMINATED)


# -- 4.15: any other error reply --------------------------------------------------------------------


@pytest.mark.pins("4.15")
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ERR no such thing", ResponseError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", ResponseError),
        ("NOPERM this user has no permissions", NoPermissionError),
        ("OOM command not allowed when used memory > 'maxmemory'.", OutOfMemoryError),
        ("MOVED", ResponseError),
        ("ASK x", ResponseError),
        ("", ResponseError),
        ("lower case", ResponseError),
    ],
)
async def test_an_error_reply_is_redis_pys_exception(peer, client, text, kind):
    """Not wrapped, whatever its text; the connection goes on."""
    peer.on("GET", resp.error(text), resp.bulk("x"))
    error = await outcome(client.get("k"))
    assert isinstance(error, kind)
    assert not isinstance(error, KitError)
    assert await client.get("k") == b"x"
    assert len(peer.connections) == 1


@pytest.mark.pins("4.15", "4.16", "P1")
@pytest.mark.parametrize("decode_responses", [False, True])
async def test_an_error_reply_with_invalid_text(peer, make_client, decode_responses):
    """It is an error reply all the same, alone or inside an array, and the connection goes on."""
    client = await make_client(decode_responses=decode_responses).connect()
    peer.on("GET", b"-ERR \xff\xfe\r\n", b"*2\r\n-ERR \xff\r\n:1\r\n", resp.bulk("x"))
    replies = await asyncio.gather(*(client.get("k") for _ in range(3)), return_exceptions=True)
    assert isinstance(replies[0], ResponseError)
    assert isinstance(replies[1][0], ResponseError)
    assert replies[2] in {b"x", "x"}
    assert len(peer.connections) == 1


# -- 4.16: text that is none ------------------------------------------------------------------------


@pytest.mark.pins("4.16", "P1")
async def test_invalid_text_ends_its_command_alone(peer, make_client):
    """In a bulk string, inside an array, in the middle of a batch."""
    client = await make_client(decode_responses=True).connect()
    bad = b"\xff\xfe"
    answers = [
        resp.bulk("a"),
        resp.bulk(bad),
        resp.bulk("b"),
        resp.array(resp.bulk("x"), resp.bulk(bad)),
        resp.bulk("c"),
    ]
    peer.on("GET", *answers)
    replies = await asyncio.gather(*(client.get(str(n)) for n in range(5)), return_exceptions=True)
    assert [replies[0], replies[2], replies[4]] == ["a", "b", "c"]
    assert isinstance(replies[1], UnicodeDecodeError)
    assert isinstance(replies[3], UnicodeDecodeError)
    raw = client.with_options(decode_responses=False)
    peer.on("GET", resp.bulk(bad))
    assert await raw.get("k") == bad
    assert len(peer.connections) == 1


# -- 4.17: bytes that make no sense -----------------------------------------------------------------

NONSENSE = {
    "no RESP": b"hello world\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a length that is none": b"$x\r\nabc\r\n",
    "a length below nothing": b"$-2\r\n",
    "a number that is none": b":12a\r\n",
    "a map with a list as its key": b"%1\r\n*1\r\n+a\r\n+b\r\n",
    "an endless bulk": b"$99999999999999999999\r\n",
    "a broken attribute": b"|x\r\n",
}


@pytest.mark.pins("4.17", "P1")
@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
async def test_broken_framing_loses_the_connection(peer, client, nonsense):
    """What is in flight ends, maybe executed; never is a later byte taken for its reply."""
    events = EventRecord(client)
    tasks = [asyncio.create_task(client.execute_command("FOO.WRITE", n)) for n in range(3)]
    await peer.wait_for_command("FOO.WRITE", count=3)
    peer.connections[0].send(resp.simple("first"), nonsense, resp.simple("third"))
    replies = [await outcome(task) for task in tasks]
    assert replies[0] == b"first"
    for error in replies[1:]:
        assert isinstance(error, ReplyProtocolError)
        assert isinstance(error, InvalidResponse)
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed is True
    await events.wait_for("ready")
    assert events.names == ["error", "reconnecting", "connect", "ready"]
    assert await client.get("k") == b"k"
    assert len(peer.connections) == 2


@pytest.mark.pins("4.17", "P1")
@pytest.mark.parametrize("unasked", [resp.simple("OK"), resp.bulk("x"), resp.error("ERR unasked"), resp.null()])
async def test_a_reply_that_nobody_asked_for_loses_the_connection(peer, client, unasked):
    """Idle, or behind the replies that were due: from there on nothing could be attributed."""
    events = EventRecord(client)
    peer.connections[0].send(unasked)
    await events.wait_for("ready")
    assert isinstance(events.of("error")[0], ReplyProtocolError)
    assert await client.get("a") == b"a"
    peer.on("GET", lambda each: resp.bulk(each.words[1]) + unasked)
    assert await client.get("b") == b"b"
    await events.wait_for("ready", 2)
    assert len(peer.connections) == 3


@pytest.mark.pins("4.17", "P1")
async def test_pushes_are_no_replies(peer, client):
    """In any number, before, between and after replies, with anything inside."""
    pushes = resp.push("invalidate", resp.null()) + resp.push("x", resp.array(resp.bulk(b"\xff"), resp.integer(1)))
    peer.on("GET", lambda each: pushes * 3 + resp.bulk(each.words[1]) + pushes)
    peer.connections[0].send(pushes)
    names = [str(number) for number in range(20)]
    assert await asyncio.gather(*map(client.get, names)) == [name.encode() for name in names]
    assert await client.with_options(decode_responses=True).get("k") == "k"
    assert len(peer.connections) == 1


@pytest.mark.pins("case-37")
async def test_what_the_old_socket_still_says_is_ignored(peer, client):
    """A reply that comes behind the nonsense that ended its connection reaches nobody on the next one."""
    task = asyncio.create_task(client.execute_command("FOO.WRITE"))
    await peer.connections[0].expect("FOO.WRITE")
    peer.connections[0].send(b"nonsense\r\n")
    peer.connections[0].send(resp.simple("late"))
    assert isinstance(await outcome(task), ReplyProtocolError)
    peer.connections[0].send(resp.simple("later still"))
    assert await client.get("k") == b"k"
    await turns()
    assert client.is_ready


@pytest.mark.pins("4.17", "P5")
async def test_a_reply_beyond_the_limit_is_not_asked_for_again(peer, make_client):
    """Its command ends, though it only reads; others are sent again on the next connection."""
    client = await make_client(max_reply_bytes=100_000, reconnect_strategy=0.0).connect()
    peer.on("LRANGE", resp.bulk("x" * 300_000))
    peer.on("ECHO", None)
    large = asyncio.create_task(client.lrange("l", 0, -1))
    other = asyncio.create_task(client.echo("small"))
    error = await outcome(large)
    assert isinstance(error, ReplyProtocolError)
    assert "a reply of more than 100000 bytes" in str(error)
    await until(lambda: count(peer, "ECHO") == 2)
    peer.connections[1].send(resp.bulk("small"))
    assert await other == b"small"
    assert count(peer, "LRANGE") == 1
