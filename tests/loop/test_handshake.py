"""What is said at the start of a connection: one write, nothing of the users' before it has succeeded (5.3)."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.metadata import version

import pytest
from redis.credentials import UsernamePasswordCredentialProvider

from aioredis_kit import Credentials
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ConnectError,
    ConnectTimeoutError,
    HandshakeError,
)
from aioredis_kit.testing import FaultProxy, ScriptedPeer, resp
from tests.support.observing import EventRecord, outcome, turns, until

NAME = "aioredis_kit"
SETINFO = [("CLIENT", "SETINFO", "LIB-NAME", NAME), ("CLIENT", "SETINFO", "LIB-VER", version(NAME))]
HOUR = 3600.0


def handshake(connection):
    """The words of what came in up to the first PING, as text."""
    words = [tuple(word.decode() for word in each.words) for each in connection.commands]
    return words[: words.index(("PING",)) + 1]


# -- what is sent -----------------------------------------------------------------------------------


@pytest.mark.pins("5.3", "case-17", "case-54")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("HELLO", "3"), *SETINFO]),
        ({"disable_client_info": True}, [("HELLO", "3")]),
        ({"db": 2, "disable_client_info": True}, [("HELLO", "3"), ("SELECT", "2")]),
        (
            {"password": "s3cret", "db": 2, "client_name": "me", "protocol": 3},
            [("HELLO", "3", "AUTH", "default", "s3cret", "SETNAME", "me"), ("SELECT", "2"), *SETINFO],
        ),
        (
            {"username": "ada", "password": "s3cret", "client_info_tag": "x"},
            [
                ("HELLO", "3", "AUTH", "ada", "s3cret"),
                ("CLIENT", "SETINFO", "LIB-NAME", f"{NAME}(x)"),
                SETINFO[1],
            ],
        ),
        (
            {"protocol": 2, "username": "ada", "password": "s3cret", "db": 2, "client_name": "me"},
            [("AUTH", "ada", "s3cret"), ("CLIENT", "SETNAME", "me"), ("SELECT", "2"), *SETINFO],
        ),
        ({"protocol": 2, "password": "s3cret", "disable_client_info": True}, [("AUTH", "s3cret")]),
        ({"protocol": 2, "disable_client_info": True}, []),
    ],
)
async def test_the_handshake_is_one_write(peer, make_client, options, expected):
    """Exactly these bytes, in one piece, and a PING at the end; the same on every connection."""
    client = await make_client(reconnect_strategy=0.0, **options).connect()
    peer.connections[0].close()
    await until(lambda: len(peer.connections) == 2 and client.is_ready)
    for connection in peer.connections:
        assert connection.chunks == [b"".join(resp.command(*words) for words in [*expected, ("PING",)])]


@pytest.mark.pins("5.3", "case-17", "B12")
@pytest.mark.parametrize("protocol", [2, 3, None])
async def test_user_commands_leave_after_the_handshake(peer, make_client, protocol):
    """None is written before the last answer, however many wait."""
    peer.on("PING", None)
    client = make_client(protocol=protocol, password="s3cret")
    waiting = [asyncio.create_task(client.get(str(number))) for number in range(5)]
    await peer.wait_for_command("PING")
    await turns()
    (connection,) = peer.connections
    assert len(connection.chunks) == 1
    assert not client.is_ready
    connection.send(resp.simple("PONG"))
    assert await asyncio.gather(*waiting) == [str(number).encode() for number in range(5)]
    assert len(connection.chunks) == 2


@pytest.mark.pins("5.3", "case-16")
async def test_the_name_of_the_connections(peer, client):
    """`CLIENT SETNAME` at run time holds for the connections to come as well."""
    assert await client.client_setname("later") is True
    peer.connections[0].close()
    await until(lambda: len(peer.connections) == 2 and client.is_ready)
    assert peer.connections[1].commands[0].words == (b"HELLO", b"3", b"SETNAME", b"later")


# -- what is answered -------------------------------------------------------------------------------


@pytest.mark.pins("5.3", "case-54")
async def test_a_server_that_refuses_setinfo(peer, make_client):
    """It may: older ones don't know it."""
    peer.on("CLIENT SETINFO", resp.error("ERR unknown subcommand 'SETINFO'"))
    client = await make_client().connect()
    assert await client.get("k") == b"k"
    assert len(peer.connections) == 1


