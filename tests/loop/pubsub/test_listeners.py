"""Listeners of messages, as in node-redis: when they are called, and that none can disturb anything."""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit import ClientClosedError, ConfigurationError, QueueFullError
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, job_tasks, outcome, turns, until

pins = pytest.mark.pins
variable = contextvars.ContextVar("variable", default="unset")


class Calls(list):
    """A listener that notes what it is called with."""

    def __call__(self, message, channel):
        self.append((message, channel))

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other

    async def are(self, *expected):
        await until(lambda: len(self) >= len(expected), f"{expected} and not only {list(self)}")
        assert list(self) == list(expected)


# -- being called -----------------------------------------------------------------------------------


@pins("case-55")
async def test_the_data_and_the_channel(client, broadcaster):
    """For a pattern the channel too, not the pattern. Text or bytes, as the view has it."""
    texts, raw = Calls(), Calls()
    view = client.with_options(decode_responses=False)
    await client.subscribe("news", texts)
    await client.psubscribe("n*", texts)
    await client.ssubscribe(["s"], texts)
    await view.subscribe(b"news", raw)
    broadcaster.publish("news", "1")
    broadcaster.publish("nothing", "2", pattern="n*")
    broadcaster.publish("s", "3", is_shard=True)
    await texts.are(("1", "news"), ("2", "nothing"), ("3", "s"))
    await raw.are((b"1", b"news"))


@pins("case-56")
async def test_the_same_function_twice_is_called_once(client, broadcaster):
    """Also where it is a bound method, which is another object each time."""

    class Owner:
        def __init__(self):
            self.calls = []

        def listen(self, message, channel):
            self.calls.append(message)

    owner = Owner()
    for _ in range(2):
        await client.subscribe("news", owner.listen)
    broadcaster.publish("news", "1")
    broadcaster.publish("news", "2")
    await until(lambda: len(owner.calls) >= 2)
    assert owner.calls == ["1", "2"]
    assert broadcaster.requests == ["SUBSCRIBE news"]
    await client.unsubscribe("news", owner.listen)
    assert not broadcaster.topics


@pins("case-56")
async def test_removing_one_of_two_sends_nothing(client, broadcaster):
    first, second = Calls(), Calls()
    await client.subscribe("news", first)
    await client.subscribe("news", second)
    await client.unsubscribe("news", first)
    broadcaster.publish("news", "1")
    await second.are(("1", "news"))
    assert not first
    assert broadcaster.requests == ["SUBSCRIBE news"]
    await client.unsubscribe("news", second)
    assert broadcaster.requests == ["SUBSCRIBE news", "UNSUBSCRIBE news"]


@pins("case-57")
async def test_removing_what_is_unknown_is_fine(client, broadcaster, make_client, protocol):
    await client.unsubscribe("unknown")
    await client.punsubscribe()
    listener = Calls()
    await client.subscribe("news", listener)
    await client.unsubscribe("unknown")
    await client.unsubscribe("news", print)
    await client.sunsubscribe(["a", "b"], listener)
    broadcaster.publish("news", "1")
    await listener.are(("1", "news"))
    closed = make_client(protocol=protocol)
    await closed.unsubscribe("news")  # which opens nothing
    assert not closed.is_open


@pins("case-58")
@pytest.mark.parametrize("is_mirrored", [False, True])
async def test_removing_all_of_a_kind(client, broadcaster, is_mirrored):
    """It ends, the other kind goes on, and a PING after it gets its own reply."""
    listener = Calls()
    channels, patterns = (["a"], ["b*", "c*"]) if is_mirrored else (["a", "b"], ["c*"])
    await client.subscribe(channels, listener, patterns=patterns)
    if is_mirrored:
        await client.punsubscribe()
        assert broadcaster.topics == {("", "a")}
    else:
        await client.unsubscribe()
        assert broadcaster.topics == {("p", "c*")}
    assert await client._push_lane().ping(("PING", "me"), 1) in (b"me", [b"pong", b"me"])
    assert await client.ping() is True


