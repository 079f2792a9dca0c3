"""Subscriptions to iterate over, on the push lane: what is sent, what is delivered, what is announced as missing."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    QueueFullError,
)
from aioredis_kit.lanes.push import REPAIR_PAUSE
from aioredis_kit.pubsub.message import Message
from aioredis_kit.testing import resp
from tests.support.broadcaster import Broadcaster, collect
from tests.support.observing import EventRecord, outcome, turns, until

pins = pytest.mark.pins

LOST = Message("gap", None, None, None, None, "connection lost")


def message(channel, data, pattern=None):
    return Message("message" if pattern is None else "pmessage", channel, data, pattern)


# -- subscribing ------------------------------------------------------------------------------------


@pins("case-55")
async def test_channels_patterns_and_shards(client, broadcaster):
    """On a connection of their own; each message says how it came."""
    async with client.subscribe("news", patterns=["user:*"], shards=["s1", "s2"]) as messages:
        assert broadcaster.requests == ["SUBSCRIBE news", "PSUBSCRIBE user:*", "SSUBSCRIBE s1 s2"]
        broadcaster.publish("news", "1")
        broadcaster.publish("user:7", "2", pattern="user:*")
        broadcaster.publish("s1", "3", is_shard=True)
        assert await collect(messages, 3) == [
            message("news", "1"),
            message("user:7", "2", "user:*"),
            Message("smessage", "s1", "3"),
        ]
        assert await client.get("k") == "k"
        assert broadcaster.connection.number == 1
        assert [each.name for each in broadcaster.peer.connections[0].commands][-1] == "GET"
    await until(lambda: not broadcaster.topics, "the unsubscription")


async def test_bytes(client, broadcaster):
    view = client.with_options(decode_responses=False)
    async with view.subscribe(b"news", patterns=b"n*") as messages:
        broadcaster.publish("news", b"\xff")
        assert await messages.get() == Message("message", b"news", b"\xff")


async def test_iterating(client, broadcaster):
    async with client.subscribe(["a", "b"]) as messages:
        broadcaster.publish("a", "1", count=3)
        seen = []
        async for each in messages:
            seen.append(each.data)
            if len(seen) == 3:
                break
        assert await messages.get(timeout=0) is None
        assert "2 topics, 0 messages" in repr(messages)


@pins("case-60")
async def test_a_message_in_the_packet_of_the_confirmation_is_delivered(client, broadcaster):
    broadcaster.behind = broadcaster.message("news", "early")
    async with client.subscribe("news") as messages:
        assert await messages.get() == message("news", "early")


@pins("case-56")
async def test_a_second_subscriber_sends_nothing_and_the_last_one_unsubscribes(client, broadcaster):
    async with client.subscribe("news") as first:
        async with client.subscribe("news") as second:
            broadcaster.publish("news", "1")
            assert await first.get() == await second.get() == message("news", "1")
        broadcaster.publish("news", "2")
        assert await first.get() == message("news", "2")
        assert broadcaster.requests == ["SUBSCRIBE news"]
        assert isinstance(await outcome(second.get()), ClientClosedError)
    await until(lambda: broadcaster.requests == ["SUBSCRIBE news", "UNSUBSCRIBE news"])


async def test_many_subscribe_at_once(client, broadcaster):
    """Each waits for its own confirmation; the server is asked once."""
    async with asyncio.TaskGroup() as group:
        entered = [group.create_task(client.subscribe([f"c{number % 10}"]).__aenter__()) for number in range(100)]
    assert broadcaster.requests == ["SUBSCRIBE " + " ".join(f"c{number}" for number in range(10))]
    broadcaster.publish("c3", "x")
    for number, task in enumerate(entered):
        if number % 10 == 3:
            assert (await task.result().get(timeout=5)).data == "x"
        task.result().end()


async def test_what_makes_no_sense_is_refused_at_once(client, broadcaster):
    for arguments, options, text in [
        ((), {}, "nothing to subscribe to"),
        (([],), {"patterns": ()}, "nothing to subscribe to"),
        (("a", "b"), {}, "given as a list"),
        ((1,), {}, "channel's name"),
        (("a",), {"limit": 0}, "limit must be"),
        (("a",), {"overflow": "x"}, "overflow must be"),
    ]:
        with pytest.raises(ConfigurationError, match=text):
            client.subscribe(*arguments, **options)
    with pytest.raises(ConfigurationError, match="needs a listener"):
        await client.subscribe("a")
    with pytest.raises(ConfigurationError, match="takes no listener"):
        await client.subscribe("a", print).__aenter__()
    subscribe = client.subscribe("a")
    async with subscribe:
        with pytest.raises(ConfigurationError, match="entered once"):
            await subscribe.__aenter__()
    assert broadcaster.requests[:1] == ["SUBSCRIBE a"]


async def test_forgetting_to_await_is_told(client, broadcaster):
    with pytest.warns(RuntimeWarning, match="neither awaited nor entered"):
        client.subscribe("news")
    assert "SUBSCRIBE" not in [each.name for each in broadcaster.peer.commands]


# -- failures of subscribing ------------------------------------------------------------------------


@pins("P2")
async def test_a_refusal_reaches_the_caller_and_leaves_no_trace(client, broadcaster):
    """Also where another channel of the same command is allowed."""
    broadcaster.refused = {"secret"}
    events = EventRecord(client)
    error = await outcome(client.subscribe(["news", "secret"]).__aenter__())
    assert isinstance(error, NoPermissionError)
    await until(lambda: not broadcaster.topics)
    async with client.subscribe("news") as messages:
        broadcaster.publish("news", "1")
        assert await messages.get() == message("news", "1")
    broadcaster.refused.clear()
    broadcaster.connection.close()
    async with client.subscribe("other"):
        assert broadcaster.topics == {("", "other")}
    assert [error for error in events.of("error") if "perm" in str(error)] == []


async def test_each_of_several_waiters_is_told_of_a_refusal(client, broadcaster):
    broadcaster.refused = {"secret"}
    async with asyncio.timeout(5):
        errors = await asyncio.gather(
            *(client.subscribe("secret").__aenter__() for _ in range(3)), return_exceptions=True
        )
    assert [type(error) for error in errors] == [NoPermissionError] * 3
    assert len(set(map(id, errors))) == 3


@pins("P2", "4.8")
async def test_a_subscription_that_is_not_confirmed_in_time_is_withdrawn(clock, make_client, broadcaster, protocol):
    client = await make_client(protocol=protocol, command_timeout=0.5, ping_interval=None).connect()
    async with client.subscribe("news"):
        broadcaster.peer.on("SUBSCRIBE", None)
        broadcaster.peer.on("PING", None)
        error = await outcome(client.subscribe("slow").__aenter__())
        assert isinstance(error, CommandTimeoutError)
        assert error.diagnosis.in_flight == pytest.approx(0.5, abs=0.05)
        assert clock() == pytest.approx(0.5, abs=0.1)
        assert "did not answer within 0.5 seconds; nothing was subscribed" in str(error)
        assert "UNSUBSCRIBE slow" in await _requests(broadcaster, 3)


@pins("4.9")
@pytest.mark.parametrize("call", ["subscribe", "unsubscribe", "ping"])
async def test_a_push_connection_that_has_stalled_is_dropped(clock, make_client, peer, broadcaster, protocol, call):
    """Whichever call it does not answer."""
    client = await make_client(
        protocol=protocol, command_timeout=0.5, ping_interval=None, ping_timeout=1.0, reconnect_strategy=0.0
    ).connect()
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    calls = {
        "subscribe": lambda: pubsub.subscribe("b"),
        "unsubscribe": lambda: pubsub.unsubscribe("a"),
        "ping": pubsub.ping,
    }
    broadcaster.stalled.add(broadcaster.connection)
    begun = clock()
    await outcome(calls[call]())
    await asyncio.sleep(1.0)  # of virtual time: ping_timeout
    await until(lambda: len(peer.connections) == 3, "another connection")
    assert clock() - begun == pytest.approx(0.5 + 1.0, abs=0.1)
    await pubsub.aclose()


async def _requests(broadcaster, count):
    await until(lambda: len(broadcaster.requests) >= count)
    return broadcaster.requests


@pins("P2", "4.7")
async def test_while_there_is_no_connection_it_waits_by_its_own_deadline(make_client, unused_port, protocol):
    client = make_client(
        f"redis://127.0.0.1:{unused_port}", protocol=protocol, command_timeout=0.05, reconnect_strategy=0.01
    )
    error = await outcome(client.subscribe("news").__aenter__())
    assert isinstance(error, CommandTimeoutError)
    assert "was not ready within 0.05 seconds; nothing was subscribed" in str(error)
    assert error.diagnosis.queued > 0
    assert not error.maybe_executed
    assert client.is_open


async def test_a_cancelled_caller_has_subscribed_to_nothing(client, broadcaster):
    async with client.subscribe("other"):
        broadcaster.peer.on("SUBSCRIBE", None)
        broadcaster.peer.on("PING", None)
        entering = asyncio.create_task(client.subscribe("news").__aenter__())
        await _requests(broadcaster, 2)
        entering.cancel()
        assert isinstance(await outcome(entering), asyncio.CancelledError)
        assert await _requests(broadcaster, 3) == ["SUBSCRIBE other", "SUBSCRIBE news", "UNSUBSCRIBE news"]


async def test_messages_that_nobody_asked_for_are_asked_away(client, broadcaster):
    """The server never confirmed, and then the caller had gone."""
    async with client.subscribe("other") as messages:
        broadcaster.topics.add(("", "news"))
        broadcaster.publish("news", "1", count=3)
        broadcaster.publish("other", "2")
        assert await messages.get() == message("other", "2")
        await until(lambda: ("", "news") not in broadcaster.topics)
        assert broadcaster.requests == ["SUBSCRIBE other", "UNSUBSCRIBE news"]


async def test_cancelled_while_the_refusal_comes(client, broadcaster):
    """An exception that nobody awaits any more is no mistake of anybody."""
    lane = client._push_lane()
    refuse = lane._note_refused
    broadcaster.refused = {"secret"}

    def refuse_and_cancel(*args):
        refuse(*args)
        entering.cancel()

    lane._note_refused = refuse_and_cancel
    entering = asyncio.create_task(client.subscribe("secret").__aenter__())
    assert isinstance(await outcome(entering), asyncio.CancelledError)


@pins("4.1")
async def test_on_a_closed_client(client, broadcaster):
    await client.close()
    assert isinstance(await outcome(client.subscribe("news").__aenter__()), ClientClosedError)


@pins("4.2")
async def test_subscribing_opens_the_client(peer, make_client, broadcaster, protocol):
    client = make_client(protocol=protocol)
    async with client.subscribe("news"):
        assert client.is_open


# -- reconnecting -----------------------------------------------------------------------------------


@pins("case-59")
async def test_all_is_subscribed_again_and_what_was_missed_is_a_gap(client, broadcaster):
    async with client.subscribe("news", patterns=["n*"], shards=["s"]) as messages:
        topics = set(broadcaster.topics)
        broadcaster.publish("news", "1")
        assert await messages.get() == message("news", "1")
        for number in (2, 3):
            lost = broadcaster.connection
            lost.close()
            await until(lambda lost=lost: broadcaster.connection is not lost and broadcaster.topics == topics)
            broadcaster.publish("news", str(number))
            assert await collect(messages, 2) == [LOST, message("news", str(number))]
        assert client.is_ready


async def test_lost_twice_before_anything_came_is_one_gap(client, broadcaster):
    async with client.subscribe("news") as messages:
        for _ in range(3):
            lost = broadcaster.connection
            lost.reset()
            await until(lambda lost=lost: broadcaster.connection is not lost and broadcaster.topics)
        broadcaster.publish("news", "1")
        assert await collect(messages, 2) == [LOST, message("news", "1")]


async def test_subscribers_that_come_and_go_while_the_connection_is_away(client, broadcaster, protocol):
    async with client.subscribe("news") as messages, client.subscribe("old") as old:
        broadcaster.peer.on("HELLO" if protocol == 3 else "CLIENT SETINFO", resp.error("ERR go away"))
        refuses = broadcaster.peer
        refuses.on("PING", resp.error("LOADING wait"))
        broadcaster.connection.close()
        assert await messages.get() == LOST
        old.end()
        entering = asyncio.create_task(client.subscribe("new").__aenter__())
        await turns()
        assert not entering.done()
        refuses.on("HELLO", lambda received: resp.mapping({resp.bulk("proto"): resp.integer(3)}))
        refuses.on("CLIENT SETINFO", resp.simple("OK"))
        refuses.on("PING", broadcaster._pong)
        new = await entering
        assert broadcaster.topics == {("", "news"), ("", "new")}
        broadcaster.publish("new", "1")
        assert await new.get() == message("new", "1")  # no gap: nothing of it was promised before
        new.end()


@pins("5.1")
async def test_errors_of_the_lane_are_events_that_say_so(client, broadcaster):
    events = EventRecord(client)
    async with client.subscribe("news") as messages:
        broadcaster.connection.close()
        assert await messages.get() == LOST
        await events.wait_for("error")
        assert {error.lane for error in events.of("error")} == {"push"}
        assert {"connect", "ready", "reconnecting", "end"}.isdisjoint(events.names)
        assert client.is_ready


async def test_a_refusal_after_a_reconnect_is_an_event_and_tried_again_later(clock, make_client, broadcaster, protocol):
    """The others get their messages all the while."""
    client = await make_client(protocol=protocol, decode_responses=True, ping_interval=None).connect()
    events = EventRecord(client)
    async with client.subscribe("news") as messages, client.subscribe("secret") as secret:
        broadcaster.refused = {"secret"}
        broadcaster.connection.close()
        await until(lambda: broadcaster.topics == {("", "news")})
        broadcaster.publish("news", "1")
        assert await collect(messages, 2) == [LOST, message("news", "1")]
        await until(lambda: any(isinstance(error, NoPermissionError) for error in events.of("error")))
        before = clock()
        broadcaster.refused.clear()
        await asyncio.sleep(REPAIR_PAUSE)
        await until(lambda: ("", "secret") in broadcaster.topics)
        assert clock() - before == pytest.approx(REPAIR_PAUSE, abs=0.5)
        broadcaster.publish("secret", "2")
        assert await collect(secret, 2) == [LOST, message("secret", "2")]


# -- drift ------------------------------------------------------------------------------------------


async def test_a_shard_channel_that_moved_is_told_and_subscribed_again(client, broadcaster):
    events = EventRecord(client)
    async with client.subscribe("news", shards=["s"]) as messages:
        broadcaster.end("s")
        await events.wait_for("sharded-channel-moved")
        assert events.of("sharded-channel-moved") == [b"s"]
        await until(lambda: ("s", "s") in broadcaster.topics)
        broadcaster.publish("s", "1", is_shard=True)
        assert await collect(messages, 2) == [
            Message("gap", None, None, None, None, "unsubscribed by the server"),
            Message("smessage", "s", "1"),
        ]
    assert events.of("error") == []


async def test_any_subscription_that_the_server_ended_is_asked_for_again(client, broadcaster):
    events = EventRecord(client)
    async with client.subscribe("news") as messages:
        broadcaster.end("news", kind="")
        await until(lambda: ("", "news") in broadcaster.topics)
        assert (await messages.get()).reason == "unsubscribed by the server"
    assert events.of("sharded-channel-moved") == []


async def test_a_confirmation_that_does_not_come_is_asked_for_again(client, broadcaster):
    """By the time a PING behind it is answered it would have come."""
    broadcaster.unconfirmed = {"news"}
    entering = asyncio.create_task(client.subscribe("news").__aenter__())
    await until(lambda: broadcaster.requests == ["SUBSCRIBE news"] * 2)
    await client._push_lane().settle(5)
    await turns()
    broadcaster.unconfirmed.clear()
    client._push_lane()._mend_drift()  # what happens later
    messages = await entering
    broadcaster.publish("news", "1")
    assert await messages.get() == message("news", "1")
    messages.end()


async def test_a_ping_answered_later_finds_what_has_drifted(clock, make_client, broadcaster, protocol):
    client = await make_client(protocol=protocol, command_timeout=None, ping_interval=3).connect()
    broadcaster.unconfirmed = {"news"}
    entering = asyncio.create_task(client.subscribe("news").__aenter__())
    await until(lambda: len(broadcaster.requests) == 2)
    broadcaster.unconfirmed.clear()
    messages = await entering
    assert clock() == pytest.approx(3, abs=0.5)
    assert len(broadcaster.requests) == 3
    messages.end()


# -- damage -----------------------------------------------------------------------------------------


@pins("P1", "4.17")
@pytest.mark.parametrize("frame", [resp.push("message"), b">0\r\n", b">2\r\n*0\r\n$1\r\nx\r\n", b"+OK\r\n", b"?\r\n"])
async def test_what_makes_no_sense_drops_the_push_connection_alone(peer, make_client, frame):
    broadcaster = Broadcaster(peer)
    client = await make_client(reconnect_strategy=0.0, decode_responses=True).connect()
    async with client.subscribe("news") as messages:
        lost = broadcaster.connection
        broadcaster.publish("news", "1")
        lost.send(frame)
        await until(lambda: broadcaster.connection is not lost and broadcaster.topics)
        broadcaster.publish("news", "2")
        assert await collect(messages, 3) == [message("news", "1"), LOST, message("news", "2")]
        assert client.is_ready
        assert len(peer.connections) == 3


async def test_pushes_of_other_kinds_are_nobodys(peer, make_client):
    broadcaster = Broadcaster(peer)
    client = await make_client(decode_responses=True).connect()
    async with client.subscribe("news") as messages:
        broadcaster.connection.send(resp.push("invalidate", resp.array(resp.bulk("k"))))
        broadcaster.connection.send(resp.push("subscribe", resp.null(), resp.integer(0)))
        broadcaster.publish("news", "1")
        assert await messages.get() == message("news", "1")


@pins("4.16", "P1")
async def test_what_is_no_text_is_an_error_of_that_message_alone(client, broadcaster):
    async with client.subscribe("news") as messages:
        broadcaster.publish("news", b"\xff")
        broadcaster.publish("news", "2")
        assert isinstance(await outcome(messages.get()), UnicodeDecodeError)
        assert await messages.get() == message("news", "2")


# -- limits -----------------------------------------------------------------------------------------


@pins("P5")
@pytest.mark.parametrize(
    ("overflow", "expected"),
    [("drop_oldest", [("gap", 3), "3", "4"]), ("drop_newest", ["0", "1", ("gap", 3)])],
)
async def test_a_slow_subscriber_gets_a_gap(client, broadcaster, overflow, expected):
    """The others get all."""
    async with (
        client.subscribe("news", limit=2, overflow=overflow) as slow,
        client.subscribe("news") as other,
    ):
        for number in range(5):
            broadcaster.publish("news", str(number))
        assert [each.data for each in await collect(other, 5)] == ["0", "1", "2", "3", "4"]
        seen = await collect(slow, 3)
        assert [(each.kind, each.dropped) if each.is_gap else each.data for each in seen] == expected
        assert {each.reason for each in seen} == {"", "too slow"}
        assert (slow.dropped, other.dropped) == (3, 0)


@pins("P5")
async def test_a_slow_subscriber_may_rather_be_ended(client, broadcaster):
    async with client.subscribe("news", limit=2, overflow="error") as slow:
        broadcaster.publish("news", "x", count=5)
        await until(lambda: "UNSUBSCRIBE news" in broadcaster.requests)
        assert len(await collect(slow, 2)) == 2
        error = await outcome(slow.get())
        assert isinstance(error, QueueFullError)
        assert error.limit == 2
        assert isinstance(await outcome(anext(slow)), QueueFullError)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_flood_leaves_others_their_turn(client, broadcaster, is_cancelled):
    """Who takes messages without ever waiting still lets the loop turn, also if another was cancelled just then."""

    async def take(messages, count):
        for _ in range(count):
            await anext(messages)

    async with client.subscribe("news") as messages:
        broadcaster.publish("news", "x", count=5000)
        await until(lambda: len(messages._items) == 5000)
        turn = 0

        async def count_turns():
            nonlocal turn
            while True:
                await asyncio.sleep(0)
                turn += 1

        if is_cancelled:
            taking = asyncio.create_task(take(messages, 5000))
            await asyncio.sleep(0)
            taking.cancel()
            assert isinstance(await outcome(taking), asyncio.CancelledError)
        counting = asyncio.create_task(count_turns())
        await take(messages, len(messages._items))
        counting.cancel()
        await outcome(counting)
        assert turn >= 40
