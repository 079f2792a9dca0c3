"""The end of subscriptions: left, closed with their client, given up, and what comes after that."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import (
    ClientClosedError,
    ConnectError,
)
from aioredis_kit.pubsub.message import Message
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, job_tasks, outcome, until

pins = pytest.mark.pins

LOST = Message("gap", None, None, None, None, "connection lost")


def message(channel, data):
    return Message("message", channel, data)


@pins("P2", "P6")
@pytest.mark.parametrize("way", ["close", "destroy", "aclose"])
async def test_closing_the_client_ends_it_behind_what_had_come(client, broadcaster, way):
    async with client.subscribe("news") as messages, client.subscribe("other") as other:
        waiting = asyncio.create_task(anext(other))
        broadcaster.publish("news", "1")
        await until(lambda: messages._items)
        if way == "destroy":
            client.destroy()
        else:
            await getattr(client, way)()
        assert await messages.get() == message("news", "1")
        for _ in range(2):
            assert isinstance(await outcome(messages.get()), ClientClosedError)
        assert isinstance(await outcome(waiting), ClientClosedError)
    await client.close()
    assert not job_tasks()
    await broadcaster.connection.wait_closed()


@pins("P2", "P6")
async def test_closing_ends_who_is_still_subscribing(client, broadcaster):
    broadcaster.unconfirmed = {"news"}
    entering = asyncio.create_task(client.subscribe("news").__aenter__())
    await until(lambda: broadcaster.requests)
    client.destroy()
    assert isinstance(await outcome(entering), ClientClosedError)


@pins("case-61")
async def test_quit_with_subscriptions(client, broadcaster):
    async with client.subscribe("news") as messages:
        assert await client.quit() is True
        assert isinstance(await outcome(messages.get()), ClientClosedError)


async def test_leaving_ends_the_iteration_of_another_task(client, broadcaster):
    async def iterate(messages):
        return [each.data async for each in messages]

    async with client.subscribe("news") as messages:
        iterating = asyncio.create_task(iterate(messages))
        broadcaster.publish("news", "1")
        await until(lambda: len(broadcaster.peer.commands) and messages._mailbox.is_awaited)
        await client.get("k")
        await client.get("k")
    assert await iterating == ["1"]
    assert isinstance(await outcome(messages.get()), ClientClosedError)


@pins("P2", "4.18")
async def test_a_strategy_that_gives_up_ends_it(make_client, broadcaster, protocol):
    """The push connection alone: the client goes on, and who subscribes later connects anew."""
    gives_up = False
    client = make_client(
        protocol=protocol, decode_responses=True, reconnect_strategy=lambda *_: False if gives_up else 0.0
    )
    await client.connect()
    events = EventRecord(client)
    async with client.subscribe("news") as messages:
        gives_up = True
        broadcaster.connection.close()
        assert await messages.get() == LOST
        assert isinstance(await outcome(messages.get()), ConnectError)
        await events.wait_for("error")
        assert [(type(error), error.lane) for error in events.of("error")] == [(ConnectError, "push")]
        assert client.is_ready
        async with client.subscribe("news") as again:
            broadcaster.publish("news", "1")
            assert await again.get() == message("news", "1")


@pins("4.18")
async def test_a_strategy_that_gives_up_before_it_is_subscribed(make_client, broadcaster, protocol):
    """The push connection alone: who subscribes is told, and the client goes on."""
    client = await make_client(protocol=protocol, db=1, reconnect_strategy=False).connect()
    broadcaster.peer.on("SELECT", resp.error("ERR no"))
    error = await outcome(client.subscribe("news").__aenter__())
    assert isinstance(error, ConnectError)
    assert client.is_ready
    broadcaster.peer.on("SELECT", resp.simple("OK"))
    async with client.subscribe("news"):
        assert broadcaster.topics == {("", "news")}


async def test_a_client_of_an_ended_life_begins_afresh(client, broadcaster):
    async with client.subscribe("news"):
        await client.aclose()
    async with client.subscribe("news") as messages:
        broadcaster.publish("news", "1")
        assert await messages.get() == message("news", "1")


async def test_secrets_stay_out_of_what_is_shown(make_client, broadcaster, protocol):
    client = await make_client(protocol=protocol, username="user", password="hunter2").connect()
    subscribe = client.subscribe("news")
    async with subscribe as messages:
        shown = [repr(each) for each in (subscribe, messages, client.pubsub(), broadcaster.peer.commands)]
    assert any(b"hunter2" in each.words for each in broadcaster.peer.commands)
    shown.append(str(await outcome(messages.get())))
    assert ["hunter2" in each for each in shown] == [False] * 5
