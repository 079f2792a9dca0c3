"""SELECT and AUTH at run time: between earlier and later commands, on every shared link, and kept from then on."""

from __future__ import annotations

import asyncio

import pytest
import redis.exceptions

from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectionLostError,
    NotConnectedError,
)
from aioredis_kit.testing import resp
from tests.support.blocking import BlockingPeer, words_on
from tests.support.observing import EventRecord, outcome, turns, until

GO_AWAY = resp.error("ERR go away")


async def start(call):
    """Start a call; what it issues is issued when this returns."""
    task = asyncio.create_task(call)
    await turns()
    return task


# -- between earlier and later commands -------------------------------------------------------------


@pytest.mark.pins("P1", "P4")
@pytest.mark.parametrize("connections", [1, 3])
async def test_earlier_commands_end_first_and_later_ones_wait(peer, make_client, connections):
    client = await make_client(connections=connections).connect()
    slow = await start(client.execute_command("SLOW"))
    keyed = await start(client.execute_command("HGETALL", "k1"))
    selecting = await start(client.select(3))
    later = [await start(client.get(f"k{number}")) for number in range(20)]
    await turns(50)
    assert {each.name for each in peer.commands} & {"SELECT", "GET"} == set()
    place = next(each.connection for each in peer.commands if each.name == "HGETALL")
    if connections == 1:
        place.send(resp.simple("slow"))
        await slow
    else:
        place.send(resp.mapping({}))
        await keyed
    await turns(50)
    assert "SELECT" not in {each.name for each in peer.commands}
    if connections == 1:
        place.send(resp.mapping({}))
    else:
        next(each.connection for each in peer.commands if each.name == "SLOW").send(resp.simple("slow"))
    assert await selecting is True
    assert await asyncio.gather(slow, keyed) == [b"slow", {}]
    assert await asyncio.gather(*later) == [b"k%d" % number for number in range(20)]
    for connection in peer.connections:
        words = words_on(connection)
        assert words.count("SELECT 3") == 1
        assert not [each for each in words[: words.index("SELECT 3")] if each.startswith("GET")]
    assert client.is_ready


@pytest.mark.pins("P4")
async def test_two_in_a_row_with_commands_in_between(peer, client):
    calls = [
        *(lambda n=n: client.set(f"a{n}", 1) for n in range(3)),
        lambda: client.select(1),
        *(lambda n=n: client.set(f"b{n}", 1) for n in range(3)),
        lambda: client.select(2),
        lambda: client.select(3),
        *(lambda n=n: client.set(f"c{n}", 1) for n in range(3)),
    ]
    for delay in (0, 1):
        known = len(words_on(peer.connections[0]))
        tasks = []
        for call in calls:
            tasks.append(asyncio.create_task(call()))
            await turns(delay)
        assert await asyncio.gather(*tasks) == [True] * len(tasks)
        assert words_on(peer.connections[0])[known:] == [
            *("SET a0 1", "SET a1 1", "SET a2 1", "SELECT 1", "SET b0 1", "SET b1 1", "SET b2 1"),
            *("SELECT 2", "SELECT 3", "SET c0 1", "SET c1 1", "SET c2 1"),
        ]


@pytest.mark.pins("P1", "4.8")
async def test_a_command_whose_caller_has_gone_ends_first_too(peer, client):
    """The server still works on it."""
    slow = await start(client.execute_command("SLOW"))
    selecting = await start(client.select(3))
    slow.cancel()
    await outcome(slow)
    await turns(50)
    assert "SELECT 3" not in words_on(peer.connections[0])
    peer.connections[0].send(resp.simple("slow"))
    assert await selecting is True


@pytest.mark.pins("P1", "4.11")
async def test_what_is_sent_again_is_sent_again_before(peer, make_client):
    """A read whose reply was lost, in front of a SELECT: it goes to the database that it was issued for."""
    client = await make_client(db=2, reconnect_strategy=0.0).connect()
    peer.on("GET", lambda received: received.connection.close(), resp.bulk("v"))
    results = await asyncio.gather(client.get("k"), client.select(3), client.get("later"))
    assert results == [b"v", True, b"v"]
    assert words_on(peer.connections[1]) == ["SELECT 2", "GET k", "SELECT 3", "GET later"]


