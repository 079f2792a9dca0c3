"""redis-py's ``pubsub()`` after its client's ``aclose()``, which it is told of: it subscribes again when it is used."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import ClientClosedError
from tests.support.observing import outcome, until

pins = pytest.mark.pins


@pytest.fixture
async def pubsub(client, broadcaster):
    """One that had subscribed to two channels, and was told of the end."""
    pubsub = client.pubsub()
    await pubsub.subscribe("a", "b")
    await client.aclose()
    assert [(await pubsub.get_message(timeout=5))["channel"] for _ in range(2)] == ["a", "b"]
    with pytest.raises(ClientClosedError):
        await pubsub.get_message(timeout=5)
    yield pubsub
    await pubsub.aclose()


async def types(pubsub, count):
    messages = [await pubsub.get_message(timeout=5) for _ in range(count)]
    return [(message["type"], message["channel"]) for message in messages]


@pins("P6", "4.21")
async def test_two_who_wait_revive_it_once(client, broadcaster, pubsub):
    held = broadcaster.hold("SUBSCRIBE")
    waiting = [asyncio.create_task(types(pubsub, 1)) for _ in range(2)]
    await until(lambda: held, "the command")
    broadcaster.go_on()
    assert [await each for each in waiting] == [[("gap", None)], [("subscribe", "a")]]
    assert await types(pubsub, 1) == [("subscribe", "b")]
    await pubsub.aclose()
    await client._push_lane().settle(5)
    assert not broadcaster.topics


@pins("P6", "4.21")
async def test_closed_while_it_is_revived(client, broadcaster, pubsub):
    held = broadcaster.hold("SUBSCRIBE")
    waiting = asyncio.create_task(pubsub.get_message(timeout=5))
    await until(lambda: held, "the command")
    await pubsub.aclose()
    broadcaster.go_on()
    assert await outcome(waiting) is None
    await client._push_lane().settle(5)
    assert pubsub.connection is None
    assert not broadcaster.topics


@pins("4.21")
async def test_what_was_unsubscribed_before_is_not_subscribed_again(client, broadcaster, pubsub):
    await pubsub.unsubscribe("a")
    seen = await types(pubsub, 3)
    assert broadcaster.topics == {("", "b")}
    assert seen == [("unsubscribe", "a"), ("gap", None), ("subscribe", "b")]


@pins("4.21")
async def test_what_had_come_before_is_told_before(client, broadcaster):
    """Nobody had taken it, and subscribing is what revives it."""
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    broadcaster.publish("a", "1")
    await client._push_lane().settle(5)
    await client.aclose()
    await pubsub.subscribe("b")
    expected = [("subscribe", "a"), ("message", "a"), ("gap", None), ("subscribe", "a"), ("subscribe", "b")]
    assert await types(pubsub, 5) == expected
    await pubsub.aclose()
