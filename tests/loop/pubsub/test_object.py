"""redis-py's ``pubsub()`` on the push lane, where it takes a scripted server to see what it does."""

from __future__ import annotations

import asyncio
import gc
import inspect

import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError, PubSubError, ResponseError
from redis.typing import Subscription

from aioredis_kit import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectError,
    QueueFullError,
    create_client,
)
from aioredis_kit.pubsub.stock import PubSub
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, turns, until

pins = pytest.mark.pins

GAP = {"type": "gap", "pattern": None, "channel": None, "data": None}


def shown(kind, channel, data, pattern=None):
    return {"type": kind, "pattern": pattern, "channel": channel, "data": data}


async def collect(pubsub, count):
    return [await pubsub.get_message(timeout=5) for _ in range(count)]


# -- what it is -------------------------------------------------------------------------------------


async def test_it_is_redis_pys_class_with_all_of_its_attributes(client):
    stock = redis.asyncio.Redis().pubsub()
    pubsub = client.pubsub()
    assert isinstance(pubsub, redis.asyncio.client.PubSub)
    assert set(vars(stock)) <= set(vars(pubsub))
    for name in ("channels", "patterns", "shard_channels", "ignore_subscribe_messages", "shard_hint"):
        assert getattr(pubsub, name) == getattr(stock, name)
    assert pubsub.encoder.decode_responses
    plain = client.with_options(decode_responses=False).pubsub()
    assert plain.health_check_response == stock.health_check_response


def test_each_method_takes_what_redis_pys_takes():
    stock_class = redis.asyncio.client.PubSub
    for name, method in inspect.getmembers(stock_class, inspect.isfunction):
        if not name.startswith("_") and name in vars(PubSub):
            theirs = inspect.signature(method).parameters
            ours = inspect.signature(getattr(PubSub, name)).parameters
            assert list(theirs) == list(ours), name
            assert [each.default for each in theirs.values()] == [each.default for each in ours.values()], name


async def test_options(client, broadcaster):
    for options in ({"limit": 0}, {"overflow": "x"}):
        with pytest.raises(ConfigurationError):
            client.pubsub(**options)
    with pytest.raises(TypeError):
        client.pubsub(no_such_option=1)
    assert client.pubsub(ignore_subscribe_messages=True, shard_hint="x").shard_hint == "x"


async def test_before_anything_is_subscribed(client):
    """As redis-py: an error that says what was forgotten."""
    pubsub = client.pubsub()
    for call in (pubsub.get_message(), pubsub.parse_response(), pubsub.check_health()):
        with pytest.raises(RuntimeError, match="did you forget to call subscribe"):
            await call
    assert not pubsub.subscribed
    assert [message async for message in pubsub.listen()] == []
    await pubsub.aclose()


# -- messages ---------------------------------------------------------------------------------------


async def test_messages_and_confirmations(client, broadcaster):
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("a", "b")
        await pubsub.psubscribe("p*")
        await pubsub.ssubscribe("s", target_node=None)
        broadcaster.publish("a", "1")
        broadcaster.publish("px", "2", pattern="p*")
        broadcaster.publish("s", "3", is_shard=True)
        assert await collect(pubsub, 7) == [
            shown("subscribe", "a", 1),
            shown("subscribe", "b", 2),
            shown("psubscribe", "p*", 3),
            shown("ssubscribe", "s", 1),
            shown("message", "a", "1"),
            shown("pmessage", "px", "2", "p*"),
            shown("smessage", "s", "3"),
        ]
        assert pubsub.subscribed
        assert pubsub.connection.is_connected
        await pubsub.check_health()
    assert not pubsub.subscribed
    assert pubsub.connection is None
    await until(lambda: not broadcaster.topics)


async def test_each_object_counts_its_own(client, broadcaster):
    first, second = client.pubsub(), client.pubsub()
    await first.subscribe("a", "b")
    await second.subscribe("b")
    assert broadcaster.requests == ["SUBSCRIBE a b"]
    assert await second.get_message() == shown("subscribe", "b", 1)
    await second.unsubscribe()
    assert await second.get_message() == shown("unsubscribe", "b", 0)
    assert broadcaster.topics == {("", "a"), ("", "b")}
    await first.aclose()