@pytest.mark.pins("P1", "4.13")
async def test_what_the_server_did_nothing_about_is_not_sent_again_behind(peer, client):
    """It was issued for another database: its refusal is raised, as it was not executed."""
    peer.on("GET", resp.error("LOADING dataset"), resp.bulk("wrong"))
    getting = await start(client.get("k"))
    await client.select(3)
    assert isinstance(await outcome(getting), redis.exceptions.BusyLoadingError)
    assert words_on(peer.connections[0]) == ["GET k", "SELECT 3"]


@pytest.mark.pins("P1", "4.13")
@pytest.mark.parametrize("kind", ["command", "pipeline"])
async def test_what_is_refused_while_it_waits_is_not_sent_again_behind_it(peer, client, kind):
    """It is out when SELECT is issued, and the server says that it did nothing before SELECT is sent."""
    refused = []
    peer.on("GET", lambda received: resp.bulk("wrong") if refused else refused.append(received))
    getting = await start(
        client.get("k") if kind == "command" else client.pipeline(transaction=False).get("k").execute()
    )
    await until(lambda: refused)
    selecting = await start(client.select(3))
    peer.connections[0].send(resp.error("LOADING dataset"))
    assert await selecting is True
    assert isinstance(await outcome(getting), redis.exceptions.BusyLoadingError)
    assert words_on(peer.connections[0]) == ["GET k", "SELECT 3"]


@pytest.mark.pins("P1", "case-36")
async def test_a_blocking_command_behind_it_waits_for_it(peer, client):
    blocking = BlockingPeer(peer)
    slow = await start(client.execute_command("SLOW"))
    selecting = await start(client.select(3))
    popping = await start(client.blpop("k", 0))
    session = await start(client.dedicated().connect())
    await turns(50)
    assert not blocking.waiting
    assert not session.done()
    peer.connections[0].send(resp.simple("slow"))
    await selecting
    await until(lambda: blocking.waiting)
    assert words_on(blocking.waiting[0].connection) == ["SELECT 3", "BLPOP k 0"]
    blocking.give(resp.null())
    await asyncio.gather(popping, slow)
    await (await session).close()


@pytest.mark.pins("P1", "case-36")
async def test_a_blocking_command_between_two_runs_between_them(peer, client):
    """What the second changes is not its concern; one that was withdrawn changes nothing."""
    blocking = BlockingPeer(peer)
    slow = await start(client.execute_command("SLOW"))
    selecting = [await start(client.select(1))]
    between = await start(client.blpop("between", 0))
    withdrawn = await start(client.select(2))
    behind = await start(client.blpop("behind", 0))
    selecting.append(await start(client.select(3)))
    last = await start(client.blpop("last", 0))
    withdrawn.cancel()
    peer.connections[0].send(resp.simple("slow"))
    assert await asyncio.gather(*selecting) == [True, True]
    await until(lambda: len(blocking.waiting) == 3)
    databases = {each.words[1]: words_on(each.connection)[0] for each in blocking.waiting}
    assert databases == {b"between": "SELECT 1", b"behind": "SELECT 1", b"last": "SELECT 3"}
    for _ in range(3):
        blocking.give(resp.null())
    await asyncio.gather(slow, between, behind, last)


@pytest.mark.pins("P1", "4.12", "4.13")
async def test_a_pipeline_that_the_server_did_nothing_about_is_not_sent_again_behind(peer, client):
    peer.on("GET", resp.error("LOADING dataset"), resp.bulk("wrong"))
    piping = await start(client.pipeline(transaction=False).get("k").execute(raise_on_error=False))
    await client.select(3)
    (refusal,) = await piping
    assert isinstance(refusal, redis.exceptions.BusyLoadingError)
    assert words_on(peer.connections[0]) == ["GET k", "SELECT 3"]


# -- the state ---------------------------------------------------------------------------------------


