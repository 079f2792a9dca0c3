"""A server that loads its data answers LOADING for a while. Nothing fails for it that has time, and order holds.

The server is a real one that waits after each key that it loads (``key-load-delay``).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import anyio.to_thread
import pytest
from redis.exceptions import BusyLoadingError

from aioredis_kit import CommandTimeoutError, create_client
from aioredis_kit.testing import RedisServer
from aioredis_kit.testing.probe import Probe

pytestmark = pytest.mark.only_long

KEYS = 1000


@pytest.fixture
def seconds(is_long):
    """How long the server loads, at least."""
    return 5.0 if is_long else 1.0


@pytest.fixture
def server(seconds):
    """A server with data that take some seconds to load."""
    config = {
        "key-load-delay": round(seconds / KEYS * 1e6),
        "loading-process-events-interval-bytes": 1024,
        "rdbcompression": "no",
        "enable-debug-command": "local",
    }
    with RedisServer(persistence="rdb", config=config) as server:
        with Probe(server.address) as probe:
            for number in range(KEYS):
                probe.call("SET", f"key:{number}", "x" * 500)
        yield server


async def push_until_ready(client):
    """Push numbers onto a list, one every few milliseconds without waiting for any; return how many."""
    count = 0
    async with asyncio.TaskGroup() as group:
        while not client.is_ready:
            group.create_task(client.rpush("list", count))
            count += 1
            await asyncio.sleep(0.005)  # the pace of the load
    return count


@pytest.mark.pins("4.2", "4.3", "4.7", "5.3", "P4")
@pytest.mark.parametrize("was_connected", [pytest.param(False, marks=pytest.mark.only_long), True])
async def test_a_loading_server_fails_nothing_that_has_time(server, seconds, was_connected):
    """Commands wait until the data is loaded, on one connection and in order; those with less time aren't executed."""
    events = Counter()
    client = create_client(server.url, command_timeout=seconds + 10, connect_timeout=0.3, reconnect_strategy=0.05)
    hasty = client.with_options(command_timeout=seconds / 4)
    try:
        if was_connected:
            await client.connect()
        client.on("connect", lambda: events.update(["connect"]))
        await anyio.to_thread.run_sync(lambda: server.restart(wait_loaded=False))
        began = time.monotonic()
        pushing = asyncio.create_task(push_until_ready(client))
        with pytest.raises(CommandTimeoutError) as caught:
            await hasty.set("hasty", "executed")
        assert not caught.value.maybe_executed
        count = await pushing
        lasted = time.monotonic() - began
        print(f"{count} commands in the {lasted:.1f} s that loading lasted")
        assert lasted > seconds / 2
        assert await client.lrange("list", 0, -1) == [b"%d" % number for number in range(count)]
        assert await client.exists("hasty") == 0
        assert await client.dbsize() == KEYS + 1
        assert events["connect"] == 1
    finally:
        await client.close()


@pytest.mark.pins("4.13")
async def test_a_server_that_loads_again_fails_nothing_that_has_time(server, seconds):
    """LOADING on a connection that is ready: commands are repeated until they are obeyed, or have no more time."""
    refused = 0
    async with create_client(server.url, command_timeout=seconds + 10) as client:
        connection = await client.client_id()
        hasty = client.with_options(command_timeout=0.05)

        def reload():
            with Probe(server.address, timeout=seconds + 10) as probe:
                return probe.call("DEBUG", "RELOAD")

        reloading = asyncio.create_task(anyio.to_thread.run_sync(reload))
        count = 0
        async with asyncio.TaskGroup() as group:
            while not reloading.done():
                group.create_task(client.set(f"late:{count}", count))
                count += 1
                try:
                    await hasty.set("hasty", "executed")
                except BusyLoadingError:
                    refused += 1
                except CommandTimeoutError:
                    pass  # the server was busy with a key just then
        assert await reloading == b"OK"
        print(f"{count} commands, {refused} more had no time")
        assert refused >= 5
        assert [await client.get(f"late:{number}") for number in range(count)] == [b"%d" % n for n in range(count)]
        assert await client.client_id() == connection