@pins("case-60")
async def test_a_message_in_the_packet_of_the_confirmation(client, broadcaster):
    listener = Calls()
    broadcaster.behind = broadcaster.message("news", "early")
    await client.subscribe("news", listener)
    await listener.are(("early", "news"))


@pins("case-59")
async def test_called_again_after_a_reconnect(client, broadcaster):
    listener = Calls()
    await client.subscribe("news", listener, patterns=["n*"], shards=["s"])
    lost = broadcaster.connection
    lost.close()
    await until(lambda: broadcaster.connection is not lost and len(broadcaster.topics) == 3)
    broadcaster.publish("news", "1")
    broadcaster.publish("no", "2", pattern="n*")
    broadcaster.publish("s", "3", is_shard=True)
    await listener.are(("1", "news"), ("2", "no"), ("3", "s"))


@pins("5.4")
async def test_called_in_the_context_of_the_registration_and_never_inside_reading(client, broadcaster):
    seen = []

    def listen(message, channel):
        seen.append((variable.get(), asyncio.current_task()))

    async def listen_async(message, channel):
        await asyncio.sleep(0)
        seen.append((variable.get(), asyncio.current_task() in job_tasks()))

    variable.set("mine")
    await client.subscribe("news", listen)
    await client.subscribe("news", listen_async)
    variable.set("other")
    broadcaster.publish("news", "1")
    await until(lambda: len(seen) == 2)
    assert seen == [("mine", None), ("mine", True)]


# -- raising and being slow -------------------------------------------------------------------------


@pins("case-63", "P1")
@pytest.mark.parametrize("is_async", [False, True])
async def test_one_that_raises_disturbs_nobody_and_is_told(client, broadcaster, is_async):
    events, other = EventRecord(client), Calls()

    def fail(message, channel):
        raise ValueError(message)

    async def fail_later(message, channel):
        await asyncio.sleep(0)
        raise ValueError(message)

    await client.subscribe("news", fail_later if is_async else fail)
    await client.subscribe("news", other)
    lost = broadcaster.connection
    broadcaster.publish("news", "1", count=2)
    await other.are(("1", "news"), ("1", "news"))
    await events.wait_for("error", 2)
    assert [(type(error), str(error), error.lane) for error in events.of("error")] == [(ValueError, "1", "push")] * 2
    assert await client.get("k") == "k"
    assert broadcaster.connection is lost


@pins("case-63")
async def test_one_that_raises_what_is_no_error(client, broadcaster):
    events = EventRecord(client)

    def cancel(message, channel):
        raise asyncio.CancelledError

    async def cancel_later(message, channel):
        raise asyncio.CancelledError

    await client.subscribe("news", cancel)
    await client.subscribe("news", cancel_later)
    broadcaster.publish("news", "1")
    await events.wait_for("error", 2)
    assert {type(error) for error in events.of("error")} == {RuntimeError}


@pins("4.16", "case-63")
async def test_what_is_no_text(client, broadcaster):
    events, listener = EventRecord(client), Calls()
    await client.subscribe("news", listener)
    broadcaster.publish("news", b"\xff")
    broadcaster.publish("news", "2")
    await listener.are(("2", "news"))
    assert [type(error) for error in events.of("error")] == [UnicodeDecodeError]


async def test_asynchronous_ones_are_called_one_at_a_time(client, broadcaster):
    """By several subscriptions too; each in its own time."""
    running, most, done = 0, 0, []

    async def listen(message, channel):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await turns(3)
        running -= 1
        done.append((message, channel))

    quick = Calls()
    await client.subscribe("a", listen)
    await client.subscribe("b", listen)
    await client.subscribe("a", quick)
    for number in range(3):
        broadcaster.publish("a", str(number))
        broadcaster.publish("b", str(number))
    await quick.are(*((str(number), "a") for number in range(3)))
    await until(lambda: len(done) == 6)
    assert most == 1
    assert done == [(str(number), channel) for number in range(3) for channel in "ab"]