@pytest.mark.pins("5.3", "P1")
@pytest.mark.parametrize("refusal", ["ERR unknown command `HELLO`, with args beginning with: ", "NOPROTO sorry"])
async def test_a_server_without_resp3(peer, make_client, caplog, refusal):
    """It is spoken to in RESP2 on the same connection, with redis-py's callbacks for that, and one line is logged."""
    peer.on("HELLO", resp.error(refusal))
    peer.on("HGETALL", resp.array(resp.bulk("field"), resp.bulk("value")))
    client = await make_client(password="s3cret", client_name="me", db=1).connect()
    words = [each.words for each in peer.connections[0].commands]
    second = words.index((b"AUTH", b"s3cret"))
    assert words[second : second + 3] == [(b"AUTH", b"s3cret"), (b"CLIENT", b"SETNAME", b"me"), (b"SELECT", b"1")]
    assert await client.hgetall("h") == {b"field": b"value"}
    assert len(peer.connections) == 1
    (line,) = [each for each in caplog.records if "RESP2" in each.getMessage()]
    assert line.name.startswith("aioredis_kit.")


@pytest.mark.pins("5.3")
@pytest.mark.parametrize(
    ("name", "reply", "kind", "text"),
    [
        (
            "HELLO",
            "NOAUTH HELLO must be called with the client already authenticated",
            AuthenticationFailedError,
            "set password=",
        ),
        ("HELLO", "WRONGPASS invalid username-password pair", AuthenticationFailedError, "WRONGPASS|invalid username"),
        ("HELLO", "NOPROTO unsupported protocol version", HandshakeError, "leave it unset"),
        ("SELECT", "ERR DB index is out of range", HandshakeError, "out of range"),
        ("SELECT", "NOPERM User default has no permissions to run the 'select' command", HandshakeError, "SELECT"),
        ("PING", "NOAUTH Authentication required.", AuthenticationFailedError, "set password="),
    ],
)
async def test_a_server_that_refuses(peer, make_client, name, reply, kind, text):
    """The error names the step and the server's word, and what to do where that is known."""
    peer.on(name, resp.error(reply))
    client = make_client(protocol=3, db=5, reconnect_strategy=False)
    with pytest.raises(kind, match=text) as caught:
        await client.connect()
    assert caught.value.step == name
    assert caught.value.address == f"{peer.host}:{peer.port}"
    assert str(caught.value.__cause__.__cause__) in reply


@pytest.mark.pins("5.3")
async def test_a_user_who_may_not_ping(peer, make_client):
    """Any other answer than LOADING, MASTERDOWN and NOAUTH is a sign of life."""
    peer.on("PING", resp.error("NOPERM User default has no permissions to run the 'ping' command"))
    client = await make_client(ping_interval=0.01).connect()
    await client.wait_for("ping-interval", timeout=5)
    assert await client.get("k") == b"k"
    assert len(peer.connections) == 1


@pytest.mark.pins("5.3", "4.3", "P4")
@pytest.mark.parametrize(
    "code", ["LOADING Redis is loading the dataset in memory", "MASTERDOWN Link with MASTER is down"]
)
@pytest.mark.parametrize("step", ["HELLO", "SELECT", "PING"])
async def test_a_server_that_does_not_serve_yet(peer, clock, make_client, code, step):
    """Asked every 100 ms on the same connection, outside connect_timeout; commands wait, in order."""
    ok = {"HELLO": resp.mapping({}), "SELECT": resp.simple("OK"), "PING": resp.simple("PONG")}[step]
    peer.on(step, *[resp.error(code)] * 80, ok)
    client = make_client(connect_timeout=1, command_timeout=20, initial_connect_timeout=20, db=1)
    events = EventRecord(client)
    waiting = [asyncio.create_task(client.get(str(number))) for number in range(5)]
    await client.connect()
    assert clock() == pytest.approx(8, abs=0.1)
    assert events.names == ["connect", "ready"]
    assert await asyncio.gather(*waiting) == [str(number).encode() for number in range(5)]
    assert len(peer.connections) == 1
    gets = [each.words[1] for each in peer.commands if each.name == "GET"]
    assert gets == [str(number).encode() for number in range(5)]