@pytest.mark.pins("case-36", "5.3")
@pytest.mark.parametrize("connections", [1, 2])
async def test_the_database_is_kept_after_a_lost_connection(peer, make_client, connections):
    client = await make_client(reconnect_strategy=0.0, connections=connections).connect()
    await client.select(1)
    events = EventRecord(client)
    for connection in list(peer.connections):
        connection.close()
    await events.wait_for("reconnecting")
    await until(lambda: client.is_ready)
    assert await client.get("k") == b"k"
    for connection in peer.connections[connections:]:
        assert words_on(connection)[:1] == ["SELECT 1"]
    await client.select(0)
    peer.connections[-1].close()
    await until(lambda: len(peer.connections) > 2 * connections and client.is_ready)
    assert "SELECT 1" not in words_on(peer.connections[-1])


@pytest.mark.pins("case-53", "5.3")
async def test_the_order_on_the_wire_after_a_lost_connection(peer, make_client):
    """Who, which database, what library, and whether it serves, in one write; then what waits, and nothing twice."""
    client = await make_client(reconnect_strategy=0.001).connect()
    await client.auth("s3cret", "ada")
    await client.client_setname("me")
    await client.select(3)
    peer.on("HELLO", GO_AWAY)
    peer.connections[0].close()
    await until(lambda: not client.is_ready)
    waiting = [await start(client.set(f"k{number}", 1)) for number in range(3)]
    peer.on("HELLO", resp.mapping({}))
    await asyncio.gather(*waiting)
    connection = peer.connections[-1]
    words = words_on(connection, handshakes=True)
    assert words[:2] == ["HELLO 3 AUTH ada s3cret SETNAME me", "SELECT 3"]
    assert [each.rsplit(" ", 1)[0] for each in words[2:4]] == ["CLIENT SETINFO LIB-NAME", "CLIENT SETINFO LIB-VER"]
    assert words[4:] == ["PING", "SET k0 1", "SET k1 1", "SET k2 1"]
    assert [each.chunk for each in connection.commands] == [0] * 5 + [1] * 3


@pytest.mark.pins("case-36")
@pytest.mark.parametrize(
    ("args", "auth"),
    [
        (("AUTH", "s3cret"), "AUTH default s3cret"),
        (("AUTH", "ada", "s3cret"), "AUTH ada s3cret"),
        ((b"auth", b"ada", "grüße-1".encode()), "AUTH ada grüße-1"),
        (("Auth", bytearray(b"ada"), memoryview(b"s3cret")), "AUTH ada s3cret"),
    ],
    ids=["password", "user and password", "bytes", "buffers"],
)
async def test_the_user_is_kept_after_a_lost_connection(peer, make_client, args, auth):
    client = await make_client(reconnect_strategy=0.0).connect()
    assert await client.execute_command(*args) == (b"OK" if isinstance(args[0], bytes) else True)
    peer.connections[0].close()
    await until(lambda: len(peer.connections) > 1 and client.is_ready)
    assert words_on(peer.connections[1], handshakes=True)[0] == f"HELLO 3 {auth}"


@pytest.mark.parametrize(
    "number", [1, "1", b"1", bytearray(b"1"), memoryview(b"1")], ids=lambda each: type(each).__name__
)
async def test_a_database_in_every_spelling(peer, make_client, number):
    client = await make_client(reconnect_strategy=0.0).connect()
    await client.execute_command("select", number)
    peer.connections[0].close()
    await until(lambda: len(peer.connections) > 1 and client.is_ready)
    assert words_on(peer.connections[1]) == ["SELECT 1"]


@pytest.mark.pins("P7")
async def test_a_password_that_is_no_text_is_refused(peer, client):
    """As it could not be said again after a lost connection."""
    with pytest.raises(ConfigurationError) as caught:
        await client.execute_command("AUTH", "ada", b"\xff\xfe-s3cret")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value.__context__ if not caught.value.__suppress_context__ else None)
    assert words_on(peer.connections[0]) == []


async def test_who_has_a_credential_provider_is_refused(peer, make_client):
    """It says who the client is, and would say it again at the next connection."""
    client = await make_client(credential_provider=lambda: Credentials("ada", "s3cret")).connect()
    with pytest.raises(ConfigurationError, match="credential_provider"):
        await client.auth("0ther-one", "bob")
    assert await client.select(1) is True
    assert not [each for each in words_on(peer.connections[0]) if each.startswith("AUTH")]


