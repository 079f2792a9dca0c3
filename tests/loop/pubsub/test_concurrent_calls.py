"""Calls about subscriptions that meet, or fail: each has an effect of its own, or none."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit import CommandTimeoutError
from tests.support.observing import outcome, turns, until

pins = pytest.mark.pins


# -- at the same time -------------------------------------------------------------------------------


@pins("P2")
@pytest.mark.parametrize("way", ["pubsub", "listener"])
async def test_the_first_of_two_who_subscribe_is_cancelled(client, broadcaster, way):
    """The other has subscribed, as it is told."""
    pubsub = client.pubsub()

    async def subscribe(name):
        await (pubsub.subscribe(name) if way == "pubsub" else client.subscribe(name, print))

    await subscribe("other")
    held = broadcaster.hold("SUBSCRIBE")
    first = asyncio.create_task(subscribe("a"))
    await until(lambda: held, "the command")
    second = asyncio.create_task(subscribe("a"))
    await turns()
    first.cancel()
    assert isinstance(await outcome(first), asyncio.CancelledError)
    broadcaster.go_on()
    await second
    await client._push_lane().settle(5)
    assert broadcaster.topics == {("", "other"), ("", "a")}
    await pubsub.aclose()


@pins("P2", "4.8")
async def test_the_first_of_two_who_subscribe_is_late(clock, make_client, broadcaster, protocol):
    """The other is not told that it has subscribed: it has its own deadline."""
    client = await make_client(protocol=protocol, command_timeout=1.0, ping_interval=None, ping_timeout=100).connect()
    pubsub = client.pubsub()
    await pubsub.subscribe("other")
    broadcaster.hold("SUBSCRIBE")
    begun = clock()
    first = asyncio.create_task(pubsub.subscribe("a"))
    await asyncio.sleep(0.5)  # of virtual time: half of the first one's
    second = asyncio.create_task(pubsub.subscribe("a"))
    for task, end in ((first, 1.0), (second, 1.5)):
        assert isinstance(await outcome(task), CommandTimeoutError)
        assert clock() - begun == pytest.approx(end, abs=0.1)
    await pubsub.aclose()


async def test_subscribing_while_it_is_being_unsubscribed(client, broadcaster):
    """What was called last holds."""
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    await asyncio.gather(pubsub.unsubscribe("a"), pubsub.subscribe("a"))
    assert pubsub.channels == {"a": None}
    await client._push_lane().settle(5)
    assert broadcaster.topics == {("", "a")}
    await pubsub.aclose()


# -- in vain ----------------------------------------------------------------------------------------


@pins("P2")
async def test_a_refused_call_leaves_no_confirmation(client, broadcaster):
    """One of its channels was allowed."""
    broadcaster.refused = {"secret"}
    pubsub = client.pubsub()
    with pytest.raises(NoPermissionError):
        await pubsub.subscribe("a", "secret")
    await client._push_lane().settle(5)
    assert await pubsub.get_message() is None
    assert not pubsub._inbox.items
    await pubsub.aclose()


@pins("P2")
async def test_a_cancelled_call_leaves_no_message(client, broadcaster):
    """One of its channels was confirmed."""
    broadcaster.unconfirmed = {"b"}
    pubsub = client.pubsub()
    subscribing = asyncio.create_task(pubsub.subscribe("a", "b"))
    await until(lambda: broadcaster.requests, "the command")
    broadcaster.publish("a", "1")
    await until(lambda: pubsub._inbox.items and pubsub._inbox.items[-1][0] == b"message", "the message")
    subscribing.cancel()
    assert isinstance(await outcome(subscribing), asyncio.CancelledError)
    assert await pubsub.get_message() is None
    assert not pubsub._inbox.items
    await pubsub.aclose()


@pins("P2")
async def test_a_refused_call_does_not_undo_that_it_was_unsubscribed(client, broadcaster):
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    await pubsub.unsubscribe("a")
    broadcaster.refused = {"a"}
    with pytest.raises(NoPermissionError):
        await pubsub.subscribe("a")
    assert (await pubsub.get_message(timeout=5))["type"] == "unsubscribe"
    assert not pubsub.subscribed
    await pubsub.aclose()