async def test_the_time_a_message_is_waited_for(client, broadcaster, clock):
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("a")
    assert await pubsub.get_message(timeout=3) is None  # the confirmation, which is not wanted
    before = clock()
    assert await pubsub.get_message() is None
    assert clock() == before
    assert await pubsub.get_message(timeout=0.5) is None
    assert clock() - before == pytest.approx(0.5, abs=0.05)
    waiting = asyncio.create_task(pubsub.get_message(timeout=None))
    await turns()
    broadcaster.publish("a", "1")
    assert await waiting == shown("message", "a", "1")
    await pubsub.aclose()


async def test_asking_without_waiting_lets_the_loop_turn(client, broadcaster):
    """Code that polls in a loop must not keep its own message from being read."""
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("a")
    broadcaster.publish("a", "1")
    async with asyncio.timeout(5):
        while (message := await pubsub.get_message()) is None:
            pass
    assert message == shown("message", "a", "1")
    await pubsub.aclose()


async def test_listening_ends_with_the_last_subscription(client, broadcaster):
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    broadcaster.publish("a", "1")
    seen = []
    async for message in pubsub.listen():
        seen.append(message["type"])
        if message["type"] == "message":
            await pubsub.unsubscribe("a")
    assert seen == ["subscribe", "message", "unsubscribe"]


async def test_handlers(client, broadcaster):
    """Synchronous and asynchronous, by keyword and by redis-py's Subscription; what they raise is raised."""
    calls = []

    async def later(message):
        await asyncio.sleep(0)
        calls.append(message["data"])

    def fail(message):
        raise ValueError(message["data"])

    pubsub = client.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(
        "plain", Subscription("failing", fail), handled=lambda message: calls.append(message["data"])
    )
    await pubsub.psubscribe(**{"p*": later})
    await pubsub.ssubscribe(s=later)
    assert await collect(pubsub, 5) == [None] * 5
    broadcaster.publish("handled", "1")
    broadcaster.publish("px", "2", pattern="p*")
    broadcaster.publish("s", "3", is_shard=True)
    broadcaster.publish("failing", "4")
    broadcaster.publish("plain", "5")
    assert await collect(pubsub, 3) == [None] * 3
    assert calls == ["1", "2", "3"]
    assert str(await outcome(pubsub.get_message(timeout=5))) == "4"
    assert await anext(pubsub.listen()) == shown("message", "plain", "5")
    await pubsub.aclose()


@pins("case-60")
async def test_a_handler_has_the_message_in_the_packet_of_the_confirmation(client, broadcaster):
    calls = []
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    broadcaster.behind = broadcaster.message("a", "early")

    async def read():
        while not calls:
            with_connection = pubsub.connection is not None
            if not with_connection:
                await asyncio.sleep(0)
            elif (message := await pubsub.get_message(timeout=1)) is not None:
                calls.append(("unhandled", message))

    reading = asyncio.create_task(read())
    await pubsub.subscribe(a=lambda message: calls.append(message["data"]))
    await reading
    assert calls == ["early"]
    await pubsub.aclose()


async def test_running(client, broadcaster):
    calls, failures = [], []

    def handle(message):
        calls.append(message["data"])
        if message["data"] == "bad":
            raise ValueError

    pubsub = client.pubsub()
    await pubsub.subscribe(a=handle)
    running = asyncio.create_task(pubsub.run(exception_handler=lambda error, _: failures.append(error)))
    broadcaster.publish("a", "bad")
    broadcaster.publish("a", "2")
    await until(lambda: len(calls) == 2)
    assert [type(error) for error in failures] == [ValueError]
    running.cancel()
    await outcome(running)
    await pubsub.subscribe("b")
    with pytest.raises(PubSubError, match="no handler"):
        await pubsub.run()
    await pubsub.aclose()