@pytest.mark.pins("5.3", "5.2")
async def test_a_server_that_never_serves(peer, clock, make_client):
    """`connect()` ends by its own limit, and says why."""
    peer.on("PING", resp.error("LOADING Redis is loading the dataset in memory"))
    client = make_client(initial_connect_timeout=7)
    error = await outcome(client.connect())
    assert isinstance(error, ConnectTimeoutError)
    assert clock() == pytest.approx(7, abs=0.01)
    assert not client.is_open


@pytest.mark.pins("5.3", "case-133", "P2")
@pytest.mark.parametrize("step", ["HELLO", "SELECT", "CLIENT SETINFO", "PING"])
async def test_a_server_that_falls_silent(peer, clock, make_client, step):
    """At whichever step: connect_timeout ends the attempt, and the next one follows."""
    answers = {"HELLO": resp.mapping({}), "PING": resp.simple("PONG")}
    peer.on(step, None, None, answers.get(step, resp.simple("OK")))
    client = make_client(connect_timeout=2, reconnect_strategy=1, db=1, initial_connect_timeout=None)
    events = EventRecord(client)
    await client.connect()
    attempts = 1 if step == "CLIENT SETINFO" else 2
    assert events.names == ["connect", "error", "reconnecting"] * attempts + ["connect", "ready"]
    assert all(isinstance(error, ConnectTimeoutError) for error in events.of("error"))
    assert clock() == pytest.approx(3 * attempts, abs=0.01)


@pytest.mark.pins("5.3", "5.1", "case-19")
@pytest.mark.parametrize("step", ["HELLO", "SELECT", "CLIENT SETINFO", "PING"])
@pytest.mark.parametrize("how", ["close", "reset", "answer and close", "garbage", "one reply too many"])
async def test_a_server_that_hangs_up_at_each_step(peer, make_client, step, how):
    """One error each time, and another try."""
    ok = {"HELLO": resp.mapping({}), "PING": resp.simple("PONG")}.get(step, resp.simple("OK"))

    def misbehave(received):
        if received.connection.number > 1:
            return ok
        if how == "garbage":
            return b"garbage\r\n"
        if how == "one reply too many":
            return ok + resp.simple("more") * 5
        if how == "answer and close":
            received.connection.send(ok)
        getattr(received.connection, "reset" if how == "reset" else "close")()
        return None

    peer.on(step, misbehave)
    client = make_client(reconnect_strategy=0.0, db=1)
    events = EventRecord(client)
    await client.connect()
    await until(lambda: client.is_ready and peer.connections[-1].number >= 2)
    assert await client.get("k") == b"k"
    assert all(isinstance(error, ConnectError) or "nobody" in str(error) for error in events.of("error"))
    assert events.names.count("error") == events.names.count("reconnecting") == events.names.count("connect") - 1


@pytest.mark.pins("5.3", "5.2")
@pytest.mark.parametrize("count", range(0, 160, 7))
async def test_a_handshake_that_is_cut_anywhere(peer, make_client, count):
    """After so many bytes of the server's answers the connection ends: an error, and the next attempt succeeds."""
    async with FaultProxy(peer.host, peer.port) as proxy:
        proxy.cut_after(count, "to_client", scope="future")
        client = make_client(proxy.url, reconnect_strategy=lambda retries, cause: proxy.heal() or 0.0)
        await client.connect()
        assert len(peer.connections) == 2
        assert await client.get("k") == b"k"
        await client.close()


@pytest.mark.pins("5.3")
async def test_a_server_that_speaks_first(make_client):
    """Whatever it says before it was asked, as other protocols do: no crash, no hang."""
    greetings = [b"+OK\r\n", b"220 smtp.example.com ESMTP\r\n", b""]

    def greet(connection):
        connection.send(greetings[connection.number])

    async with ScriptedPeer(on_connection=greet) as peer:
        client = make_client(peer.url, reconnect_strategy=0.0)
        events = EventRecord(client)
        await client.connect()
        assert events.names[-1] == "ready"
        assert events.names.count("error") == 2
        assert await client.ping() is True
        await client.close()


