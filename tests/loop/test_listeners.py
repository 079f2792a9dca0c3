"""Listeners: when, in which order and in which context they are called, and that none can harm the client (5.4)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import time
import warnings
from functools import partial
from unittest.mock import AsyncMock

import pytest

from aioredis_kit import create_client
from aioredis_kit.client.listeners import BACKLOG
from aioredis_kit.events import EVENT_NAMES, Pinged
from aioredis_kit.exceptions import ClientClosedError, ConfigurationError
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, job_tasks, outcome, turns, until

variable = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
async def pinging(make_client):
    """A connected client that pings at every millisecond of silence: an event to listen to."""
    return await make_client(ping_interval=0.001, close_timeout=3).connect()


# -- registering ------------------------------------------------------------------------------------


@pytest.mark.pins("5.4")
async def test_listeners_are_called_in_the_order_of_registration(peer, make_client):
    """Functions, decorated ones, those for once; the same one as often as it was registered."""
    client = make_client()
    calls = []
    client.on("ready", lambda: calls.append("first"))

    @client.on("ready")
    def second():
        calls.append("second")

    @client.once("ready")
    def once():
        calls.append("once")

    assert client.on("ready", second) is second
    await client.connect()
    assert calls == ["first", "second", "once", "second"]
    calls.clear()
    peer.connections[0].close()
    await until(lambda: client.is_ready and len(peer.connections) == 2 and calls)
    assert calls == ["first", "second", "second"]
    assert client.off("ready", second) is True
    assert client.off("ready", second) is True
    assert client.off("ready", second) is False
    assert client.off("end", second) is False


@pytest.mark.pins("5.4")
@pytest.mark.parametrize("register", ["on", "once"])
async def test_what_can_not_be_listened_to(make_client, register):
    """An event that there is not, a listener that can't be called: an error that says so."""
    client = make_client()
    with pytest.raises(ConfigurationError, match="there is no event 'redy': the events are connect, ready"):
        getattr(client, register)("redy", print)
    with pytest.raises(ConfigurationError, match="listener of 'ready' is 'int'"):
        getattr(client, register)("ready", 5)
    with pytest.raises(ConfigurationError, match="there is no event"):
        await client.wait_for("redy")
    for name in EVENT_NAMES:
        getattr(client, register)(name, print)


@pytest.mark.pins("5.4")
async def test_listeners_that_change_the_listeners(pinging):
    """One that is added or removed meanwhile counts from the next event on."""
    calls = []

    def first(*_):
        calls.append("first")
        if pinging.off("ping-interval", second):
            pinging.on("ping-interval", third)

    def second(*_):
        calls.append("second")

    def third(*_):
        calls.append("third")

    pinging.on("ping-interval", first)
    pinging.on("ping-interval", second)
    await until(lambda: len(calls) >= 4)
    assert calls[:4] == ["first", "second", "first", "third"]


# -- calling ----------------------------------------------------------------------------------------


@pytest.mark.pins("5.4")
async def test_listeners_are_called_in_the_context_of_their_registration(make_client):
    """Not in that of whoever made the event happen; what they set stays among their own calls."""
    client = make_client()
    seen = []

    def listen():
        seen.append(variable.get())
        variable.set("changed")

    async def listen_asynchronously():
        seen.append(variable.get())

    variable.set("at registration")
    client.on("connect", listen)
    client.on("ready", listen_asynchronously)
    variable.set("at connecting")
    await client.connect()
    await until(lambda: len(seen) == 2)
    assert seen == ["at registration", "at registration"]
    assert variable.get() == "at connecting"


@pytest.mark.pins("5.4")
async def test_what_counts_as_asynchronous(make_client):
    """Whatever returns something to await, however it was made: the client awaits it, and `close()` waits for it."""
    client = make_client()
    seen = []

    async def listen(name="function"):
        await asyncio.sleep(0.01)
        seen.append(name)

    class Listener:
        async def method(self):
            await listen("method")

        async def __call__(self):
            await listen("callable")

    mock = AsyncMock()
    listeners = [listen, Listener().method, Listener(), partial(listen, "partial"), lambda: listen("lambda"), mock]
    for listener in listeners:
        client.on("ready", listener)
    await client.connect()
    await client.close()
    assert sorted(seen) == ["callable", "function", "lambda", "method", "partial"]
    assert mock.await_count == 1