@pytest.mark.pins("P1")
@pytest.mark.parametrize("connections", [1, 2])
async def test_refused_by_all_nothing_changes(peer, make_client, connections):
    client = await make_client(reconnect_strategy=0.0, connections=connections, db=2).connect()
    peer.on("SELECT", resp.error("ERR DB index is out of range"))
    with pytest.raises(redis.exceptions.ResponseError, match="out of range"):
        await client.select(99)
    peer.on("SELECT", resp.simple("OK"))
    assert len(peer.connections) == connections
    assert await client.get("k") == b"k"
    for connection in list(peer.connections):
        connection.close()
    await until(lambda: len(peer.connections) == 2 * connections and client.is_ready)
    assert words_on(peer.connections[-1])[:1] == ["SELECT 2"]


@pytest.mark.pins("P1", "P7")
async def test_a_refused_user_leaves_the_old_one(peer, make_client):
    client = await make_client(reconnect_strategy=0.0, password="0ld-one").connect()
    peer.on("AUTH", resp.error("WRONGPASS invalid username-password pair or user is disabled."))
    error = await outcome(client.auth("s3cret", "ada"))
    assert isinstance(error, redis.exceptions.AuthenticationError)
    assert "s3cret" not in repr(error)
    peer.connections[0].close()
    await until(lambda: len(peer.connections) > 1 and client.is_ready)
    assert words_on(peer.connections[1], handshakes=True)[0] == "HELLO 3 AUTH default 0ld-one"


@pytest.mark.pins("P1")
@pytest.mark.parametrize("how", ["refused", "lost"])
async def test_a_link_that_did_not_take_it_is_replaced(peer, make_client, how):
    """Not one command runs on a link in the old database."""
    client = await make_client(reconnect_strategy=0.0, connections=2).connect()
    answers = {"refused": resp.error("ERR not here"), "lost": lambda received: received.connection.close()}
    taken = []

    def select(received):
        taken.append(received)
        if received.connection is peer.connections[1] and len(taken) <= 2:
            answer = answers[how]
            return answer(received) if callable(answer) else answer
        return resp.simple("OK")

    peer.on("SELECT", select)
    keys = [f"k{number}" for number in range(20)]
    results = await asyncio.gather(client.select(3), *(client.set(key, 1) for key in keys))
    assert results == [True] * 21
    await until(lambda: client.is_ready)
    used = [words_on(connection) for connection in peer.connections if len(words_on(connection)) > 1]
    assert [words[0] for words in used] == ["SELECT 3"] * 2
    assert words_on(peer.connections[1]) == ["SELECT 3"]


@pytest.mark.pins("P1")
async def test_a_link_that_reconnects_in_the_middle_gets_the_new_state(peer, make_client):
    """It was introduced with the old one while the others were asked."""
    client = await make_client(reconnect_strategy=0.0, connections=2).connect()
    selects, hellos = [], []
    peer.on("SELECT", selects.append)
    peer.on("HELLO", hellos.append)
    peer.connections[1].close()
    await until(lambda: hellos)
    selecting = await start(client.select(3))
    later = [await start(client.set(f"k{number}", 1)) for number in range(20)]
    await until(lambda: selects)
    peer.on("HELLO", resp.mapping({}))
    hellos[0].connection.send(resp.mapping({}))
    await turns(50)
    peer.on("SELECT", resp.simple("OK"))
    selects[0].connection.send(resp.simple("OK"))
    assert await selecting is True
    assert await asyncio.gather(*later) == [True] * 20
    for connection in peer.connections:
        for place, words in enumerate(words_on(connection)):
            assert not words.startswith("SET") or "SELECT 3" in words_on(connection)[:place]


@pytest.mark.pins("P1", "P3")
async def test_a_lost_answer_is_asked_for_again(peer, make_client):
    """Whether it was executed does not matter: on the next connection it is."""
    client = await make_client(reconnect_strategy=0.0).connect()
    peer.on("SELECT", lambda received: received.connection.close(), resp.simple("OK"))
    assert await asyncio.gather(client.select(3), client.get("k")) == [True, b"k"]
    assert words_on(peer.connections[1]) == ["SELECT 3", "GET k"]