async def test_pinging(client, broadcaster):
    """Also before anything is subscribed."""
    pubsub = client.pubsub()
    await pubsub.ping()
    await pubsub.subscribe("a")
    await pubsub.ping("me")
    assert await collect(pubsub, 3) == [
        shown("pong", None, ""),
        shown("subscribe", "a", 1),
        shown("pong", None, "me"),
    ]
    broadcaster.peer.on("PING", resp.error("NOPERM no"))
    await pubsub.ping()
    with pytest.raises(NoPermissionError):
        await pubsub.get_message()
    await pubsub.ping()
    with pytest.raises(NoPermissionError):
        await pubsub.parse_response()
    await pubsub.aclose()


@pins("P2")
async def test_a_ping_that_is_not_answered(make_client, broadcaster, protocol, clock):
    client = await make_client(protocol=protocol, command_timeout=0.5, ping_interval=None).connect()
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    broadcaster.peer.on("PING", None)
    with pytest.raises(
        CommandTimeoutError, match=r"did not answer within 0.5 seconds; the reply to the PING is dropped"
    ):
        await pubsub.ping()
    pinging = asyncio.create_task(pubsub.ping())
    await turns()
    broadcaster.connection.close()
    assert "lost before" in str(await outcome(pinging))
    await pubsub.aclose()


@pins("P2")
@pytest.mark.parametrize("call", ["connect", "ping"])
async def test_a_connection_that_does_not_come(make_client, unused_port, protocol, call):
    client = make_client(
        f"redis://127.0.0.1:{unused_port}", protocol=protocol, command_timeout=0.05, reconnect_strategy=0.01
    )
    with pytest.raises(CommandTimeoutError, match=r"was not ready within 0.05 seconds; the connecting goes on"):
        await getattr(client.pubsub(), call)()


async def test_other_commands_are_refused(client, broadcaster):
    pubsub = client.pubsub()
    with pytest.raises(ConfigurationError, match="GET is no command for pubsub"):
        await pubsub.execute_command("GET", "k")
    with pytest.raises(ResponseError, match="wrong number of arguments for 'psubscribe'"):
        await pubsub.psubscribe()


async def test_a_class_of_ones_own(client, broadcaster):
    """What overrides the steps in between is asked each time, also by listen()."""

    class Loud(PubSub):
        async def handle_message(self, response, ignore_subscribe_messages=False):
            message = await super().handle_message(response, ignore_subscribe_messages)
            if message is not None and isinstance(message["data"], str):
                message["data"] = message["data"].upper()
            return message

    pubsub = client.pubsub()
    pubsub.__class__ = Loud
    pubsub._is_plain = False  # what the constructor finds out
    await pubsub.subscribe("a", "b")
    await pubsub.psubscribe(**{"p*": print})
    assert [message["type"] for message in await collect(pubsub, 3)] == ["subscribe", "subscribe", "psubscribe"]
    for data in ("x", "y"):
        broadcaster.publish("a", data)
    await pubsub.ping()
    assert (await pubsub.get_message(timeout=5))["data"] == "X"
    assert (await anext(pubsub.listen()))["data"] == "Y"
    assert (await pubsub.get_message(timeout=5)) == shown("pong", None, "")
    assert await pubsub.get_message() is None
    broadcaster.publish("px", "1", pattern="p*")
    assert await pubsub.get_message(timeout=5) is None
    broadcaster.connection.close()
    assert await pubsub.get_message(timeout=5) == GAP
    assert await pubsub.handle_message(None) is None
    assert await pubsub.handle_message(b"hey") == shown("pong", None, b"hey")
    await pubsub.aclose()


async def test_a_push_handler_is_asked_first(client, broadcaster):
    async def shout(response):
        return [*response[:-1], "changed"]

    pubsub = client.pubsub(push_handler_func=shout, ignore_subscribe_messages=True)
    await pubsub.subscribe("a")
    await pubsub.get_message()
    broadcaster.publish("a", "1")
    assert await pubsub.get_message(timeout=5) == shown("message", "a", "changed")
    await pubsub.aclose()


# -- going wrong ------------------------------------------------------------------------------------


