"""Several shared connections: a key's commands keep their order, and all links together are one client."""

from __future__ import annotations

import asyncio

import pytest
from redis.crc import key_slot

from aioredis_kit import ClientState, create_client
from aioredis_kit.exceptions import CommandTimeoutError, ConnectionLostError, NotConnectedError, QueueFullError
from aioredis_kit.testing import ScriptedPeer, resp
from tests.support.blocking import words_on
from tests.support.observing import EventRecord, outcome, turns, until

GO_AWAY = resp.error("ERR go away")
COUNT = 4
HOUR = 3600.0


@pytest.fixture
async def client(make_client):
    """A client with several shared connections."""
    return await make_client(connections=COUNT, reconnect_strategy=0.0).connect()


def carriers(peer, word):
    """For each command that has this word, the number of the connection that it came on."""
    return [each.connection.number for each in peer.commands if word.encode() in each.words]


async def link_of(peer, client, key):
    """The peer's connection that commands on a key come on."""
    known = len(peer.commands)
    await client.get(key)
    return next(each.connection for each in peer.commands[known:] if each.name == "GET")


# -- which link carries a command -------------------------------------------------------------------


@pytest.mark.pins("P4")
async def test_a_keys_commands_go_over_one_link_in_their_order(peer, client):
    """Whatever the command is, and by the hash tag; the keys together use all links."""
    keys = [f"key{number}" for number in range(32)]
    tasks = []
    for step in range(10):
        for key in keys:
            tasks.append(asyncio.create_task(client.set(key, step)))
            tasks.append(asyncio.create_task(client.get(key)))
        await turns(step % 3)
    await asyncio.gather(*tasks)
    for key in keys:
        assert len(set(carriers(peer, key))) == 1
        found = [each.words for each in peer.commands if key.encode() in each.words]
        expected = [[(b"SET", key.encode(), b"%d" % step), (b"GET", key.encode())] for step in range(10)]
        assert found == [each for pair in expected for each in pair]
    assert {number for key in keys for number in carriers(peer, key)} == set(range(COUNT))
    by_slot = {key_slot(key.encode()) % COUNT: carriers(peer, key)[0] for key in keys}
    assert len(set(by_slot.values())) == COUNT
    tagged = {carriers(peer, key)[0] for key in ("{x}1", "{x}2", "{x}other") if await client.get(key)}
    assert len(tagged) == 1


@pytest.mark.pins("P4")
async def test_keys_that_are_no_text(peer, client):
    """The same key in another type is the same key."""
    peer.on("GET", resp.null())
    keys = ["77", b"77", 77, bytearray(b"77"), memoryview(b"77")]
    for key in keys:
        await client.execute_command("GET", key)
    assert len(set(carriers(peer, "77"))) == 1


@pytest.mark.pins("P4")
async def test_keys_where_they_are(peer, client):
    """Not always the first argument."""
    for name in ("EVAL", "XREAD", "OBJECT", "MYMODULE.GET", "ZUNION", "XGROUP", "MSET", "BITOP"):
        peer.on(name, resp.null())
    for number in range(12):
        key = f"key{number}"
        await client.get(key)
        await client.execute_command("EVAL", "return 1", 1, key)
        await client.execute_command("EVAL", "return 1", "1", key.encode())
        await client.execute_command("XREAD", "COUNT", 1, "STREAMS", key, 0)
        await client.execute_command("OBJECT", "ENCODING", key)
        await client.execute_command("OBJECT FREQ", key)
        await client.execute_command("ZUNION", 1, key)
        await client.execute_command(b"xgroup", b"CREATE", key, "g", 0)
        await client.execute_command("MSET", key, 1, "elsewhere", 2)
        await client.execute_command("BITOP", "NOT", key, "elsewhere")
        assert len(set(carriers(peer, key))) == 1, [each.words for each in peer.commands if key.encode() in each.words]