# -- callers who have gone, time and ends -----------------------------------------------------------


@pytest.mark.pins("4.7", "P2")
@pytest.mark.parametrize("way", ["cancelled", "late"])
async def test_before_it_is_sent_it_is_withdrawn(clock, peer, make_client, way):
    """And what waits behind it goes on at once, while the earlier command is still out."""
    client = await make_client(reconnect_strategy=0.0, ping_interval=None).connect()
    patient = client.with_options(command_timeout=None)
    slow = await start(patient.execute_command("SLOW"))
    selecting = await start(client.with_options(command_timeout=2).select(3))
    getting = await start(patient.execute_command("LATER"))
    if way == "cancelled":
        selecting.cancel()
        assert isinstance(await outcome(selecting), asyncio.CancelledError)
    else:
        error = await outcome(selecting)
        assert isinstance(error, CommandTimeoutError)
        assert error.maybe_executed is False
        assert clock() == pytest.approx(2, abs=0.1)
    await peer.wait_for_command("LATER")
    peer.connections[0].send(resp.simple("slow"), resp.simple("later"))
    assert await asyncio.gather(slow, getting) == [b"slow", b"later"]
    assert words_on(peer.connections[0]) == ["SLOW", "LATER"]
    peer.connections[0].close()
    await until(lambda: len(peer.connections) > 1 and client.is_ready)
    assert words_on(peer.connections[1]) == []


@pytest.mark.pins("4.8", "P3")
@pytest.mark.parametrize("way", ["cancelled", "late"])
async def test_after_it_was_sent_it_is_carried_through(clock, peer, make_client, way):
    client = await make_client(reconnect_strategy=0.0, ping_interval=None).connect()
    peer.on("SELECT", None)
    selecting = await start(client.with_options(command_timeout=2).select(3))
    getting = await start(client.with_options(command_timeout=None).get("k"))
    await peer.wait_for_command("SELECT")
    if way == "cancelled":
        selecting.cancel()
        assert isinstance(await outcome(selecting), asyncio.CancelledError)
    else:
        error = await outcome(selecting)
        assert isinstance(error, CommandTimeoutError)
        assert error.maybe_executed is True
    await turns(50)
    assert not getting.done()
    peer.on("SELECT", resp.simple("OK"))
    peer.connections[0].send(resp.simple("OK"))
    assert await getting == b"k"
    peer.connections[0].close()
    await until(lambda: len(peer.connections) > 1 and client.is_ready)
    assert words_on(peer.connections[1]) == ["SELECT 3"]


@pytest.mark.pins("4.9", "P2")
async def test_on_a_stalled_connection_it_raises_the_doubt(clock, peer, make_client):
    """Its deadline passes and nothing was read: what waits behind it goes on on another connection."""
    client = await make_client(ping_interval=None, command_timeout=5, ping_timeout=3, reconnect_strategy=0.0).connect()
    for name in ("SELECT", "PING"):
        peer.on(name, None)
    error = await outcome(client.select(3))
    assert isinstance(error, CommandTimeoutError)
    assert error.maybe_executed is True
    peer.on("PING", resp.simple("PONG"))
    assert await client.get("k") == b"k"
    assert clock() == pytest.approx(5 + 3, abs=0.1)
    assert words_on(peer.connections[1]) == ["GET k"]


@pytest.mark.pins("P1", "P3")
async def test_nobody_waits_and_the_answer_is_lost(peer, make_client):
    """Then the next connection is what was desired before."""
    client = await make_client(reconnect_strategy=0.0, db=2).connect()
    peer.on("SELECT", None)
    selecting = await start(client.select(3))
    await peer.wait_for_command("SELECT", count=2)
    selecting.cancel()
    await outcome(selecting)
    peer.on("SELECT", resp.simple("OK"))
    peer.connections[0].close()
    assert await client.get("k") == b"k"
    assert words_on(peer.connections[1]) == ["SELECT 2", "GET k"]


