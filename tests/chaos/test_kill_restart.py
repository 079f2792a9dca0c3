"""A server is killed and started again under callers who count: what was acknowledged is there, and little is unknown.

The server writes each command to its disk before it answers (``appendfsync always``). Each caller has one INCR out at
a time; what became of it is either acknowledged, known as not executed, or unknown. Nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import anyio.to_thread
import pytest

from aioredis_kit import KitError, create_client
from aioredis_kit.testing import RedisServer
from tests.support.observing import until

CALLERS = 50
KEY = "counter"


class Census:
    """What became of the commands.

    Attributes:
        acknowledged: What each acknowledged INCR returned.
        callers: How the commands of the callers ended, by outcome.
        extra: How those ended that were issued besides while the server was down.
        when_down: How all ended that were issued while the server was down.
        is_down: Whether the server is down now.
    """

    def __init__(self):
        self.acknowledged = []
        self.callers = Counter()
        self.extra = Counter()
        self.when_down = Counter()
        self.is_down = False

    async def increment(self, client, outcomes):
        """Count one up, and note what became of it; return the count, or 0."""
        was_down = self.is_down
        count = 0
        try:
            count = await client.incr(KEY)
        except KitError as error:
            outcome = "unknown" if error.maybe_executed else "not executed"
        else:
            outcome = "acknowledged"
            self.acknowledged.append(count)
        outcomes[outcome] += 1
        if was_down:
            self.when_down[outcome] += 1
        return count

    async def count_on(self, client, is_over):
        """Be a caller: count up until it is over. Each count is higher than the last."""
        last = 0
        while not is_over.is_set():
            if count := await self.increment(client, self.callers):
                assert count > last
                last = count

    async def wait_acknowledged(self, more):
        """Wait until so many more increments are acknowledged."""
        goal = len(self.acknowledged) + more
        await until(lambda: len(self.acknowledged) >= goal, timeout=20)


async def interrupt(server, census, rng, client):
    """Kill the server amid the load, let more commands come while it is down, and start it again.

    Return the tasks of these commands. Every third has less time than the server needs to come back.
    """
    hasty = client.with_options(command_timeout=0.1)
    await census.wait_acknowledged(rng.randrange(200, 600))
    await asyncio.sleep(rng.uniform(0, 0.003))  # so that it dies at any point of its work
    server.kill()
    census.is_down = True
    extra = []
    back_at = time.monotonic() + rng.uniform(0.05, 0.4)
    while time.monotonic() < back_at:
        by = hasty if len(extra) % 3 == 0 else client
        extra.append(asyncio.create_task(census.increment(by, census.extra)))
        await asyncio.sleep(0.002)  # the pace of the load
    await anyio.to_thread.run_sync(server.start)
    census.is_down = False
    return extra


@pytest.mark.pins("P2", "P3", "P4", "4.3", "4.10", "4.11")
async def test_acknowledged_increments_survive_kills(rng, is_long):
    """Every acknowledged INCR is there; no other is but those of unknown outcome, at most one a caller and kill."""
    kills = 20 if is_long else 3
    is_over = asyncio.Event()
    began = time.monotonic()
    census = Census()
    with RedisServer(persistence="aof") as server:
        async with create_client(server.url) as client, asyncio.TaskGroup() as group:
            callers = [group.create_task(census.count_on(client, is_over)) for _ in range(CALLERS)]
            extra = []
            for _ in range(kills):
                extra += await interrupt(server, census, rng, client)
            await census.wait_acknowledged(1000)
            is_over.set()
            await asyncio.gather(*callers, *extra)
            final = int(await client.get(KEY))
    print(f"{kills} kills in {time.monotonic() - began:.1f} s, counter {final}, the callers: {dict(census.callers)}")
    print(f"more while the server was down: {dict(census.extra)}; all while it was down: {dict(census.when_down)}")
    acknowledged = len(census.acknowledged)
    assert len(set(census.acknowledged)) == acknowledged
    assert max(census.acknowledged) <= final
    assert acknowledged <= final <= acknowledged + census.callers["unknown"] + census.extra["unknown"]
    assert census.callers["unknown"] <= CALLERS * kills
    assert census.when_down.total() > CALLERS * kills
    assert census.when_down["unknown"] <= 0.01 * census.when_down.total()