@pytest.mark.pins("P4")
async def test_without_a_key_it_is_the_first_link(peer, client):
    """And with a channel instead of a key it is that channel's."""
    for name in ("PUBLISH", "SPUBLISH", "DBSIZE", "EVAL", "NOSUCH"):
        peer.on(name, resp.integer(0))
    await client.execute_command("DBSIZE")
    await client.execute_command("EVAL", "return 1", 0, "argument")
    await client.execute_command("NOSUCH", "whatever")
    (first,) = {number for word in ("DBSIZE", "EVAL", "NOSUCH") for number in carriers(peer, word)}
    assert first in range(COUNT)
    channels = [f"channel{number}" for number in range(16)]
    for channel in channels * 2:
        await client.publish(channel, "m")
    assert all(len(set(carriers(peer, channel))) == 1 for channel in channels)
    assert len({carriers(peer, channel)[0] for channel in channels}) == COUNT
    for channel in channels:
        peer.on("GET", resp.null())
        await client.get(channel)
        assert len(set(carriers(peer, channel))) == 1


@pytest.mark.pins("P4")
async def test_what_is_registered_later_counts(peer, client):
    """Also for a name that was used before."""
    peer.on("MYMODULE.GET", resp.null())
    keys = [f"key{number}" for number in range(16)]
    for key in keys:
        await client.execute_command("MYMODULE.GET", key)
    assert len({number for key in keys for number in carriers(peer, key)}) == 1
    client.register_command("MYMODULE.GET", readonly=True, keys=1)
    known = len(peer.commands)
    for key in keys:
        await client.execute_command("MYMODULE.GET", key)
    assert len({each.connection.number for each in peer.commands[known:]}) == COUNT


@pytest.mark.pins("4.12", "P4")
async def test_a_pipeline_goes_by_its_first_key(peer, client):
    peer.on("PING", resp.simple("PONG"))
    for number in range(8):
        key = f"key{number}"
        await client.get(key)
        pipeline = client.pipeline(transaction=False)
        await pipeline.ping().set(key, 1).set("elsewhere", 1).get(key).execute()
        assert len(set(carriers(peer, key))) == 1


# -- ready, lost and ready again --------------------------------------------------------------------


@pytest.mark.pins("5.1", "5.2", "5.5")
async def test_ready_when_all_are_ready(peer, make_client):
    hellos = []
    peer.on("HELLO", hellos.append)
    client = make_client(connections=3)
    events = EventRecord(client)
    connecting = asyncio.create_task(client.connect())
    await until(lambda: len(hellos) == 3)
    for number, hello in enumerate(hellos):
        await turns(50)
        assert not client.is_ready
        assert not connecting.done(), number
        hello.connection.send(resp.mapping({}))
    await connecting
    assert client.is_ready
    assert events.names.count("ready") == 1
    assert events.names[-1] == "ready"
    assert "reconnecting" not in events.names


@pytest.mark.pins("4.3", "4.10", "5.1", "5.5")
async def test_one_is_lost_and_the_others_serve_on(peer, client):
    """A command waits for its own link; events and state tell of one loss and one return."""
    events = EventRecord(client)
    lost = await link_of(peer, client, "waits")
    hellos = []
    peer.on("HELLO", hellos.append)
    lost.close()
    await until(lambda: hellos)
    assert not client.is_ready
    assert client.state is ClientState.RECONNECTING
    waiting = asyncio.create_task(client.get("waits"))
    served = [
        key for key in (f"k{number}" for number in range(30)) if key_slot(key.encode()) % COUNT != slot_of("waits")
    ]
    assert await asyncio.gather(*(client.get(key) for key in served)) == [key.encode() for key in served]
    assert not waiting.done()
    peer.on("HELLO", resp.mapping({}))
    hellos[0].connection.send(resp.mapping({}))
    assert await waiting == b"waits"
    await events.wait_for("ready")
    assert events.names == ["error", "reconnecting", "connect", "ready"]
    assert client.is_ready
    assert client.state is ClientState.READY


def slot_of(key):
    return key_slot(key.encode()) % COUNT