async def test_one_that_is_taken_off_and_comes_again_is_called_one_at_a_time(client, broadcaster):
    """Also while it still has to do with what it had before."""
    running, calls, going_on = [], [], asyncio.Event()

    async def listen(message, channel):
        calls.append(message)
        running.append(message)
        await going_on.wait()
        running.remove(message)

    await client.subscribe("news", listen)
    broadcaster.publish("news", "1")
    await until(lambda: running)
    await client.unsubscribe("news", listen)
    await client.subscribe("news", listen)
    broadcaster.publish("news", "2")
    await client._push_lane().settle(5)
    await turns()
    assert running == ["1"]
    going_on.set()
    await until(lambda: calls == ["1", "2"] and not running)


async def test_what_a_listener_returns(client, broadcaster):
    """Awaited if it can be; a task goes on by itself."""
    seen = []

    class Awaitable:
        def __await__(self):
            seen.append("awaited")
            yield from asyncio.sleep(0).__await__()

    forever = asyncio.get_running_loop().create_future()
    for returned in (Awaitable(), forever, None, 7):
        await client.subscribe("news", partial(lambda value, message, channel: value, returned))
    listener = Calls()
    await client.subscribe("news", listener)
    broadcaster.publish("news", "1")
    await listener.are(("1", "news"))
    await until(lambda: seen == ["awaited"])


@pins("P5")
async def test_a_slow_one_loses_messages_and_is_told_of(client, broadcaster):
    events, calls, going_on = EventRecord(client), [], asyncio.Event()

    async def slow(message, channel):
        calls.append(message)
        await going_on.wait()

    await client.subscribe("news", slow, limit=2)
    for number in range(6):
        broadcaster.publish("news", str(number))
        await until(lambda: calls)
    await client._push_lane().settle(5)
    going_on.set()
    await until(lambda: calls == ["0", "4", "5"])
    (error,) = events.of("error")
    assert isinstance(error, QueueFullError)
    assert "slow is too slow: 3 messages were dropped, as 2 waited" in str(error)
    assert error.limit == 2


@pins("P5")
async def test_a_slow_one_may_rather_be_taken_off(client, broadcaster):
    events, calls, going_on = EventRecord(client), [], asyncio.Event()

    async def slow(message, channel):
        calls.append(message)
        await going_on.wait()

    await client.subscribe("news", slow, limit=1, overflow="error")
    for number in range(4):
        broadcaster.publish("news", str(number))
        await until(lambda: calls)
    await events.wait_for("error")
    assert [type(error) for error in events.of("error")] == [QueueFullError]
    await until(lambda: not broadcaster.topics)
    going_on.set()
    await client.subscribe("news", slow)  # and may come again
    broadcaster.publish("news", "again")
    await until(lambda: "again" in calls)


async def test_a_flood_leaves_others_their_turn(client, broadcaster):
    listener = Calls()
    turns_before_the_last = 0

    def count_turns():
        nonlocal turns_before_the_last
        if len(listener) < 5000:
            turns_before_the_last += 1
            asyncio.get_running_loop().call_soon(count_turns)

    await client.subscribe("news", listener)
    broadcaster.publish("news", "x", count=5000)
    count_turns()
    await until(lambda: len(listener) == 5000)
    assert turns_before_the_last >= 40


# -- failing and ending -----------------------------------------------------------------------------


async def test_a_refused_one_is_not_called(client, broadcaster):
    broadcaster.refused = {"secret"}
    listener = Calls()
    assert isinstance(await outcome(client.subscribe(["news", "secret"], listener)), NoPermissionError)
    await until(lambda: not broadcaster.topics)
    await client.subscribe("other", listener)
    broadcaster.publish("news", "1")
    broadcaster.publish("other", "2")
    await listener.are(("2", "other"))


async def test_failing_keeps_what_there_was_before(client, broadcaster):
    listener = Calls()
    await client.subscribe("news", listener)
    broadcaster.refused = {"secret"}
    assert isinstance(await outcome(client.subscribe(["news", "secret"], listener)), NoPermissionError)
    broadcaster.publish("news", "1")
    await listener.are(("1", "news"))


@pytest.mark.parametrize("listener", ["name", 7])
async def test_what_is_no_listener(client, broadcaster, listener):
    with pytest.raises(ConfigurationError, match="callable"):
        client.subscribe("news", listener)


