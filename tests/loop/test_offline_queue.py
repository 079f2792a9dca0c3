"""Commands while there is no connection: they wait, or fail at once where that was asked for (4.3, 4.4, 4.10)."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit.exceptions import ConnectError, ConnectionLostError, NotConnectedError
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, turns, until


def gets(peer):
    """The keys that GET came for, in the order of arrival."""
    return [each.words[1] for each in peer.commands if each.name == "GET"]


@pytest.mark.pins("4.3", "P4", "5.5")
async def test_commands_wait_for_the_first_connection(peer, make_client):
    """And go out in order, all in one write, when it is ready."""
    peer.on("PING", None)
    client = make_client()
    tasks = [asyncio.create_task(client.get(str(number))) for number in range(100)]
    await peer.wait_for_command("PING")
    await turns()
    assert gets(peer) == []
    peer.connections[0].send(resp.simple("PONG"))
    assert await asyncio.gather(*tasks) == [str(number).encode() for number in range(100)]
    assert gets(peer) == [str(number).encode() for number in range(100)]
    assert len(peer.connections[0].chunks) == 2


@pytest.mark.pins("4.3", "4.10", "case-35")
async def test_commands_wait_for_the_next_connection(peer, clock, make_client):
    """As long as their deadlines allow: those that come in during the back-off, and during the handshake."""
    client = await make_client(reconnect_strategy=3, connect_timeout=3).connect()
    events = EventRecord(client)
    peer.connections[0].close()
    await events.wait_for("reconnecting")
    first = asyncio.create_task(client.get("during the back-off"))
    peer.on("PING", None)
    await events.wait_for("connect")
    second = asyncio.create_task(client.get("during the handshake"))
    await peer.wait_for_command("PING", count=2)
    peer.connections[1].send(resp.simple("PONG"))
    assert await asyncio.gather(first, second) == [b"during the back-off", b"during the handshake"]
    assert clock() == pytest.approx(3, abs=0.1)
    assert gets(peer) == [b"during the back-off", b"during the handshake"]


@pytest.mark.pins("4.4", "P3", "case-46")
async def test_without_a_queue_a_command_fails_at_once(peer, make_client):
    """Never connected, connecting, reconnecting: `NotConnectedError`, and the connecting goes on."""
    peer.on("PING", None)
    client = make_client(disable_offline_queue=True, reconnect_strategy=0.02)
    events = EventRecord(client)

    async def is_refused():
        error = await outcome(client.get("k"))
        assert isinstance(error, NotConnectedError)
        assert error.maybe_executed is False
        assert "disable_offline_queue" in str(error)

    await is_refused()
    await peer.wait_for_command("PING")
    await is_refused()
    assert client.is_open
    peer.on("PING", resp.simple("PONG"))
    peer.connections[0].send(resp.simple("PONG"))
    await client.connect()
    assert await client.get("k") == b"k"
    peer.connections[0].close()
    await events.wait_for("reconnecting")
    await is_refused()
    await events.wait_for("ready", 2)
    assert await client.get("k") == b"k"


@pytest.mark.pins("4.4", "4.11", "P3", "case-49")
@pytest.mark.parametrize("allowed", ["never", "read_only", "idempotent"])
async def test_without_a_queue_a_loss_ends_everything(peer, make_client, allowed):
    """Written: lost, maybe executed, reads too. Unwritten: not connected, not executed. Nothing is sent again."""
    client = make_client(
        disable_offline_queue=True, commands_queue_max_length=2, retry_unanswered=allowed, reconnect_strategy=0.0
    )
    await client.connect()
    peer.on("GET", None)
    written = [asyncio.create_task(client.get(str(number))) for number in range(2)]
    await peer.wait_for_command("GET", count=2)
    unwritten = [asyncio.create_task(client.get(str(number))) for number in range(2, 4)]
    await turns()
    peer.on("GET", resp.bulk("x"))
    peer.connections[0].close()
    for task in written:
        error = await outcome(task)
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed is True
    for task in unwritten:
        error = await outcome(task)
        assert isinstance(error, NotConnectedError)
        assert error.maybe_executed is False
    await until(lambda: client.is_ready)
    assert await client.get("next") == b"x"
    assert gets(peer) == [b"0", b"1", b"next"]


@pytest.mark.pins("4.4", "5.5")
async def test_without_a_queue_a_full_socket_is_no_lost_connection(peer, make_client):
    """A client that is only waiting for the peer to read takes commands all the same."""
    client = await make_client(disable_offline_queue=True, command_timeout=30).connect()
    (connection,) = peer.connections
    connection.pause_reading()
    value = b"x" * 2**20
    tasks = [asyncio.create_task(client.set(str(number), value)) for number in range(20)]
    await until(lambda: not client.is_ready)
    tasks.append(asyncio.create_task(client.get("k")))
    await turns()
    connection.resume_reading()
    assert await asyncio.gather(*tasks) == [True] * 20 + [b"k"]
    assert client.is_ready


@pytest.mark.pins("4.18", "4.3", "P3")
async def test_what_waits_learns_why_in_vain(make_client, unused_port):
    """Each command gets an error of its own, with the one cause."""
    client = make_client(
        f"redis://127.0.0.1:{unused_port}", reconnect_strategy=lambda retries, _: 0.0 if retries < 3 else False
    )
    errors = await asyncio.gather(*(client.get(str(number)) for number in range(5)), return_exceptions=True)
    assert all(isinstance(error, ConnectError) and not error.maybe_executed for error in errors)
    assert {error.attempts for error in errors} == {4}
    assert len({id(error) for error in errors}) == 5
    assert len({id(error.__cause__) for error in errors}) == 1
