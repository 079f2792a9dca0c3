"""The same client on each kind of event loop: asyncio's, in debug mode, with eager tasks, and uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import CommandTimeoutError, ConnectionLostError
from aioredis_kit.testing import FaultProxy, ScriptedPeer, resp
from tests.support.observing import EventRecord, outcome, until


def new_eager_loop():
    """A loop whose tasks begin at once."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def new_debugging_loop():
    """A loop in debug mode."""
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def new_uvloop():
    """A loop of uvloop's."""
    return pytest.importorskip("uvloop").new_event_loop()


LOOPS = {
    "asyncio": asyncio.new_event_loop,
    "debug": new_debugging_loop,
    "eager": pytest.param(
        new_eager_loop,
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"),
    ),
    "uvloop": pytest.param(
        new_uvloop,
        marks=pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not run on Windows"),
    ),
}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def run(request):
    """A function that runs a coroutine on a loop of that kind; no task and no unhandled exception may be left."""

    def run(coroutine):
        unhandled = []
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))

            async def guarded():
                await coroutine
                await until(lambda: len(asyncio.all_tasks()) == 1, "the end of all other tasks")

            runner.run(guarded())
        assert not unhandled

    return run


@pytest.mark.pins("P1", "P6")
def test_a_load(run, redis_url):
    """Many callers, small and large values, cancelled ones among them: each gets its own reply."""

    async def ask(client, number):
        value = f"{number}:".encode() * (20_000 if number % 50 == 0 else 1)
        await client.set(f"key:{number}", value)
        assert await client.get(f"key:{number}") == value
        return number

    async def load():
        async with create_client(redis_url) as client:
            tasks = [asyncio.create_task(ask(client, number)) for number in range(1000)]
            await asyncio.sleep(0)
            for task in tasks[::7]:
                task.cancel()
            done = [await outcome(task) for task in tasks]
            assert all(isinstance(each, asyncio.CancelledError) or each == n for n, each in enumerate(done))
            assert sum(each == n for n, each in enumerate(done)) >= 800
            assert await client.ping() is True

    run(load())


@pytest.mark.pins("4.10", "4.11", "5.1", "P2", "P6")
def test_losses(run, redis_url):
    """Cut by FIN and by RST, refused, stalled: it comes back, and everything ends."""

    async def lose():
        async with FaultProxy.for_url(redis_url) as proxy:
            options = {"reconnect_strategy": 0.01, "command_timeout": 0.2, "ping_timeout": 0.2}
            async with create_client(proxy.url, **options) as client:
                events = EventRecord(client)
                for fault in (proxy.cut, lambda: proxy.cut(reset=True), lambda: (proxy.refuse(), proxy.cut())):
                    losses = events.names.count("reconnecting")
                    fault()
                    await events.wait_for("reconnecting", losses + 1)
                    waiting = asyncio.create_task(client.with_options(command_timeout=5).set("k", 1))
                    proxy.accept()
                    assert await waiting is True
                proxy.stall()
                error = await outcome(client.set("k", 2))
                assert isinstance(error, CommandTimeoutError | ConnectionLostError)
                assert error.maybe_executed is True
                await events.wait_for("reconnecting", events.names.count("reconnecting") + 1)
                proxy.resume()
                await client.connect()
                assert await client.get("k") is not None

    run(lose())


@pytest.mark.pins("P5", "P4")
def test_back_pressure(run):
    """A peer that doesn't read: writing stops and goes on in order."""

    async def press():
        async with ScriptedPeer() as peer:
            peer.on("SET", resp.simple("OK"))
            async with create_client(peer.url, command_timeout=30) as client:
                peer.connections[0].pause_reading()
                value = b"x" * 100_000
                tasks = [asyncio.create_task(client.set(str(number), value)) for number in range(200)]
                await until(lambda: not client.is_ready)
                peer.connections[0].resume_reading()
                assert await asyncio.gather(*tasks) == [True] * 200
                keys = [each.words[1] for each in peer.commands if each.name == "SET"]
                assert keys == [str(number).encode() for number in range(200)]

    run(press())


@pytest.mark.pins("4.9", "P1")
def test_a_blocked_loop(run):
    """A pong that has come while the loop was blocked counts, also where timers run before sockets are read."""

    async def block():
        async with ScriptedPeer() as peer, create_client(peer.url, ping_interval=0.02, ping_timeout=0.05) as client:
            events = EventRecord(client)
            peer.on("PING", lambda _: time.sleep(0.1) or resp.simple("PONG"))
            await events.wait_for("ping-interval", 3)
            assert "error" not in events.names

    run(block())


@pytest.mark.pins("4.19", "4.20", "5.2", "P6")
def test_ends(run, redis_url):
    """At any turn of connecting, by any way to end."""

    async def end():
        for way in ("close", "destroy", "aclose", "cancel"):
            for turns in range(14):
                client = create_client(redis_url)
                connecting = asyncio.create_task(client.connect())
                command = asyncio.create_task(client.ping())
                for _ in range(turns):
                    await asyncio.sleep(0)
                if way == "cancel":
                    connecting.cancel()
                    command.cancel()
                elif way == "destroy":
                    client.destroy()
                else:
                    await getattr(client, way)()
                await asyncio.gather(connecting, command, return_exceptions=True)
                await client.close()
                assert not client.is_open

    run(end())


@pytest.mark.pins("P2", "4.20")
@pytest.mark.leaves_redis_clients_open(reason="its loop ends")
def test_the_loop_ends_first(run, redis_url):
    """All tasks are cancelled, the client's too, as `asyncio.run` does: it ends, and so do those who wait."""

    async def cancel_all():
        client = create_client(redis_url)
        await client.connect()
        waiting = [asyncio.create_task(client.wait_for("terminated")) for _ in range(3)]
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting)
        await client.close()
        assert not client.is_open

    run(cancel_all())
