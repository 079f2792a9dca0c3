"""Opening a client: `connect()`, `async with` and the first command, alone, together, cancelled and in vain."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from aioredis_kit import ClientState, create_client
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
)
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, job_tasks, outcome, sockets_to, timers, turns, until

HOUR = 3600.0


def silent(peer):
    """Let the peer accept and never answer the handshake."""
    peer.on("HELLO", None)
    peer.on("PING", None)


# -- in good order ----------------------------------------------------------------------------------


@pytest.mark.pins("5.2", "5.5", "case-18")
async def test_connecting(peer, make_client):
    """`connect()` returns the client, ready; before it, the client is neither open nor ready."""
    client = make_client()
    assert (client.is_open, client.is_ready, client.state) == (False, False, ClientState.NEW)
    connecting = asyncio.create_task(client.connect())
    await turns(1)
    assert (client.is_open, client.is_ready, client.state) == (True, False, ClientState.CONNECTING)
    assert await connecting is client
    assert (client.is_open, client.is_ready, client.state) == (True, True, ClientState.READY)


@pytest.mark.pins("5.2", "case-34")
async def test_connecting_a_client_that_is_open(peer, make_client):
    """node-redis raises. Here it waits while connecting, and returns at once while ready: one connection for all."""
    client = make_client()
    assert await asyncio.gather(*(client.connect() for _ in range(10))) == [client] * 10
    assert await client.connect() is client
    async with client as entered, client as again:
        assert entered is again is client
        assert client.is_ready
    assert not client.is_open
    assert len(peer.connections) == 1


@pytest.mark.pins("5.2")
async def test_connecting_while_reconnecting_waits_until_ready(peer, make_client):
    """Called after a loss it returns with the next connection."""
    client = await make_client(reconnect_strategy=0.02).connect()
    events = EventRecord(client)
    peer.connections[0].close()
    await events.wait_for("reconnecting")
    assert (client.is_open, client.is_ready, client.state) == (True, False, ClientState.RECONNECTING)
    assert await client.connect() is client
    assert client.is_ready
    assert len(peer.connections) == 2


@pytest.mark.pins("5.2", "5.5")
async def test_connecting_while_the_strategy_is_asked(peer, make_client):
    """An asynchronous strategy may take its time: until it has answered the client is not ready either."""
    has_decided = asyncio.Event()

    async def decide(retries, cause):
        await has_decided.wait()
        return 0.0

    client = await make_client(reconnect_strategy=decide).connect()
    peer.connections[0].close()
    await until(lambda: not client.is_ready)
    connecting = asyncio.create_task(client.connect())
    await turns()
    assert not connecting.done()
    assert client.state is ClientState.RECONNECTING
    has_decided.set()
    assert await connecting is client
    assert client.is_ready


@pytest.mark.pins("5.5", "4.2")
async def test_the_first_command_connects(peer, make_client):
    """A client is open from its first command on."""
    client = make_client()
    reply = asyncio.create_task(client.get("k"))
    await turns(1)
    assert client.is_open
    assert not client.is_ready
    assert await reply == b"k"
    assert client.is_ready


@pytest.mark.pins("4.2", "4.7")
async def test_cancelling_the_first_command_never_stops_the_connecting(peer, make_client):
    """It only takes itself back."""
    client = make_client()
    first = asyncio.create_task(client.get("first"))
    await turns(1)
    first.cancel()
    assert isinstance(await outcome(first), asyncio.CancelledError)
    await until(lambda: client.is_ready)
    assert await client.get("second") == b"second"
    assert [each.words[1] for each in peer.commands if each.name == "GET"] == [b"second"]


@pytest.mark.pins("4.2", "4.7")
async def test_the_first_commands_deadline_never_stops_the_connecting(peer, clock, make_client):
    """Bounded by the strategy only: not by command_timeout, nor by initial_connect_timeout."""
    client = make_client(command_timeout=1, connect_timeout=2, reconnect_strategy=5)
    events = EventRecord(client)
    silent(peer)
    error = await outcome(client.get("k"))
    assert error.maybe_executed is False
    await events.wait_for("reconnecting", 5, timeout=HOUR)
    assert clock() > 25
    assert client.is_open
    assert job_tasks()


@pytest.mark.pins("5.2", "case-31")
@pytest.mark.parametrize("end", ["close", "destroy", "aclose", "terminated"])
async def test_connecting_again(peer, make_client, end):
    """After each way in which a client can end, as often as one likes."""
    answers = iter([False, False, False])
    client = make_client(reconnect_strategy=lambda retries, cause: next(answers))
    for life in range(3):
        await client.connect()
        assert await client.get("k") == b"k"
        if end == "terminated":
            peer.connections[-1].close()
            await client.wait_for("terminated", timeout=5)
        elif end == "destroy":
            client.destroy()
        else:
            await getattr(client, end)()
        assert not client.is_open
        assert len(peer.connections) == life + 1


@pytest.mark.pins("5.2", "P6")
async def test_connecting_right_after_destroying(peer, client):
    """In the same turn of the loop: the old life ends, the new one is not touched by that."""
    for _ in range(3):
        client.destroy()
        await client.connect()
        assert await client.get("k") == b"k"
    client.destroy()
    await client.close()
    assert not job_tasks()


# -- in vain ----------------------------------------------------------------------------------------


@pytest.mark.pins("5.2", "P2", "P6", "case-133")
async def test_connecting_takes_no_longer_than_it_may(peer, clock, make_client):
    """A server that accepts and never answers: an error and another try for each attempt, then the end."""
    silent(peer)
    client = make_client(connect_timeout=1, initial_connect_timeout=6.5, reconnect_strategy=1)
    events = EventRecord(client)
    error = await outcome(client.connect())
    assert isinstance(error, ConnectTimeoutError)
    assert "initial_connect_timeout" in str(error)
    assert isinstance(error.__cause__, ConnectTimeoutError)
    assert error.address == f"{peer.host}:{peer.port}"
    assert error.attempts in {3, 4}  # the last one was under way
    assert error.maybe_executed is False
    assert clock() == pytest.approx(6.5, abs=0.01)
    assert events.names == ["connect", "error", "reconnecting"] * 3 + ["connect", "end"]
    assert (client.is_open, client.state) == (False, ClientState.CLOSED)
    assert not job_tasks()
    assert not timers(asyncio.get_running_loop())
    with pytest.raises(ClientClosedError):
        await client.get("k")


@pytest.mark.pins("5.2", "P2")
async def test_connecting_without_a_limit(peer, clock, make_client):
    """As long as the strategy goes on: as node-redis."""
    silent(peer)
    client = make_client(initial_connect_timeout=None, connect_timeout=10, reconnect_strategy=50)
    connecting = asyncio.create_task(client.connect())
    events = EventRecord(client)
    await events.wait_for("reconnecting", 10, timeout=HOUR)
    assert clock() > 500
    assert not connecting.done()
    peer.on("HELLO", resp.mapping({}))
    peer.on("PING", resp.simple("PONG"))
    assert await connecting is client


@pytest.mark.pins("case-28", "5.2")
async def test_a_blocked_loop_does_not_hide_the_time_out(peer, make_client):
    """connect_timeout of 1 ms and a loop that is blocked for 50: an error, without a listener for it."""
    silent(peer)
    client = make_client(connect_timeout=0.001, reconnect_strategy=False)
    connecting = asyncio.create_task(client.connect())
    await turns(2)
    time.sleep(0.05)  # noqa: ASYNC251  # blocking the loop is what this is about
    assert isinstance(await outcome(connecting), ConnectTimeoutError)


@pytest.mark.pins("5.2", "P6", "case-20")
@pytest.mark.parametrize("listens", [True, False])
async def test_a_strategy_that_gives_up_at_once(make_client, unused_port, listens):
    """`connect()` raises; the client is closed, whether or not somebody listens to `error`."""
    client = make_client(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=False)
    events = EventRecord(client) if listens else []
    error = await outcome(client.connect())
    assert isinstance(error, ConnectError)
    assert (error.attempts, error.maybe_executed) == (1, False)
    assert isinstance(error.__cause__, ConnectError)
    assert (client.is_open, client.state) == (False, ClientState.TERMINATED)
    assert not job_tasks()
    if listens:
        assert events.names == ["terminated", "error"]


@pytest.mark.pins("5.2", "4.18", "P3")
async def test_a_wrong_password_is_final_at_first(peer, make_client):
    """Waiting can't mend it: `connect()` and the commands that wait get the server's word."""
    peer.on("HELLO", resp.error("WRONGPASS invalid username-password pair or user is disabled."))
    client = make_client(password="wr0ng-one")
    waiting = asyncio.create_task(client.get("k"))
    error = await outcome(client.connect())
    assert isinstance(error, AuthenticationFailedError)
    assert error.step == "HELLO"
    command_error = await outcome(waiting)
    assert isinstance(command_error, AuthenticationFailedError)
    assert command_error.maybe_executed is False
    assert len(peer.connections) == 1
    with pytest.raises(ClientClosedError) as caught:
        await client.get("k")
    assert isinstance(caught.value.__cause__, AuthenticationFailedError)


@pytest.mark.pins("5.2", "P2")
async def test_one_impatient_caller_among_many(peer, clock, make_client):
    """Each waits by its own limit; all learn why it came to nothing."""
    silent(peer)
    client = make_client(connect_timeout=30, initial_connect_timeout=3)
    early = asyncio.create_task(client.connect())
    await asyncio.sleep(2)
    late = asyncio.create_task(client.connect())
    assert isinstance(await outcome(early), ConnectTimeoutError)
    assert isinstance(await outcome(late), ConnectError | ClientClosedError)
    assert clock() <= 5.01
    assert not client.is_open


# -- cancelled --------------------------------------------------------------------------------------


@pytest.mark.pins("5.2", "P6")
@pytest.mark.parametrize("delay", range(16))
async def test_cancelling_connect_at_any_turn(peer, make_client, delay):
    """It ends cancelled with nothing left behind, or ready; then the client can be opened again."""
    client = make_client()
    connecting = asyncio.create_task(client.connect())
    await turns(delay)
    if connecting.cancel():
        assert isinstance(await outcome(connecting), asyncio.CancelledError)
        assert not client.is_open
        assert not job_tasks()
        assert not sockets_to(peer.port)
        gc.collect()  # a socket that was left behind warns
    assert await client.connect() is client
    assert await client.get("k") == b"k"


@pytest.mark.pins("5.2", "4.20", "P6")
@pytest.mark.parametrize("delay", range(1, 16))
async def test_destroying_at_any_turn_of_connecting(peer, make_client, delay):
    """`connect()` ends with `ClientClosedError`, `end` comes once, nothing is left."""
    client = make_client()
    events = EventRecord(client)
    connecting = asyncio.create_task(client.connect())
    await turns(delay)
    client.destroy()
    result = await outcome(connecting)
    assert result is client or isinstance(result, ClientClosedError)
    await client.close()
    assert not sockets_to(peer.port)
    assert events.names.count("end") == 1
    assert events.names[-1] == "end"
    assert not client.is_open
    assert not job_tasks()
    gc.collect()  # a socket that was left behind warns


@pytest.mark.pins("5.2")
async def test_cancelling_one_of_several_callers_of_connect(peer, make_client):
    """The others are waiting, so the connecting goes on; the last one ends it."""
    silent(peer)
    client = make_client()
    first, second = (asyncio.create_task(client.connect()) for _ in range(2))
    await peer.wait_for_command("HELLO")
    first.cancel()
    assert isinstance(await outcome(first), asyncio.CancelledError)
    assert client.is_open
    second.cancel()
    assert isinstance(await outcome(second), asyncio.CancelledError)
    assert not client.is_open
    assert not job_tasks()


@pytest.mark.pins("5.2", "4.2")
async def test_cancelling_connect_while_a_command_waits(peer, make_client):
    """The command still wants the connection."""
    peer.on("PING", None)
    client = make_client()
    reply = asyncio.create_task(client.get("k"))
    await turns(1)
    connecting = asyncio.create_task(client.connect())
    await peer.wait_for_command("PING")
    connecting.cancel()
    assert isinstance(await outcome(connecting), asyncio.CancelledError)
    peer.connections[0].send(resp.simple("PONG"))
    assert await reply == b"k"


@pytest.mark.pins("5.2")
async def test_entering_in_vain_counts_for_nothing(peer, make_client, unused_port):
    """An `async with` that could not connect leaves the client as any other failed `connect()` does."""
    client = make_client(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=False)
    for _ in range(2):
        with pytest.raises(ConnectError):
            async with client:
                raise AssertionError
        assert not client.is_open


# -- a copy -----------------------------------------------------------------------------------------


@pytest.mark.pins("case-40")
async def test_duplicating(peer, make_client):
    """The copy has the options, its view's included, and neither connection nor listeners."""
    original = make_client(client_name="me", command_timeout=3, reconnect_strategy=0.0)
    events = EventRecord(original)
    view = original.with_options(command_timeout=7, decode_responses=True)
    copy = view.duplicate(client_name="you")
    assert (copy.is_open, copy.state) == (False, ClientState.NEW)
    async with copy:
        assert await copy.get("k") == "k"
        assert copy._options.timeout == 7
        assert peer.commands[0].words == (b"HELLO", b"3", b"SETNAME", b"you")
    assert events == []
    assert original.state is ClientState.NEW


@pytest.mark.pins("case-40")
def test_duplicating_with_another_spelling_of_an_option():
    """What the original says does not contradict it."""
    assert create_client(command_timeout=3).duplicate(socket_timeout=7)._options.timeout == 7