@pins("case-59")
async def test_after_a_reconnect_a_gap_and_the_confirmations_again(client, broadcaster):
    """Neither where confirmations are not wanted."""
    pubsub, quiet = client.pubsub(), client.pubsub(ignore_subscribe_messages=True)
    for each in (pubsub, quiet):
        await each.subscribe("a", "b")
    await collect(pubsub, 2)
    lost = broadcaster.connection
    lost.close()
    await until(lambda: broadcaster.connection is not lost and len(broadcaster.topics) == 2)
    broadcaster.publish("a", "1")
    assert await collect(pubsub, 4) == [
        GAP,
        shown("subscribe", "a", 1),
        shown("subscribe", "b", 2),
        shown("message", "a", "1"),
    ]
    seen = [message for message in await collect(quiet, 6) if message is not None]
    assert seen == [shown("message", "a", "1")]
    assert pubsub.subscribed
    await pubsub.aclose()
    await quiet.aclose()


async def test_a_shard_channel_that_moved(client, broadcaster):
    """Its count is right again."""
    pubsub = client.pubsub()
    await pubsub.ssubscribe("s", "t")
    broadcaster.end("s")
    await until(lambda: len(broadcaster.topics) == 2)
    assert await collect(pubsub, 4) == [
        shown("ssubscribe", "s", 1),
        shown("ssubscribe", "t", 2),
        GAP,
        shown("ssubscribe", "s", 2),
    ]
    await pubsub.aclose()


@pins("P2")
async def test_a_refusal_is_raised_and_leaves_no_trace(client, broadcaster):
    broadcaster.refused = {"secret"}
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    with pytest.raises(NoPermissionError):
        await pubsub.subscribe("secret", a=print)
    assert pubsub.channels == {"a": None}
    broadcaster.publish("a", "1")
    assert [message["type"] for message in await collect(pubsub, 3)] == ["subscribe", "subscribe", "message"]
    await pubsub.aclose()


@pins("P2")
async def test_a_subscription_that_is_cancelled_or_late(make_client, broadcaster, protocol, clock):
    client = await make_client(protocol=protocol, command_timeout=0.5, ping_interval=None).connect()
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    broadcaster.peer.on("SUBSCRIBE", None)
    broadcaster.peer.on("PING", None)
    assert isinstance(await outcome(pubsub.subscribe("late")), CommandTimeoutError)
    subscribing = asyncio.create_task(pubsub.subscribe("cancelled"))
    await turns()
    subscribing.cancel()
    assert isinstance(await outcome(subscribing), asyncio.CancelledError)
    assert pubsub.channels == {b"a": None}
    await pubsub.aclose()


@pins("4.16")
async def test_what_is_no_text(client, broadcaster):
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    for data in (b"\xff", "2", b"\xff", "4"):
        broadcaster.publish("a", data)
    await pubsub.get_message(timeout=5)
    with pytest.raises(UnicodeDecodeError):
        await pubsub.get_message(timeout=5)
    assert await pubsub.get_message(timeout=5) == shown("message", "a", "2")
    with pytest.raises(UnicodeDecodeError):
        await anext(pubsub.listen())
    assert await anext(pubsub.listen()) == shown("message", "a", "4")
    await pubsub.aclose()


@pins("P5")
async def test_too_many_messages(client, broadcaster):
    """The oldest are dropped, a confirmation among them, whose consequence is not lost."""
    pubsub = client.pubsub(limit=2)
    await pubsub.subscribe("a", "b")
    await pubsub.unsubscribe("b")
    for number in range(5):
        broadcaster.publish("a", str(number))
    await pubsub.ping()
    assert pubsub.channels == {"a": None}
    assert [message["data"] for message in await collect(pubsub, 3)] == [4, "4", ""]
    await pubsub.aclose()


@pins("P5")
async def test_too_many_messages_as_an_error(client, broadcaster):
    """Raised behind what waits; then it subscribes again."""
    pubsub = client.pubsub(limit=3, overflow="error", ignore_subscribe_messages=True)
    await pubsub.subscribe("a")
    await pubsub.get_message()
    broadcaster.publish("a", "x", count=10)
    await until(lambda: not broadcaster.topics)
    assert [message["data"] for message in await collect(pubsub, 3)] == ["x"] * 3
    with pytest.raises(QueueFullError):
        await pubsub.get_message(timeout=5)
    assert await collect(pubsub, 2) == [None, None]
    broadcaster.publish("a", "y")
    assert (await pubsub.get_message(timeout=5))["data"] == "y"
    await pubsub.aclose()


