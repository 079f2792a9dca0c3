"""Windows of appends are issued without awaiting while connections are killed: each list is ascending all the same."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter

import pytest

from aioredis_kit import KitError, create_client

WRITERS = 100
WINDOW = 50


@pytest.mark.pins("P1", "P3", "P4", "4.10", "4.11")
@pytest.mark.parametrize("connections", [pytest.param(1, marks=pytest.mark.only_long), 4])
async def test_what_is_in_each_list_is_ascending(server, rng, is_long, connections):
    """With one shared connection and with several. What was acknowledged is there, once."""
    seconds = 60 if is_long else 1.5
    began = time.monotonic()
    outcomes = Counter()
    acknowledged = {writer: [] for writer in range(WRITERS)}
    refuted = {writer: [] for writer in range(WRITERS)}
    options = {"connections": connections, "command_timeout": 20, "reconnect_strategy": 0.001}

    async def append(client, writer, number):
        try:
            await client.rpush(f"list:{writer}", number)
        except KitError as error:
            outcomes["unknown" if error.maybe_executed else "not executed"] += 1
            if not error.maybe_executed:
                refuted[writer].append(number)
        else:
            outcomes["acknowledged"] += 1
            acknowledged[writer].append(number)

    async def write(client, writer):
        number = 0
        while time.monotonic() - began < seconds:
            tasks = [asyncio.create_task(append(client, writer, number + each)) for each in range(WINDOW)]
            number += WINDOW
            await asyncio.gather(*tasks)

    async def kill(admin):
        for turn in itertools.count():
            await asyncio.sleep(rng.uniform(0.01, 0.1))  # the pace of the faults
            if time.monotonic() - began > seconds:
                break
            if turn % 2:  # the server answers faster than the writers ask: else hardly ever is anything in flight
                await admin.client_pause(10_000, all=False)
            lines = [each for each in await admin.client_list() if each["cmd"] != "client|list"]
            for victim in rng.sample(lines, rng.randint(1, len(lines))) if lines else []:
                outcomes["killed"] += await admin.client_kill_filter(_id=victim["id"])
            await admin.client_unpause()

    async with create_client(server.url, **options) as client, create_client(server.url) as admin:
        await asyncio.gather(kill(admin), *(write(client, writer) for writer in range(WRITERS)))
        lists = {
            writer: [int(each) for each in await admin.lrange(f"list:{writer}", 0, -1)] for writer in range(WRITERS)
        }
    print(f"connections={connections}: {dict(outcomes)} in {time.monotonic() - began:.1f} s")
    for writer, found in lists.items():
        assert found == sorted(set(found))
        assert set(acknowledged[writer]) <= set(found)
        assert not set(refuted[writer]) & set(found)
    assert outcomes["killed"] > 2
    assert outcomes["unknown"] > 0
    assert outcomes["acknowledged"] > 10 * WRITERS
