"""How a client is, asked once a second through all that happens to it, and compared with what was done to it.

The short form asks once for each; the long one goes on for several seconds each.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from aioredis_kit import Concern, create_client
from aioredis_kit.policy.assessment import RECENT
from aioredis_kit.testing import RedisServer
from aioredis_kit.transport.tasks import in_thread
from tests.support.observing import until

pytestmark = pytest.mark.only_long

TIMEOUT = 0.3
OPTIONS = {"command_timeout": 2, "ping_timeout": 1, "reconnect_strategy": 0.05, "connect_timeout": 1}
LATE = 0.25
"""How much more than its time a verdict may take on a busy machine, in seconds."""


class Seconds:
    """Asks once a second, and compares what is told with the truth.

    Args:
        client: Who is asked.
        count: How many seconds each phase has.
        pause: How long a second is.
    """

    def __init__(self, client, count, pause):
        self.client = client
        self.count = count
        self.pause = pause
        self.told = 0

    async def are(self, status, *concerns, allowing=(Concern.RECENTLY_LOST,)):
        """See that each second's verdict is this. Others of the concerns may be told that are true as well."""
        for number in range(self.count):
            begun = time.monotonic()
            health = await self.client.health(timeout=TIMEOUT)
            took = time.monotonic() - begun
            named = {each.concern for each in health.reasons}
            assert took <= TIMEOUT + LATE, (took, health)
            assert set(concerns) <= named <= {*concerns, *allowing}, (number, health)
            is_told_apart = "degraded" if status == "ok" and named else status
            assert health.status == is_told_apart, (number, health)
            assert health.is_live
            self.told += 1
            await asyncio.sleep(max(self.pause - took, 0))  # the next second


@pytest.fixture
def make_seconds(is_long):
    return lambda client: Seconds(client, *((5, 1.0) if is_long else (1, 0.0)))


@pytest.fixture
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
async def client(server):
    async with create_client(server.url, **OPTIONS) as client:
        yield client


async def test_idle(client, make_seconds):
    await make_seconds(client).are("ok", allowing=())


async def test_full_load(client, make_seconds):
    """A hundred callers one after the other: it is as well as idle."""
    is_over = False

    async def caller(number):
        while not is_over:
            await client.set(f"k{number}", number)

    callers = [asyncio.create_task(caller(number)) for number in range(100)]
    await asyncio.sleep(0.05)  # the load begins
    # On a machine that others use, a loop under full load may be kept waiting.
    await make_seconds(client).are("ok", allowing=(Concern.LOOP_BLOCKED,))
    is_over = True
    await asyncio.gather(*callers)
    assert client.statistics().commands.answered > 100


async def test_the_server_is_paused(client, server, make_seconds):
    """First it says nothing; after `ping_timeout` the connection is given up, and a new one is not answered either."""
    seconds = make_seconds(client)
    await seconds.are("ok")
    server.pause()
    health = await client.health(timeout=TIMEOUT)
    assert [each.concern for each in health.reasons] == [Concern.SILENT]
    if seconds.count > 1:
        await until(lambda: not client.is_ready)
        await seconds.are("unavailable", Concern.NOT_CONNECTED)
    server.resume()
    await until(lambda: client.is_ready)
    await seconds.are("ok")


async def test_the_server_is_killed(client, server, make_seconds):
    seconds = make_seconds(client)
    await seconds.are("ok")
    await in_thread(server.kill)
    await until(lambda: not client.is_ready)
    await seconds.are("unavailable", Concern.NOT_CONNECTED)
    await in_thread(server.start)
    await until(lambda: client.is_ready)
    await seconds.are("ok", Concern.RECENTLY_LOST)
    if seconds.count > 1:
        await asyncio.sleep(RECENT)  # then it is no news any more
        await seconds.are("ok", allowing=())


async def test_the_password_is_wrong_after_a_rotation(server, make_seconds):
    """What is open goes on; once that is lost there is no way back, until somebody says the new one."""
    async with create_client(server.url) as admin:
        await admin.acl_setuser("ada", enabled=True, passwords=["+s3cret-of-ada"], commands=["+@all"], keys=["*"])
        async with create_client(server.url, username="ada", password="s3cret-of-ada", **OPTIONS) as client:
            seconds = make_seconds(client)
            await seconds.are("ok")
            await admin.acl_setuser("ada", enabled=True, reset_passwords=True, passwords=["+s3cret-newer"])
            await seconds.are("ok")
            await admin.client_kill_filter(user="ada")
            await until(lambda: client.statistics().connections.failures)
            await seconds.are("unavailable", Concern.CREDENTIALS_REFUSED)
            assert "s3cret" not in str((await client.health(timeout=0)).as_dict())
            await admin.acl_setuser("ada", enabled=True, passwords=["+s3cret-of-ada"])
            await until(lambda: client.is_ready)
            await seconds.are("ok", Concern.RECENTLY_LOST)


async def test_the_loop_is_blocked(client, make_seconds):
    """For 500 ms, in the middle of a second: told for as long as it is recent, and no longer."""
    seconds = make_seconds(client)
    await seconds.are("ok", allowing=())
    await asyncio.sleep(0.01)  # the loop's watch looks at it
    time.sleep(0.5)  # noqa: ASYNC251  # blocking the loop is what this is about
    blocked_at = time.monotonic()
    health = await client.health(timeout=TIMEOUT)
    assert (health.status, [each.concern for each in health.reasons]) == ("degraded", [Concern.LOOP_BLOCKED])
    assert 0.4 <= client.statistics().loop_lag.longest <= 0.75
    if seconds.count > 1:
        while (passed := time.monotonic() - blocked_at) < RECENT - 1:
            health = await client.health(timeout=TIMEOUT)
            assert [each.concern for each in health.reasons] == [Concern.LOOP_BLOCKED], passed
            await asyncio.sleep(1)  # the next second
        await asyncio.sleep(RECENT - passed + 0.5)  # it is no news any more
        await seconds.are("ok", allowing=())


async def test_the_loop_is_blocked_while_it_is_asked(client):
    """The answer is there, and only was not read: that is no silence."""
    await client.health(timeout=TIMEOUT)
    asking = asyncio.create_task(client.health(timeout=TIMEOUT))
    asyncio.get_running_loop().call_soon(time.sleep, 0.5)
    health = await asking
    assert (health.is_ready, Concern.LOOP_BLOCKED in {each.concern for each in health.reasons}) == (True, True)


async def test_the_server_is_loading(make_seconds, is_long):
    """Its data takes a while to load, and until then it serves nobody."""
    keys, lasts = 200, 8.0 if is_long else 1.0
    config = {
        "key-load-delay": round(lasts / keys * 1e6),
        "loading-process-events-interval-bytes": 1024,
        "rdbcompression": "no",
    }
    with RedisServer(persistence="rdb", config=config) as server:
        async with create_client(server.url, **OPTIONS) as client:
            seconds = make_seconds(client)
            await asyncio.gather(*(client.set(f"k{number}", "x" * 500) for number in range(keys)))
            await seconds.are("ok")
            await in_thread(lambda: server.restart(wait_loaded=False))
            await until(lambda: client._core.lane.link.not_serving)
            await seconds.are("unavailable", Concern.NOT_SERVING)
            await until(lambda: client.is_ready, timeout=15)
            await seconds.are("ok", Concern.RECENTLY_LOST)
