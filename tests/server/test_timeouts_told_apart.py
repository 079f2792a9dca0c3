"""Why a command timed out: six causes planted at a real server, and each is named. Long: twenty times each."""

from __future__ import annotations

import asyncio
import time

import pytest

from aioredis_kit import TimeoutCause, create_client
from aioredis_kit.exceptions import KitError
from aioredis_kit.testing import FaultProxy
from tests.support.blackhole import let_through, swallow
from tests.support.observing import until
from tests.support.scripts import BUSY

TIMEOUT = 0.4

pytestmark = pytest.mark.only_long


async def slow_script(server, client, proxy):
    async with create_client(server.url) as other:
        await asyncio.gather(other.ping(), client.ping())
        script = asyncio.create_task(other.eval(BUSY, 0, TIMEOUT * 1.5))
        await asyncio.sleep(0.02)  # the server has to have begun
        error = await failure(client.get("k"))
        await script
    return error


async def own_slow_script(server, client, proxy):
    """The same, on the very connection."""
    script = asyncio.create_task(client.with_options(command_timeout=5).eval(BUSY, 0, TIMEOUT * 1.5))
    await asyncio.sleep(0.01)  # it has to be written before
    error = await failure(client.get("k"))
    await script
    return error


async def blocked_loop(server, client, proxy):
    """Through the proxy, which lives on this loop: what is blocked can neither send nor read."""
    asyncio.get_running_loop().call_soon(time.sleep, 2 * TIMEOUT)
    return await failure(client.get("k"))


async def big_reply(server, client, proxy):
    """100 MB, ahead of one that can't wait for it."""
    direct = await create_client(server.url, command_timeout=30).connect()
    async with direct:
        await direct.setrange("big", 100_000_000, b"x")
        big = asyncio.create_task(direct.get("big"))
        await until(lambda: direct.statistics().bytes_read > 2**20)  # it comes
        error = await failure(direct.with_options(command_timeout=0.02).get("k"))
        assert len(await big) == 100_000_001
        await direct.delete("big")
    return error


async def blackholed(server, client, proxy):
    swallow(proxy)
    error = await failure(client.get("k"))
    let_through(proxy)
    return error


async def disconnected(server, client, proxy):
    proxy.refuse()
    proxy.cut()
    await until(lambda: not client.is_ready)
    error = await failure(client.get("k"))
    proxy.accept()
    return error


async def exhausted(server, client, proxy):
    async with client.dedicated():
        return await failure(client.blpop("none", timeout=0.01))


async def failure(awaitable):
    try:
        result = await awaitable
    except KitError as error:
        return error
    raise AssertionError(f"it was answered: {result!r}")


PLANTED = {
    slow_script: TimeoutCause.SLOW_SERVER,
    own_slow_script: TimeoutCause.SLOW_SERVER,
    blocked_loop: TimeoutCause.BLOCKED_LOOP,
    big_reply: TimeoutCause.BIG_REPLY,
    blackholed: TimeoutCause.DEAD_PEER,
    disconnected: TimeoutCause.DISCONNECTED,
    exhausted: TimeoutCause.LEASES_EXHAUSTED,
}


@pytest.fixture
async def proxy(redis_server):
    async with FaultProxy.for_url(redis_server.url) as proxy:
        yield proxy


@pytest.mark.pins("4.7", "4.8")
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
async def test_the_cause_is_named(redis_server, proxy, plant, is_long):
    """In words too, which are the advice."""
    times = 20 if is_long else 1
    named = []
    for _ in range(times):
        options = {"command_timeout": TIMEOUT, "max_dedicated_connections": 1, "reconnect_strategy": 0.05}
        async with create_client(proxy.url, **options) as client:
            error = await plant(redis_server, client, proxy)
        named.append(error.diagnosis.cause)
        assert error.diagnosis.advice in str(error)
    assert named == [PLANTED[plant]] * times


async def test_a_server_that_is_stopped_is_no_dead_peer(redis_server, proxy):
    """Its machine still acknowledges; and so does a proxy that holds everything back."""
    async with create_client(proxy.url, command_timeout=0.2) as client:
        proxy.stall()
        error = await failure(client.get("k"))
        proxy.resume()
    assert error.diagnosis.cause is TimeoutCause.SLOW_SERVER
    assert (error.diagnosis.unacknowledged_for, error.diagnosis.bytes_read) == (0.0, 0)


async def test_what_was_never_sent_behind_a_dead_peer(proxy):
    """The peer reads nothing any more, the socket's buffer is full, and the rest waits."""
    async with create_client(proxy.url, command_timeout=0.4, commands_queue_max_length=10) as client:
        swallow(proxy)
        errors = await asyncio.gather(*(client.set("k", b"x" * 1000) for _ in range(20)), return_exceptions=True)
        let_through(proxy)
    assert [error.diagnosis.cause for error in errors] == [TimeoutCause.DEAD_PEER] * 20
    assert [error.maybe_executed for error in errors] == [True] * 10 + [False] * 10
