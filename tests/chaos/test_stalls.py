"""Servers and networks that fall silent without hanging up, and what only looks like it.

Waits are short versions of the defaults, in the same proportions.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager, suppress

import pytest

from aioredis_kit import (
    CommandTimeoutError,
    ConnectionLostError,
    ConnectTimeoutError,
    HealthCheckError,
    create_client,
)
from aioredis_kit.testing import FaultProxy, RedisServer

pytestmark = pytest.mark.only_long

TOLERANCE = 0.1
"""Seconds by which a bound may be missed: deadlines are noticed up to 50 ms late, and the machine is shared."""

BLOCKED = 0.45
"""For how long the event loop stands still, in seconds."""


class Losses:
    """The losses of a client's connection, with their times."""

    def __init__(self, client):
        self._first = asyncio.get_running_loop().create_future()
        self.errors = []
        client.on("error", self._note)

    def _note(self, error):
        self.errors.append(error)
        if not self._first.done():
            self._first.set_result(time.monotonic())

    async def wait_first(self):
        """Wait for the first one, and return when it was noticed."""
        async with asyncio.timeout(10):
            return await self._first


async def keep_asking(client):
    """Ask every few milliseconds; each command ends by its deadline, whatever with."""

    async def ask():
        with suppress(CommandTimeoutError, ConnectionLostError):
            await client.get("key")

    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(ask())
            await asyncio.sleep(0.005)  # the pace of the load


async def serves(client):
    """Wait until the client serves again, or fail."""
    async with asyncio.timeout(5):
        while True:
            try:
                assert await client.echo("again") == b"again"
                return
            except (CommandTimeoutError, ConnectionLostError):
                continue


IDLE = {"ping_interval": 0.4, "ping_timeout": 0.3, "command_timeout": 5.0}
BUSY = {"ping_interval": 30.0, "ping_timeout": 0.3, "command_timeout": 0.4}


@pytest.mark.pins("4.9", "case-136", "P2")
@pytest.mark.parametrize(
    ("options", "is_asking", "end"),
    [
        (IDLE, False, "resume"),
        (IDLE, True, "restart"),
        (BUSY, True, "resume"),
        pytest.param(IDLE, False, "restart", marks=pytest.mark.only_long),
        pytest.param(IDLE, True, "resume", marks=pytest.mark.only_long),
        pytest.param(BUSY, True, "restart", marks=pytest.mark.only_long),
    ],
)
async def test_a_stopped_server_is_noticed_in_time(server, end, options, is_asking, is_long):
    """A server stopped by SIGSTOP counts as lost within the bound; continued or started again, it is used again."""
    bound = min(options["ping_interval"], options["command_timeout"]) + options["ping_timeout"]
    async with create_client(server.url, connect_timeout=0.3, reconnect_strategy=0.05, **options) as client:
        for _ in range(5 if is_long else 1):
            await client.echo("now")
            losses = Losses(client)
            asking = asyncio.create_task(keep_asking(client)) if is_asking else None
            server.pause()
            stalled_at = time.monotonic()
            noticed_after = await losses.wait_first() - stalled_at
            print(f"noticed after {noticed_after:.3f} s, the bound is {bound:.3f} s")
            assert isinstance(losses.errors[0], HealthCheckError)
            assert noticed_after <= bound + TOLERANCE
            if end == "resume":
                server.resume()
            else:
                server.kill()
                server.start()
            await serves(client)
            if asking is not None:
                asking.cancel()
                await asyncio.wait((asking,))


@pytest.mark.pins("4.9", "case-136")
@pytest.mark.parametrize("direction", ["to_server", pytest.param("to_client", marks=pytest.mark.only_long)])
async def test_a_stalled_network_is_noticed_in_time(server, direction):
    """A network that swallows one direction is a lost connection, too; the other direction needn't fail for that."""
    async with (
        FaultProxy(server.host, server.port) as proxy,
        create_client(f"redis://{proxy.host}:{proxy.port}", reconnect_strategy=0.05, **BUSY) as client,
    ):
        losses = Losses(client)
        proxy.stall(direction, scope="present")
        stalled_at = time.monotonic()
        with pytest.raises(CommandTimeoutError) as caught:
            await client.get("key")
        assert caught.value.maybe_executed
        assert await losses.wait_first() - stalled_at <= BUSY["command_timeout"] + BUSY["ping_timeout"] + TOLERANCE
        await serves(client)