# -- ending -----------------------------------------------------------------------------------------


async def test_closing_ends_who_waits_and_it_may_be_used_again(client, broadcaster):
    async def listen(pubsub):
        return [message["type"] async for message in pubsub.listen()]

    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    listening = asyncio.create_task(listen(pubsub))
    await turns()
    await pubsub.aclose()
    assert await listening == ["subscribe"]
    await pubsub.subscribe("b")
    waiting = asyncio.create_task(pubsub.get_message(timeout=None))
    assert await waiting == shown("subscribe", "b", 1)
    waiting = asyncio.create_task(pubsub.get_message(timeout=None))
    await turns()
    for name in ("reset", "close", "aclose"):
        if name == "aclose":
            await pubsub.aclose()
            continue
        with pytest.warns(DeprecationWarning, match="Use aclose"):
            await getattr(pubsub, name)()
    assert await waiting is None


@pins("P2", "P6")
@pytest.mark.parametrize("way", ["close", "destroy"])
async def test_closing_the_client(client, broadcaster, way):
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    listening = asyncio.create_task(outcome(anext(pubsub.listen())))
    assert await listening == shown("subscribe", "a", 1)
    waiting = asyncio.create_task(pubsub.get_message(timeout=None))
    await turns()
    if way == "close":
        await client.close()
    else:
        client.destroy()
    assert isinstance(await outcome(waiting), ClientClosedError)
    for call in (pubsub.get_message, pubsub.connect, pubsub.ping, lambda: pubsub.subscribe("b")):
        assert isinstance(await outcome(call()), ClientClosedError)
    await client.connect()
    broadcaster.behind = broadcaster.message("a", "1")
    assert await collect(pubsub, 3) == [GAP, shown("subscribe", "a", 1), shown("message", "a", "1")]
    await pubsub.aclose()


@pins("4.18")
async def test_a_strategy_that_gives_up(make_client, broadcaster, protocol):
    """Raised once; then it tries to connect again."""
    gives_up = False
    client = make_client(protocol=protocol, reconnect_strategy=lambda *_: False if gives_up else 0.0)
    await client.connect()
    events = EventRecord(client)
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    gives_up = True
    broadcaster.connection.close()
    assert [message["type"] for message in await collect(pubsub, 2)] == ["subscribe", "gap"]
    assert isinstance(await outcome(pubsub.get_message(timeout=None)), ConnectError)
    gives_up = False
    assert [message["type"] for message in await collect(pubsub, 2)] == ["gap", "subscribe"]
    assert {error.lane for error in events.of("error")} == {"push"}
    await pubsub.aclose()


async def test_one_that_is_forgotten_unsubscribes(client, broadcaster):
    pubsub = client.pubsub()
    await pubsub.subscribe("a")
    assert broadcaster.topics
    del pubsub
    gc.collect()
    await until(lambda: not broadcaster.topics)


async def test_it_keeps_its_client_alive(broadcaster, protocol):
    """A client that nobody else refers to would be destroyed."""
    pubsub = create_client(broadcaster.peer.url, protocol=protocol).pubsub()
    await pubsub.subscribe("a")
    gc.collect()
    broadcaster.publish("a", "1")
    assert [message["type"] for message in await collect(pubsub, 2)] == ["subscribe", "message"]
    await pubsub._find_lane.__self__.close()


async def test_of_a_session(client, broadcaster):
    async with client.dedicated() as session:
        pubsub = session.pubsub()
        await pubsub.subscribe("a")
        assert broadcaster.connection not in broadcaster.peer.connections[:2]
    broadcaster.publish("a", "1")
    assert [message["type"] for message in await collect(pubsub, 2)] == ["subscribe", "message"]
    await pubsub.aclose()