async def test_a_listener_without_a_hash(client, broadcaster):
    class Unhashable:
        __hash__ = None

        def __call__(self, message, channel):
            pass

    with pytest.raises(ConfigurationError, match="hashable"):
        await client.subscribe("news", Unhashable())


async def test_once_taken_off_it_is_not_called_with_what_waits(client, broadcaster):
    calls, going_on = [], asyncio.Event()

    async def listen(message, channel):
        calls.append(message)
        await going_on.wait()

    await client.subscribe(["a", "b"], listen)
    for number in range(3):
        broadcaster.publish("a", f"a{number}")
        broadcaster.publish("b", f"b{number}")
    await until(lambda: calls)
    await client._push_lane().settle(5)
    await client.unsubscribe("a", listen)
    going_on.set()
    await until(lambda: len(calls) == 4)
    assert calls == ["a0", "b0", "b1", "b2"]


async def test_one_that_takes_itself_off(client, broadcaster):
    calls = []

    async def once(message, channel):
        calls.append(message)
        await client.unsubscribe(channel, once)

    await client.subscribe("news", once)
    broadcaster.publish("news", "1", count=3)
    await until(lambda: not broadcaster.topics)
    assert calls == ["1"]


@pins("P6", "4.19")
async def test_close_waits_for_one_that_is_busy(client, broadcaster):
    going_on, done = asyncio.Event(), []

    async def listen(message, channel):
        await going_on.wait()
        done.append(message)

    await client.subscribe("news", listen)
    broadcaster.publish("news", "1", count=2)
    await until(lambda: client._core._life.work)
    closing = asyncio.create_task(client.close())
    await turns()
    assert not closing.done()
    going_on.set()
    await closing
    assert done == ["1"]  # what waited is not called any more
    assert not job_tasks()


@pins("P6", "4.19")
async def test_close_does_not_wait_for_ever(client, broadcaster, clock, make_client, protocol):
    hanging = await make_client(protocol=protocol, close_timeout=0.2, ping_interval=None).connect()
    broadcaster.peer.on("PING", resp.simple("PONG"))

    async def listen(message, channel):
        await asyncio.Event().wait()

    await hanging.subscribe("news", listen)
    broadcaster.publish("news", "1")
    await until(lambda: hanging._core._life.work)
    before = clock()
    await hanging.close()
    assert clock() - before == pytest.approx(0.2, abs=0.1)
    assert not [task for task in job_tasks() if "subscriber" in task.get_name()]


@pins("P6", "4.20")
@pytest.mark.parametrize("way", ["destroy", "close"])
async def test_one_that_ends_the_client(client, broadcaster, way):
    """A synchronous one destroys it, an asynchronous one closes it, in the middle of its messages."""
    calls = []

    async def close(message, channel):
        calls.append(message)
        await client.close()

    def destroy(message, channel):
        calls.append(message)
        client.destroy()

    await client.subscribe("news", close if way == "close" else destroy)
    broadcaster.publish("news", "1", count=3)
    await until(lambda: calls and not client.is_open and not job_tasks())
    assert calls == ["1"]


@pins("P6")
async def test_listeners_end_with_the_client(client, broadcaster):
    listener = Calls()
    await client.subscribe("news", listener)
    await client.close()
    assert isinstance(await outcome(client.subscribe("news", listener)), ClientClosedError)
    await client.connect()
    await client.unsubscribe()
    await client.subscribe("other", Calls())
    broadcaster.publish("news", "1")
    await client._push_lane().settle(5)
    assert not listener


async def test_a_strategy_that_gives_up_takes_them_off(make_client, broadcaster, protocol):
    gives_up = False
    client = make_client(protocol=protocol, reconnect_strategy=lambda *_: False if gives_up else 0.0)
    await client.connect()
    events, listener = EventRecord(client), Calls()
    await client.subscribe("news", listener)
    gives_up = True
    broadcaster.connection.close()
    await events.wait_for("error")
    gives_up = False
    assert not client._core.listening._deliveries
    await client.subscribe("news", listener)
    broadcaster.publish("news", "1")
    await listener.are((b"1", b"news"))