@pytest.mark.pins("5.4", "P2")
def test_asynchronous_listeners_outlive_loops(redis_url):
    """On each event loop anew: they are called, and `close()` waits for them; also after a loop was closed early."""
    client = create_client(redis_url)
    begun, ended = [], []

    async def listen():
        begun.append(1)
        await asyncio.sleep(0.01)
        ended.append(1)

    async def use():
        await client.connect()
        await asyncio.sleep(0)
        await client.close()

    for event in ("ready", "end"):
        client.on(event, listen)
    for _ in range(2):
        asyncio.run(use())
    assert sum(begun) == sum(ended) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.connect())
        loop.run_until_complete(asyncio.sleep(0))
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False
        loop.close()
        asyncio.run(use())
        gc.collect()
    assert sum(begun) == 7
    assert sum(ended) == 6


@pytest.mark.pins("5.4", "P2")
async def test_a_future_that_a_listener_returns_goes_on_by_itself(make_client):
    """The client neither waits for it nor cancels it: a listener may well start what closes the client."""
    client = await make_client().connect()
    started = []
    client.on("error", lambda _: started.append(asyncio.create_task(client.close())) or started[-1])
    client.on("ping-interval", lambda _: 1 / 0)
    client._core._life.happened(Pinged(0.0))
    async with asyncio.timeout(1):
        await turns()
        await started[0]
    assert not client.is_open


@pytest.mark.pins("5.4")
async def test_a_busy_listener_that_is_taken_off(make_client):
    """It finishes what it is at; what waited for it is dropped."""
    client = make_client()
    calls = []

    async def listen(latency):
        calls.append(latency)
        await asyncio.sleep(0.01)

    client.on("ping-interval", listen)
    await client.connect()
    for latency in (1.0, 2.0, 3.0):
        client._core._life.happened(Pinged(latency))
    await turns()
    assert client.off("ping-interval", listen)
    await client.close()
    assert calls == [1.0]


@pytest.mark.pins("5.4", "P1")
async def test_listeners_are_never_called_inside_reply_handling(peer, pinging):
    """A ping's answer amid replies: its listener, which raises, is called when all have been attributed."""
    peer.on("PING", None)
    pings = sum(each.name == "PING" for each in peer.commands)
    callers = []
    pinging.on("ping-interval", lambda _: callers.extend(inspect.stack()))
    pinging.on("ping-interval", lambda _: 1 / 0)
    await peer.wait_for_command("PING", count=pings + 1)
    tasks = [asyncio.create_task(pinging.execute_command("SLOW", number)) for number in range(3)]
    await peer.wait_for_command("SLOW", count=3)
    pinging.on("error", lambda _: None)
    peer.on("PING", resp.simple("PONG"))
    peer.connections[0].send(resp.simple("PONG"), *(resp.simple(str(number)) for number in range(3)))
    assert await asyncio.gather(*tasks) == [b"0", b"1", b"2"]
    await until(lambda: callers)
    assert "data_received" not in {frame.function for frame in callers}


@pytest.mark.pins("5.4", "P5")
async def test_an_asynchronous_listener_has_one_event_at_a_time(pinging):
    """So many wait; the rest is dropped and counted, and the others miss nothing."""
    running, most, seen = 0, 0, []
    others = EventRecord(pinging)
    go_on = asyncio.Event()

    @pinging.on("ping-interval")
    async def slow(latency):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        seen.append(latency)
        running -= 1

    await others.wait_for("ping-interval", BACKLOG + 20)
    dropped = pinging._core.listeners.dropped
    assert dropped == len(others) - BACKLOG - 1
    go_on.set()
    await until(lambda: len(seen) > BACKLOG)
    assert most == 1
    assert seen[: BACKLOG + 1] == others.of("ping-interval")[: BACKLOG + 1]


@pytest.mark.pins("5.4", "P2")
async def test_a_listener_that_blocks(peer, make_client):
    """It costs everybody time, and nothing else."""
    client = make_client(command_timeout=0.05, connect_timeout=0.05)
    client.on("ready", lambda: time.sleep(0.1))
    await client.connect()
    assert await client.get("k") == b"k"


# -- raising ----------------------------------------------------------------------------------------


@pytest.mark.pins("5.4", "P1")
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_listener_that_raises_becomes_an_error(make_client, is_async):
    """The others are called all the same, and the client goes on."""
    client = make_client()

    def fail():
        raise LookupError("mine")

    async def fail_asynchronously():
        fail()

    client.on("ready", fail_asynchronously if is_async else fail)
    events = EventRecord(client)
    await client.connect()
    await events.wait_for("error")
    assert events.names == ["connect", "ready", "error"]
    assert isinstance(events.of("error")[0], LookupError)
    assert await client.get("k") == b"k"