@pytest.mark.pins("P2", "4.7")
async def test_cancelled_at_any_point_the_queue_goes_on(peer, make_client):
    """Whatever became of it: no command is held back for ever, and all links agree."""
    client = await make_client(reconnect_strategy=0.0, connections=2).connect()
    for count in range(30):
        selecting = asyncio.create_task(client.select(count % 3))
        getting = [asyncio.create_task(client.get(f"k{number}")) for number in range(5)]
        await turns(count // 2)
        selecting.cancel()
        await outcome(selecting)
        assert await asyncio.gather(*getting) == [b"k%d" % number for number in range(5)]
    selected = [[each for each in words_on(connection) if each.startswith("SELECT")] for connection in peer.connections]
    assert selected[0] == selected[1]
    assert len(peer.connections) == 2


@pytest.mark.pins("4.3")
async def test_while_not_connected_it_waits(peer, make_client):
    client = await make_client(reconnect_strategy=0.001).connect()
    peer.on("HELLO", GO_AWAY)
    peer.connections[0].close()
    await until(lambda: not client.is_ready)
    earlier = await start(client.get("earlier"))
    selecting = await start(client.select(3))
    later = await start(client.get("later"))
    peer.on("HELLO", resp.mapping({}))
    assert await asyncio.gather(earlier, selecting, later) == [b"earlier", True, b"later"]
    assert words_on(peer.connections[-1]) == ["GET earlier", "SELECT 3", "GET later"]


@pytest.mark.pins("4.7", "P2")
async def test_withdrawn_while_not_connected_it_is_never_sent(peer, make_client):
    client = await make_client(reconnect_strategy=0.001).connect()
    peer.on("HELLO", GO_AWAY)
    peer.connections[0].close()
    await until(lambda: not client.is_ready)
    selecting = await start(client.select(3))
    later = await start(client.get("later"))
    selecting.cancel()
    await outcome(selecting)
    peer.on("HELLO", resp.mapping({}))
    assert await later == b"later"
    assert words_on(peer.connections[-1]) == ["GET later"]


@pytest.mark.pins("4.4")
async def test_without_an_offline_queue(peer, make_client):
    """Refused while not connected; one that waited for earlier commands ends at the loss."""
    client = make_client(disable_offline_queue=True, reconnect_strategy=0.001)
    assert isinstance(await outcome(client.select(3)), NotConnectedError)
    await client.connect()
    slow = await start(client.execute_command("SLOW"))
    selecting = await start(client.select(3))
    peer.on("HELLO", GO_AWAY)
    peer.connections[-1].close()
    assert isinstance(await outcome(slow), ConnectionLostError)
    error = await outcome(selecting)
    assert isinstance(error, NotConnectedError)
    assert error.maybe_executed is False
    peer.on("HELLO", resp.mapping({}))
    await client.connect()
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.19", "4.20", "P2")
@pytest.mark.parametrize("was_sent", [False, True])
@pytest.mark.parametrize("way", ["close", "destroy"])
async def test_the_client_ends(peer, make_client, way, was_sent):
    client = await make_client(reconnect_strategy=0.0, close_timeout=0.1).connect()
    peer.on("SELECT", None)
    slow = None if was_sent else await start(client.execute_command("SLOW"))
    selecting = await start(client.select(3))
    later = await start(client.get("k"))
    if was_sent:
        await peer.wait_for_command("SELECT")
    if way == "destroy":
        client.destroy()
    await client.close()
    for task in (selecting, later, slow):
        if task is not None:
            assert isinstance(await outcome(task), ClientClosedError)


@pytest.mark.pins("4.19")
async def test_closing_lets_it_out(peer, make_client):
    """What was issued before goes out, in its order; then the client is closed."""
    client = await make_client(reconnect_strategy=0.0).connect()
    slow = await start(client.execute_command("SLOW"))
    tasks = [await start(client.select(3)), await start(client.get("k"))]
    closing = await start(client.close())
    peer.connections[0].send(resp.simple("slow"))
    assert await asyncio.gather(slow, *tasks) == [b"slow", True, b"k"]
    await closing
    assert words_on(peer.connections[0]) == ["SLOW", "SELECT 3", "GET k"]