@pytest.mark.pins("4.9", "case-136")
async def test_a_ping_just_answered_does_not_delay_the_next(server):
    """A stall right after a ping was answered is noticed as soon as any other."""
    options = {"ping_interval": 0.6, "ping_timeout": 0.5, "command_timeout": 0.1}
    async with create_client(server.url, connect_timeout=0.3, reconnect_strategy=0.05, **options) as client:
        losses = Losses(client)
        await client.wait_for("ping-interval", timeout=5)
        server.pause()
        stalled_at = time.monotonic()
        with pytest.raises(CommandTimeoutError):
            await client.get("key")
        assert await losses.wait_first() - stalled_at <= 0.1 + 0.5 + TOLERANCE
        server.resume()
        await serves(client)


@pytest.mark.pins("4.8", "4.9")
async def test_a_busy_server_keeps_its_connection():
    """A server busy for longer than ``command_timeout``, but within the bound, loses commands and no connection."""
    with RedisServer(config={"enable-debug-command": "local"}) as server:
        async with create_client(server.url, ping_interval=0.5, ping_timeout=2.0, command_timeout=0.2) as client:
            losses = Losses(client)
            connection = await client.client_id()
            patient = client.with_options(command_timeout=5.0)
            sleep = asyncio.create_task(patient.execute_command("DEBUG", "SLEEP", "1.5"))
            timed_out = 0
            while not sleep.done():
                try:
                    await client.get("key")
                except CommandTimeoutError as error:
                    timed_out += error.maybe_executed
            assert await sleep == b"OK"
            assert timed_out >= 5
            assert await client.client_id() == connection
            assert not losses.errors


@pytest.mark.pins("5.2", "case-133", "P2", "P6")
async def test_a_server_that_accepts_and_never_answers(server):
    """Each attempt ends by ``connect_timeout`` and ``connect()`` by ``initial_connect_timeout``, with no task left."""
    server.pause()
    client = create_client(server.url, connect_timeout=0.2, initial_connect_timeout=1.0, reconnect_strategy=0.05)
    losses = Losses(client)
    tasks = asyncio.all_tasks()
    began = time.monotonic()
    with pytest.raises(ConnectTimeoutError, match="initial_connect_timeout"):
        await client.connect()
    assert 1.0 <= time.monotonic() - began <= 1.0 + TOLERANCE
    assert await losses.wait_first() - began <= 0.2 + TOLERANCE
    assert len(losses.errors) == 4  # at 0.2, 0.45, 0.7 and 0.95 s
    assert all(isinstance(error, ConnectTimeoutError) for error in losses.errors)
    assert asyncio.all_tasks() == tasks
    assert not client.is_open
    connecting = asyncio.create_task(client.connect())
    await client.wait_for("reconnecting", timeout=5)
    server.resume()
    await connecting
    await serves(client)
    await client.close()


class Blocking(asyncio.Protocol):
    """A program's own protocol, which blocks the loop where it reads: some loops run their timers right after that."""

    def __init__(self):
        self.has_blocked = asyncio.Event()

    def data_received(self, data):
        time.sleep(BLOCKED)
        self.has_blocked.set()


@asynccontextmanager
async def blocking_protocol():
    """Return such a protocol, and the socket that makes it block."""
    near, far = socket.socketpair()
    with far:
        transport, protocol = await asyncio.get_running_loop().create_connection(Blocking, sock=near)
        try:
            yield protocol, far
        finally:
            transport.close()


@pytest.mark.pins("4.9")
@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_blocked_event_loop_drops_no_connection(server, is_long):
    """A loop that stands still for longer than any ping may take finds its connection healthy when it goes on."""
    async with (
        create_client(server.url, ping_interval=0.1, ping_timeout=0.3, command_timeout=0.2) as client,
        blocking_protocol() as (protocol, far),
    ):
        losses = Losses(client)
        connection = await client.client_id()
        for turn in range(20 if is_long else 2):
            server.pause()
            with pytest.raises(CommandTimeoutError):
                await client.get("key")  # so that a ping is out
            server.resume()
            if turn % 2:
                for _ in range(2):
                    time.sleep(BLOCKED)  # noqa: ASYNC251 -- it is what this test is about
                    await asyncio.sleep(0)  # one turn: the loop finds all its timers overdue
            else:
                protocol.has_blocked.clear()
                far.send(b"now")
                await protocol.has_blocked.wait()
            assert await client.client_id() == connection
        assert not losses.errors