# -- credentials ------------------------------------------------------------------------------------


@pytest.mark.shows_secrets("cause", reason="what the provider raises has one in its text")
@pytest.mark.pins("5.3", "case-25", "case-26", "P7")
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_provider_that_fails(peer, clock, make_client, is_async):
    """Raising or returning nonsense counts as a failed attempt; nothing of it is shown but its kind."""
    answers = iter([ValueError("s3cret"), "s3cret", ("user", 5), None, ("a", "b", "c"), ("user", "s3cret")])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask_asynchronously():
        return ask()

    client = make_client(credential_provider=ask_asynchronously if is_async else ask, reconnect_strategy=0.0)
    events = EventRecord(client)
    await client.connect()
    assert events.names == ["error", "reconnecting"] * 5 + ["connect", "ready"]
    assert all(isinstance(error, ConnectError) for error in events.of("error"))
    assert not any("s3cret" in str(error) for error in events.of("error"))
    assert peer.commands[0].words == (b"HELLO", b"3", b"AUTH", b"user", b"s3cret")


@pytest.mark.pins("5.3")
async def test_a_provider_that_hangs(peer, clock, make_client):
    """Asked outside connect_timeout, with 30 seconds of its own; then the next attempt asks again."""
    calls = []

    async def ask():
        calls.append(clock())
        if len(calls) < 3:
            await asyncio.Event().wait()
        return "user", "s3cret"

    client = make_client(credential_provider=ask, connect_timeout=1, initial_connect_timeout=None, reconnect_strategy=2)
    events = EventRecord(client)
    await client.connect()
    assert calls == pytest.approx([0, 32, 64], abs=0.01)
    assert all(isinstance(error, ConnectTimeoutError) for error in events.of("error"))
    assert events.names == ["error", "reconnecting"] * 2 + ["connect", "ready"]


@pytest.mark.pins("5.3")
@pytest.mark.parametrize(
    "provider",
    [
        UsernamePasswordCredentialProvider("user", "s3cret"),
        partial(lambda password: ("user", password), "s3cret"),
        lambda: Credentials("user", "s3cret"),
        lambda: asyncio.sleep(0, ("user", "s3cret")),
    ],
    ids=["redis-py's", "partial", "Credentials", "lambda"],
)
async def test_kinds_of_credential_providers(peer, make_client, provider):
    """Synchronous, asynchronous, redis-py's own: all come to the same."""
    await make_client(credential_provider=provider, reconnect_strategy=False).connect()
    assert peer.commands[0].words == (b"HELLO", b"3", b"AUTH", b"user", b"s3cret")


@pytest.mark.pins("5.3", "P2")
async def test_a_provider_that_is_cancelled(peer, make_client):
    """Something that it waits for was cancelled, nobody asked us to stop: a failed attempt like any other."""
    calls = []

    async def ask():
        calls.append(1)
        if len(calls) < 3:
            raise asyncio.CancelledError
        return "user", "s3cret"

    client = make_client(credential_provider=ask, reconnect_strategy=0.0)
    events = EventRecord(client)
    await client.connect()
    assert events.names == ["error", "reconnecting"] * 2 + ["connect", "ready"]


@pytest.mark.pins("5.3", "case-25")
async def test_a_server_that_hangs_up_while_the_provider_is_asked(peer, make_client):
    """The provider is asked before each handshake, so a slow one never meets a socket that died meanwhile."""
    go_on = asyncio.Event()

    async def ask():
        await go_on.wait()
        return "user", f"s3cret-{len(peer.connections)}"

    client = make_client(credential_provider=ask, reconnect_strategy=0.0)
    connecting = asyncio.create_task(client.connect())
    await turns()
    for connection in peer.connections:
        connection.close()
    go_on.set()
    await connecting
    peer.connections[0].close()
    await until(lambda: len(peer.connections) == 2 and client.is_ready)
    assert [each.words[-1] for each in peer.commands if each.name == "HELLO"] == [b"s3cret-0", b"s3cret-1"]
