"""Money moves between accounts by WATCH, MULTI and EXEC while connections are killed: its sum never changes.

Each transfer counts itself in the same transaction, so that one that is applied twice shows. A transfer that was
acknowledged was applied once; one that is known as not executed, never; one of unknown outcome, at most once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from redis.exceptions import WatchError

from aioredis_kit import KitError, create_client
from aioredis_kit.testing.probe import Probe

ACCOUNTS = 60
BALANCE = 1000
TRANSFERRERS = 200
CALLERS = 200


class Bank:
    """Moves money, and notes what became of each transfer."""

    def __init__(self, client, rng):
        self.client = client
        self.outcomes = {}
        self.echoes = Counter()
        self._rng = rng

    async def transfer(self, number):
        """Make one transfer."""
        source, target = self._rng.sample(range(ACCOUNTS), 2)
        amount = self._rng.randrange(1, 50)

        async def move(pipe):
            balances = [int(await pipe.get(f"account:{each}")) for each in (source, target)]
            pipe.multi()
            pipe.set(f"account:{source}", balances[0] - amount)
            pipe.set(f"account:{target}", balances[1] + amount)
            pipe.incr(f"applied:{number}")

        try:
            await self.client.transaction(move, f"account:{source}", f"account:{target}")
        except KitError as error:
            self.outcomes[number] = "unknown" if error.maybe_executed else "not executed"
        else:
            self.outcomes[number] = "acknowledged"

    async def call(self, number):
        """Ask for a token of one's own."""
        token = f"token-{number}"
        try:
            reply = await self.client.echo(token)
        except KitError:
            self.echoes["failed"] += 1
        else:
            assert reply == token
            self.echoes["answered"] += 1


async def repeat(action, numbers, end):
    """Do something again and again until the time is over."""
    while time.monotonic() < end:
        await action(next(numbers))


async def kill_connections(address, rng, end):
    """Kill all connections of one kind, or one of them, every now and then; return how many were killed."""
    killed = 0
    with Probe(address) as probe:
        own = probe.call("CLIENT", "ID")
        while time.monotonic() < end:
            await asyncio.sleep(rng.uniform(0.02, 0.2))  # the pace of the faults
            lines = probe.call("CLIENT", "LIST").decode().splitlines()
            ids = [int(line.split()[0].removeprefix("id=")) for line in lines]
            for victim in rng.sample(ids, min(len(ids), rng.choice([1, 1, 2, 5]))):
                if victim != own:
                    killed += probe.call("CLIENT", "KILL", "ID", victim)
    return killed


@pytest.mark.pins("P1", "P2", "P3", "4.12")
async def test_the_sum_never_changes(server, rng, is_long):
    seconds = 60 if is_long else 1.2
    options = {"decode_responses": True, "reconnect_strategy": 0.0, "command_timeout": 10}
    async with create_client(server.url, **options) as client:
        await client.mset({f"account:{number}": BALANCE for number in range(ACCOUNTS)})
        bank = Bank(client, rng)
        end = time.monotonic() + seconds
        transfers, calls = iter(range(10**9)), iter(range(10**9))
        async with asyncio.TaskGroup() as group:
            killer = group.create_task(kill_connections(server.address, rng, end))
            for _ in range(TRANSFERRERS):
                group.create_task(repeat(bank.transfer, transfers, end))
            for _ in range(CALLERS):
                group.create_task(repeat(bank.call, calls, end))
        balances = [int(each) for each in await client.mget([f"account:{number}" for number in range(ACCOUNTS)])]
        numbers = sorted(bank.outcomes)
        applied = [int(each or 0) for each in await client.mget([f"applied:{number}" for number in numbers])]
    outcomes = Counter(bank.outcomes.values())
    print(
        f"{seconds} s, {killer.result()} connections killed, transfers: {dict(outcomes)}, echoes: {dict(bank.echoes)}"
    )
    assert sum(balances) == ACCOUNTS * BALANCE
    allowed = {"acknowledged": {1}, "not executed": {0}, "unknown": {0, 1}}
    for number, times in zip(numbers, applied, strict=True):
        assert times in allowed[bank.outcomes[number]], (number, bank.outcomes[number], times)
    assert killer.result() > 0
    assert outcomes["acknowledged"] > 100
    assert bank.echoes["answered"] > 1000


async def test_a_key_that_was_changed_is_noticed(server):
    """What the loop above stands on: without the loop, a changed key is a WatchError, and nothing is applied."""
    async with create_client(server.url) as client, client.pipeline() as pipe:
        await pipe.watch("k")
        await client.set("k", 1)
        pipe.multi()
        pipe.set("k", 2)
        with pytest.raises(WatchError):
            await pipe.execute()
        assert await client.get("k") == b"1"