@pytest.mark.pins("5.1")
async def test_one_speaks_for_all_that_are_lost(clock, peer, make_client):
    """Its count and its delays; then, when it is back before the others, another one of them."""
    client = await make_client(connections=3, reconnect_strategy=1.0, ping_interval=None).connect()
    events = EventRecord(client)
    peer.on("HELLO", GO_AWAY)
    for connection in list(peer.connections):
        connection.close()
    await events.wait_for("reconnecting", 4, timeout=100)
    assert events.of("reconnecting") == [(retries, 1.0) for retries in range(4)]
    assert events.names.count("error") == 4
    refused = []

    def hello(received):
        """One link gets through, the others later."""
        refused.append(received)
        return resp.mapping({}) if len(refused) == 1 or len(refused) > 8 else GO_AWAY

    peer.on("HELLO", hello)
    await events.wait_for("ready", timeout=100)
    assert events.names.count("ready") == 1
    assert client.is_ready
    assert clock() < 20


@pytest.mark.pins("4.11", "P3")
async def test_only_what_was_on_the_lost_link_is_lost(peer, client):
    keys = [f"k{number}" for number in range(12)]
    peer.on("INCRBY", None)
    tasks = {key: asyncio.create_task(client.incr(key)) for key in keys}
    await peer.wait_for_command("INCRBY", count=12)
    lost = next(each.connection for each in peer.commands if b"k0" in each.words)
    on_lost = [key for key in keys if carriers(peer, key) == [lost.number]]
    lost.close()
    for key in on_lost:
        error = await outcome(tasks[key])
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed is True
    for key in set(keys) - set(on_lost):
        assert not tasks[key].done()
        next(each.connection for each in peer.commands if key.encode() in each.words).send(resp.integer(5))
    assert [await tasks[key] for key in keys if key not in on_lost] == [5] * (len(keys) - len(on_lost))


@pytest.mark.pins("4.4")
async def test_without_an_offline_queue_only_the_lost_link_refuses(peer, make_client):
    client = await make_client(connections=2, disable_offline_queue=True, reconnect_strategy=0.001).connect()
    lost = await link_of(peer, client, "k0")
    peer.on("HELLO", GO_AWAY)
    lost.close()
    await until(lambda: not client.is_ready)
    assert isinstance(await outcome(client.get("k0")), NotConnectedError)
    other = next(key for key in (f"k{n}" for n in range(9)) if key_slot(key.encode()) % 2 != key_slot(b"k0") % 2)
    assert await client.get(other) == other.encode()


@pytest.mark.pins("4.9")
async def test_a_stalled_link_is_dropped_and_the_others_are_not(clock, peer, make_client):
    client = await make_client(connections=2, command_timeout=1.0, ping_timeout=1.0, ping_interval=None).connect()
    stalled = await link_of(peer, client, "k0")
    stalled.pause_reading()
    assert isinstance(await outcome(client.get("k0")), CommandTimeoutError)
    await asyncio.sleep(1.1)  # of virtual time: ping_timeout, and a moment
    assert await client.get("k0") == b"k0"
    assert clock() < 5
    assert len(peer.connections) == 3


@pytest.mark.pins("P2")
async def test_one_select_behind_another_while_one_is_lost(clock, peer, make_client):
    """Neither waits for the link that has no connection: it will introduce itself with what is desired then."""
    client = await make_client(connections=2, reconnect_strategy=HOUR, command_timeout=1).connect()
    peer.on("SELECT", resp.simple("OK"))
    peer.connections[0].close()
    await until(lambda: not client.is_ready)
    assert await asyncio.gather(client.select(1), client.select(2)) == [True, True]
    assert words_on(peer.connections[1]) == ["SELECT 1", "SELECT 2"]
    assert clock() < 1


@pytest.mark.pins("4.18")
async def test_one_link_that_gives_up_is_the_end_of_all(peer, make_client):
    client = await make_client(connections=3, reconnect_strategy=lambda *_: False).connect()
    events = EventRecord(client)
    peer.connections[1].close()
    await events.wait_for("error")
    assert events.names == ["terminated", "error"]
    assert not client.is_open
    for connection in peer.connections:
        await connection.wait_closed()


# -- limits, names and ends -------------------------------------------------------------------------


@pytest.mark.pins("P5", "4.5")
async def test_the_limits_are_shared_out(peer, make_client):
    client = await make_client(connections=2, commands_queue_max_length=10, queue_full="raise").connect()
    peer.on("GET", None)
    tasks = [asyncio.create_task(client.get("k")) for _ in range(5)]
    await turns()
    error = await outcome(client.get("k"))
    assert isinstance(error, QueueFullError)
    assert error.limit == 5
    client.destroy()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.pins("case-53")
