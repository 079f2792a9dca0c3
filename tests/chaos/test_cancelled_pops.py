"""Callers of blocking commands go in the very moment in which an element comes: none is lost unseen, and no connection.

Measured for DESIGN: closing the connections of 1000 such callers loses 964 elements.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import ConnectionLostError
from tests.support.blocking import lease_count
from tests.support.observing import until

LIMIT = 40
AT_ONCE = 100
"""So many callers at a time: more than there may be connections."""


class Fates:
    """What became of the elements.

    Attributes:
        pushed: All elements.
        delivered: Those that a caller got.
        orphaned: Those that ``reply-orphaned`` reported.
        most_lent: How many connections were lent at a time.
    """

    def __init__(self, client):
        self.pushed = set()
        self.delivered = []
        self.orphaned = []
        self.cancelled = 0
        self.most_lent = 0
        self._client = client
        client.on("reply-orphaned", lambda command, reply: self.orphaned.append(reply[1].decode()))

    async def pop(self, key):
        """Wait for an element, and note it."""
        await self._note(self._client.blpop(key, 0))

    async def pop_in_a_pipeline(self, key):
        """The same, as a part of a pipeline."""
        await self._note(self._pop_in_a_pipeline(key))

    async def _pop_in_a_pipeline(self, key):
        pipe = self._client.pipeline(transaction=False).set("before", 1).blpop(key, 0)
        return (await pipe.set("behind", 1).execute())[1]

    async def _note(self, call):
        try:
            _, element = await call
        except asyncio.CancelledError:
            self.cancelled += 1
        else:
            self.delivered.append(element.decode())

    async def play(self, pop, pusher, rng, numbers):
        """Let callers wait, push an element for each, and cancel each within a millisecond of that."""
        loop = asyncio.get_running_loop()
        tasks = {f"pop:{number}": asyncio.create_task(pop(f"pop:{number}")) for number in numbers}
        left = dict(tasks)
        while left:
            blocked = [name for name, _ in zip(left, range(LIMIT), strict=False)]  # as they are served in order
            await self._wait_blocked(pusher, len(blocked))
            self.most_lent = max(self.most_lent, lease_count(self._client)[1])
            pushes = []
            for name in blocked:
                self.pushed.add(name)
                push_at = rng.uniform(0.001, 0.03)
                cancel_at = push_at + rng.uniform(-0.001, 0.001)
                loop.call_later(cancel_at, left.pop(name).cancel)
                loop.call_later(push_at, lambda name=name, pushes=pushes: pushes.append(self._push(pusher, name)))
            await asyncio.wait([tasks[name] for name in blocked])
            await until(lambda pushes=pushes, blocked=blocked: len(pushes) == len(blocked))
            await asyncio.gather(*pushes)

    @staticmethod
    def _push(pusher, name):
        return asyncio.ensure_future(pusher.rpush(name, name))

    async def _wait_blocked(self, pusher, count):
        """Wait until so many commands wait at the server."""
        async with asyncio.timeout(10):
            while (await pusher.info("clients"))["blocked_clients"] != count:
                await asyncio.sleep(0.0005)  # between two looks at the condition


@pytest.mark.pins("P1", "P2", "P3", "P5")
@pytest.mark.parametrize(("way", "rounds", "rounds_long"), [("pop", 10, 200), ("pop_in_a_pipeline", 2, 100)])
async def test_every_element_is_delivered_or_left_or_reported(server, rng, is_long, way, rounds, rounds_long):
    """1000 callers: no connection is lost, the limit holds, and nothing is of unknown outcome."""
    rounds = rounds_long if is_long else rounds
    began = time.monotonic()
    async with (
        create_client(server.url, max_dedicated_connections=LIMIT, command_timeout=30) as client,
        create_client(server.url) as pusher,
    ):
        fates = Fates(client)
        connections = (await pusher.info("stats"))["total_connections_received"]
        for number in range(rounds):
            await fates.play(getattr(fates, way), pusher, rng, range(number * AT_ONCE, (number + 1) * AT_ONCE))
        await until(lambda: lease_count(client)[1] == 0)
        left = [(await pusher.lrange(name, 0, -1))[0].decode() async for name in pusher.scan_iter("pop:*", count=1000)]
        opened = (await pusher.info("stats"))["total_connections_received"] - connections
        unknown, orphaned = client.statistics().unknown_outcomes, client.statistics().orphaned_replies
    outcomes = {"delivered": len(fates.delivered), "orphaned": len(fates.orphaned), "left": len(left)}
    print(f"{len(fates.pushed)} pops in {time.monotonic() - began:.1f} s: {outcomes}, {opened} connections")
    assert Counter(fates.delivered + fates.orphaned + left) == Counter(fates.pushed)
    assert len(fates.pushed) == rounds * AT_ONCE
    assert fates.cancelled == len(fates.pushed) - len(fates.delivered)
    assert orphaned == len(fates.orphaned)
    assert unknown == 0
    assert opened == fates.most_lent == LIMIT
    assert all(outcomes.values())  # or it was no test


@pytest.mark.pins("P1", "P3", "P5")
async def test_nothing_is_lost_unseen_under_kills(server, rng, is_long):
    """Connections are killed as well: what is neither delivered, left nor reported is among the unknown outcomes."""
    seconds = 60 if is_long else 1.2
    outcomes = Counter()
    elements = iter(range(10**9))
    orphaned, delivered = [], []
    end = time.monotonic() + seconds
    options = {"max_dedicated_connections": LIMIT, "command_timeout": 10, "reconnect_strategy": 0.001}
    async with create_client(server.url, **options) as client, create_client(server.url) as admin:
        client.on("reply-orphaned", lambda _, reply: orphaned.append(reply[1].decode()))

        async def pop():
            while time.monotonic() < end:
                try:
                    async with asyncio.timeout(rng.uniform(0, 0.05)):
                        delivered.append((await client.blpop("q", 0))[1].decode())
                except TimeoutError:
                    outcomes["cancelled"] += 1
                except ConnectionLostError as error:
                    outcomes["unknown" if error.maybe_executed else "not executed"] += 1

        async def push():
            while time.monotonic() < end:
                await admin.rpush("q", next(elements))
                await asyncio.sleep(0)  # the pace of the load

        async def kill():
            while time.monotonic() < end:
                await asyncio.sleep(rng.uniform(0.05, 0.2))  # the pace of the faults
                outcomes["killed"] += await admin.client_kill_filter(_type="normal", skipme=True)

        await asyncio.gather(*(pop() for _ in range(LIMIT + 20)), push(), kill())
        await until(lambda: lease_count(client)[1] == 0)
        left = [each.decode() for each in await admin.lrange("q", 0, -1)]
        count = int(await admin.execute_command("LLEN", "q"))
        unknown = client.statistics().unknown_outcomes + outcomes["unknown"]
    pushed = next(elements)
    found = Counter(delivered + orphaned + left)
    print(f"{pushed} pushed: {len(delivered)} delivered, {len(orphaned)} orphaned, {count} left, {dict(outcomes)}")
    assert max(found.values()) == 1
    missing = pushed - found.total()
    print(f"{missing} missing, {unknown} of unknown outcome")
    assert 0 <= missing <= unknown
    assert outcomes["killed"]
    assert delivered
