"""Listeners that use the client, destroy it, close it or open it again (5.4, 4.19, 4.20)."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import ClientState
from aioredis_kit.exceptions import ClientClosedError
from tests.support.observing import job_tasks, outcome, turns, until


@pytest.mark.pins("5.4", "P1")
@pytest.mark.parametrize("event", ["connect", "ready", "reconnecting", "error", "ping-interval"])
async def test_commands_from_a_listener(peer, make_client, event):
    """In a task of a plain one, or awaited in an asynchronous one."""
    client = make_client(reconnect_strategy=0.0, ping_interval=0.02)
    replies = []

    async def ask(*_):
        replies.append(await client.get(event))

    tasks = []
    client.on(event, lambda *_: tasks.append(asyncio.ensure_future(ask())))
    client.once(event, ask)
    await client.connect()
    if event in ("reconnecting", "error"):
        peer.connections[0].close()
    await until(lambda: len(replies) >= 2)
    assert set(replies) == {event.encode()}
    await client.close()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.pins("5.4", "4.1")
@pytest.mark.parametrize("event", ["end", "terminated"])
async def test_commands_from_a_listener_of_the_end(peer, make_client, event):
    """The client is closed; only `connect()` opens it."""
    client = await make_client(reconnect_strategy=False).connect()
    results = []

    @client.on(event)
    async def ask(*_):
        results.append(await outcome(client.get("k")))

    if event == "end":
        await client.close()
    else:
        peer.connections[0].close()
    await until(lambda: results)
    assert isinstance(results[0], ClientClosedError)


@pytest.mark.pins("5.4", "4.20", "P6")
@pytest.mark.parametrize("event", ["connect", "ready", "reconnecting", "error", "ping-interval", "end"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_destroying_from_a_listener(peer, make_client, event, is_async):
    """Whichever event it is: `end`, then nothing, and nothing is left."""
    client = make_client(reconnect_strategy=0.01, ping_interval=0.02)
    ends = []

    def destroy(*_):
        client.destroy()

    async def destroy_asynchronously(*_):
        client.destroy()

    client.on(event, destroy_asynchronously if is_async else destroy)
    client.on("end", lambda: ends.append(client.state))
    await outcome(client.connect())
    if event == "end":
        client.destroy()
    elif event in ("reconnecting", "error"):
        peer.connections[0].close()
    await until(lambda: ends)
    await client.close()
    await turns()
    assert ends == [ClientState.CLOSED]
    assert not job_tasks()
    with pytest.raises(ClientClosedError):
        await client.get("k")


@pytest.mark.pins("5.4", "4.19", "P6", "P2")
@pytest.mark.parametrize("event", ["connect", "ready", "reconnecting", "error", "ping-interval", "end"])
@pytest.mark.parametrize("end", ["close", "aclose"])
async def test_closing_from_an_asynchronous_listener(peer, make_client, event, end):
    """It is not cancelled by that: it goes on when the client is closed."""
    client = make_client(reconnect_strategy=0.01, ping_interval=0.02, close_timeout=0.5)
    went_on = []

    @client.on(event)
    async def listen(*_):
        await getattr(client, end)()
        await asyncio.sleep(0)
        went_on.append(client.is_open)

    await outcome(client.connect())
    if event == "end":
        client.destroy()
    elif event in ("reconnecting", "error"):
        peer.connections[0].close()
    async with asyncio.timeout(3):
        await until(lambda: went_on)
        await client.close()
    assert went_on == [False]
    await until(lambda: not job_tasks())


@pytest.mark.pins("5.4", "5.2", "P2", "P6")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("end", ["close", "destroy"])
async def test_reopening_from_a_listener_of_end(peer, make_client, is_async, end):
    """The old life ends, with the `close()` that ended it, and the new one begins."""
    client = await make_client(close_timeout=0.5).connect()
    tasks = []

    async def reopen():
        await client.connect()

    client.once("end", reopen if is_async else lambda: tasks.append(asyncio.create_task(reopen())))
    async with asyncio.timeout(3):
        if end == "close":
            await client.close()
        else:
            client.destroy()
        await until(lambda: client.is_ready)
    assert await client.get("k") == b"k"
    assert len(peer.connections) == 2
    await asyncio.gather(*tasks)
    await client.close()
    assert not job_tasks()