@pytest.mark.parametrize("name", ["me", b"me", bytearray(b"me")], ids=repr)
async def test_a_name_is_given_to_all_links_and_kept(peer, client, name):
    """Also to those that connect later."""
    assert await client.execute_command("CLIENT SETNAME", name) is True
    await until(lambda: carriers(peer, "SETNAME") and len(carriers(peer, "SETNAME")) >= COUNT)
    assert sorted(carriers(peer, "SETNAME")) == list(range(COUNT))
    peer.connections[2].close()
    await until(lambda: len(peer.connections) > COUNT and client.is_ready)
    assert words_on(peer.connections[-1], handshakes=True)[0] == "HELLO 3 SETNAME me"
    assert len(peer.connections) == COUNT + 1


async def test_a_name_that_is_refused_is_given_to_none(peer, client):
    peer.on("CLIENT SETNAME", resp.error("ERR Client names cannot contain spaces, newlines or special characters."))
    await outcome(client.client_setname("a b"))
    await turns(50)
    assert len(carriers(peer, "SETNAME")) == 1


@pytest.mark.pins("case-53")
async def test_what_is_told_of_the_library_is_told_by_connections_to_come_as_well(peer, make_client):
    client = await make_client(connections=2, reconnect_strategy=0.0, client_info_tag="app").connect()
    await client.client_setinfo("lib-name", "mine")
    await client.client_setinfo("LIB-NEW", "7")
    peer.connections[0].close()
    await until(lambda: len(peer.connections) > 2 and client.is_ready)
    told = [each.split(" ", 2)[2] for each in words_on(peer.connections[2], handshakes=True)[1:-1]]
    assert [each for each in told if "VER" not in each] == ["LIB-NAME mine", "LIB-NEW 7"]


async def test_a_name_that_is_taken_away(peer, make_client):
    client = await make_client(connections=2, client_name="first", reconnect_strategy=0.0).connect()
    await client.client_setname("")
    peer.connections[0].close()
    await until(lambda: len(peer.connections) > 2 and client.is_ready)
    assert words_on(peer.connections[-1], handshakes=True)[0] == "HELLO 3"


@pytest.mark.pins("4.19", "P6")
async def test_closing_waits_for_all_links(peer, client):
    peer.on("GET", None)
    tasks = {key: asyncio.create_task(client.get(key)) for key in (f"k{number}" for number in range(8))}
    await peer.wait_for_command("GET", count=8)
    closing = asyncio.create_task(client.close())
    for key in tasks:
        await turns(20)
        assert not closing.done()
        next(each.connection for each in peer.commands if key.encode() in each.words).send(resp.bulk(key))
    await closing
    assert [await task for task in tasks.values()] == [key.encode() for key in tasks]
    for connection in peer.connections:
        await connection.wait_closed()


@pytest.mark.pins("P1", "4.14")
async def test_read_only_connections_are_all_replaced(peer, client):
    """A write was obeyed on one link; another link's READONLY says that the server is a replica now."""
    await client.set("k0", 1)
    other = next(key for key in (f"k{n}" for n in range(9)) if slot_of(key) != slot_of("k0"))
    peer.on("SET", resp.error("READONLY You can't write against a read only replica."), resp.simple("OK"))
    assert await client.set(other, 1) is True
    await until(lambda: len(peer.connections) == 2 * COUNT and client.is_ready)


@pytest.mark.pins("P3")
async def test_one_incr_is_sent_once():
    """The second of the four failures of peers.md: a server that applies INCR and drops the reply."""
    for options in ({}, {"retry_on_timeout": True}, {"retry_unanswered": "idempotent"}, {"connections": 3}):
        applied = []
        async with ScriptedPeer() as peer:

            def incr(received, applied=applied):
                applied.append(received)
                received.connection.close()

            peer.on("INCRBY", incr)
            async with create_client(peer.url, reconnect_strategy=0.0, **options) as client:
                error = await outcome(client.incr("n"))
                assert isinstance(error, ConnectionLostError)
                assert error.maybe_executed is True
                await until(lambda client=client: client.is_ready)
            assert len(applied) == 1
