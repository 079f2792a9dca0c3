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

CALLERS = 50
KEY = "counter"


class Census:
    """What became of the commands.

    Attributes:
        acknowledged: What each acknowledged INCR returned.
        outcomes: How commands ended, all and those issued while the server was down.
        is_down: Whether the server is down now.
    """

    def __init__(self, client):
        self.acknowledged = []
        self.outcomes = Counter()
        self.when_down = Counter()
        self.is_down = False
        self._client = client

    async def increment(self, client=None):
        """Count one up, and note what became of it; return the count, or 0."""
        client = client or self._client
        was_down = self.is_down
        count = 0
        try:
            count = await client.incr(KEY)
        except KitError as error:
            outcome = "unknown" if error.maybe_executed else "not executed"
        else:
            outcome = "acknowledged"
            self.acknowledged.append(count)
        self.outcomes[outcome] += 1
        if was_down:
            self.when_down[outcome] += 1
        return count

    async def wait_acknowledged(self, more):
        """Wait until so many more increments are acknowledged."""
        goal = self.outcomes["acknowledged"] + more
        async with asyncio.timeout(20):
            while self.outcomes["acknowledged"] < goal:
                await asyncio.sleep(0.001)


async def count_on(census, is_over):
    """Be a caller: count up until it is over. Each count is higher than the last."""
    last = 0
    while not is_over.is_set():
        if count := await census.increment():
            assert count > last
            last = count


async def interrupt(server, census, rng, hasty):
    """Kill the server amid the load, let commands come while it is down, and start it again.

    Every third of these is issued on a client whose commands have less time than the server needs to come back.
    """
    await census.wait_acknowledged(rng.randrange(200, 600))
    await asyncio.sleep(rng.uniform(0, 0.003))
    server.kill()
    census.is_down = True
    late_callers = []
    back_at = time.monotonic() + rng.uniform(0.05, 0.4)
    while time.monotonic() < back_at:
        client = hasty if len(late_callers) % 3 == 0 else None
        late_callers.append(asyncio.create_task(census.increment(client)))
        await asyncio.sleep(0.002)
    await anyio.to_thread.run_sync(server.start)
    census.is_down = False
    return late_callers


@pytest.mark.pins("P2", "P3", "P4", "4.3", "4.10", "4.11")
async def test_acknowledged_increments_survive_kills(rng, is_long):
    """Every acknowledged INCR is there; no other is but those of unknown outcome, at most one a caller and kill."""
    kills = 20 if is_long else 3
    is_over = asyncio.Event()
    began = time.monotonic()
    with RedisServer(persistence="aof") as server:
        async with create_client(server.url) as client, asyncio.TaskGroup() as group:
            census = Census(client)
            callers = [group.create_task(count_on(census, is_over)) for _ in range(CALLERS)]
            hasty = client.with_options(command_timeout=0.1)
            late_callers = []
            for _ in range(kills):
                late_callers += await interrupt(server, census, rng, hasty)
            await census.wait_acknowledged(1000)
            is_over.set()
            await asyncio.gather(*callers, *late_callers)
            final = int(await client.get(KEY))
    acknowledged, unknown = census.outcomes["acknowledged"], census.outcomes["unknown"]
    print(f"{kills} kills in {time.monotonic() - began:.1f} s: {dict(census.outcomes)}, counter {final}")
    print(f"while the server was down: {dict(census.when_down)}")
    assert len(set(census.acknowledged)) == acknowledged
    assert max(census.acknowledged) <= final
    assert acknowledged <= final <= acknowledged + unknown
    assert unknown <= CALLERS * kills
    assert census.when_down.total() > CALLERS * kills
    assert census.when_down["unknown"] <= 0.01 * census.when_down.total()