@pytest.mark.pins("5.4")
async def test_a_listener_that_is_cancelled(pinging):
    """Something that it waits for was cancelled: it misses no later event, and the client none either."""
    seen = []

    @pinging.on("ping-interval")
    async def listen(latency):
        seen.append(latency)
        if len(seen) <= 2:
            raise asyncio.CancelledError

    await until(lambda: len(seen) > 5)
    assert pinging.is_ready


@pytest.mark.pins("5.4")
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_listener_of_error_that_raises_is_logged(make_client, unused_port, caplog, is_async):
    """And nothing follows from it: it would never end."""

    def fail(error):
        raise LookupError("mine")

    async def fail_asynchronously(error):
        fail(error)

    client = make_client(f"redis://127.0.0.1:{unused_port}", reconnect_strategy=30)
    client.on("error", fail_asynchronously if is_async else fail)
    events = EventRecord(client)
    connecting = asyncio.create_task(client.connect())
    await events.wait_for("reconnecting")
    await turns()
    assert events.names == ["error", "reconnecting"]
    (line,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert line.exc_info[0] is LookupError
    assert client.is_open
    client.destroy()
    await outcome(connecting)


@pytest.mark.pins("5.4")
async def test_errors_without_a_listener_are_logged(make_client, caplog):
    """At WARNING, never raised: also what a listener raised."""

    def fail():
        return 1 / 0

    client = make_client()
    client.on("ready", fail)
    await client.connect()
    await until(lambda: [each for each in caplog.records if each.levelname == "WARNING"])
    (line,) = [each for each in caplog.records if each.levelname == "WARNING"]
    place = f"test_listeners.py, line {fail.__code__.co_firstlineno + 1}"
    assert (line.levelname, line.getMessage()) == (
        "WARNING",
        f"ZeroDivisionError in {place}",
    )  # whose text may hold a key


@pytest.mark.pins("4.20", "5.4")
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_listener_of_end_that_raises(client, is_async):
    """Nothing is emitted after `end`: it is logged."""

    def fail():
        raise LookupError("mine")

    async def fail_asynchronously():
        fail()

    client.on("end", fail_asynchronously if is_async else fail)
    events = EventRecord(client)
    await client.close()
    await turns()
    assert events.names == ["end"]


# -- when the client closes -------------------------------------------------------------------------


@pytest.mark.pins("5.4", "4.19")
async def test_closing_waits_for_listeners(pinging):
    """Those that have begun, and those that wait, are done when it returns."""
    done = []
    go_on = asyncio.Event()

    @pinging.on("ping-interval")
    async def listen(_):
        await go_on.wait()
        await asyncio.sleep(0)
        done.append("ping-interval")

    @pinging.on("end")
    async def listen_to_the_end():
        go_on.set()
        await asyncio.sleep(0)
        done.append("end")

    others = EventRecord(pinging)
    await others.wait_for("ping-interval", 5)
    await pinging.close()
    assert done.count("end") == 1
    assert done.count("ping-interval") == others.names.count("ping-interval") >= 5


@pytest.mark.pins("5.4", "4.19", "P2", "P6")
async def test_closing_cancels_listeners_in_the_end(clock, make_client):
    """One that goes on for ever is cancelled after close_timeout."""
    client = make_client(close_timeout=3)
    ended = []

    @client.on("ready")
    async def listen():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(clock())

    await client.connect()
    await client.close()
    assert ended == [pytest.approx(3, abs=0.01)]
    assert clock() == pytest.approx(3, abs=0.01)
    assert not job_tasks()


# -- waiting for an event ---------------------------------------------------------------------------


@pytest.mark.pins("5.4")
async def test_waiting_for_an_event(peer, client):
    """Its argument, a tuple of several, or None; a time-out; an end that comes instead."""
    waits = [asyncio.create_task(client.wait_for(name, timeout=5)) for name in ("reconnecting", "ready", "error")]
    await turns(1)
    peer.connections[0].close()
    reconnecting, ready, error = await asyncio.gather(*waits)
    assert reconnecting == (0, 0.0)
    assert ready is None
    assert "closed the connection" in str(error)
    with pytest.raises(TimeoutError):
        await client.wait_for("terminated", timeout=0.001)
    ends = [asyncio.create_task(client.wait_for(name)) for name in ("end", "ready")]
    await turns(1)
    client.destroy()
    assert await ends[0] is None
    assert isinstance(await outcome(ends[1]), ClientClosedError)
    cancelled = asyncio.create_task(client.wait_for("ready"))
    await turns(1)
    cancelled.cancel()
    assert isinstance(await outcome(cancelled), asyncio.CancelledError)


@pytest.mark.pins("5.4")
async def test_a_ping_tells_its_latency(pinging):
    """In seconds."""
    assert 0 < await pinging.wait_for("ping-interval", timeout=5) < 1
