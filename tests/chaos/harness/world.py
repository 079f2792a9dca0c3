"""What a run consists of: a real server behind a proxy, clients, and the history of all that was called."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from redis.exceptions import RedisError

from aioredis_kit import KitError, create_client
from aioredis_kit.testing import FaultProxy, RedisServer

TIMEOUT = 1.5
"""``command_timeout`` of the clients under test, in seconds."""
LATENESS = 0.75
"""How late a call may end beyond that, in seconds: 50 ms, and how long the faults and a busy machine block the loop."""
OPTIONS = {
    "command_timeout": TIMEOUT,
    "connect_timeout": 0.3,
    "initial_connect_timeout": 30,
    "ping_interval": 0.2,
    "ping_timeout": 0.2,
    "reconnect_strategy": 0.02,
    "close_timeout": 2.0,
}
CONFIG = {
    "enable-debug-command": "local",
    "lua-time-limit": 20,
    "loading-process-events-interval-bytes": 1024,
    "maxmemory-policy": "noeviction",
}


@dataclass(slots=True)
class Call:
    """One call of a workload's, and what came of it.

    Attributes:
        name: What was called.
        began: When, on the monotonic clock.
        ended: When it ended; ``None`` while it has not.
        value: What it returned.
        error: What it raised.
    """

    name: str
    began: float
    ended: float | None = None
    value: object = None
    error: BaseException | None = None

    @property
    def succeeded(self):
        return self.ended is not None and self.error is None

    @property
    def may_be_executed(self):
        """Whether the server may have run it, although it did not succeed."""
        if isinstance(self.error, KitError):
            return self.error.maybe_executed
        return isinstance(self.error, asyncio.CancelledError)  # any other is the server's verdict


class World:
    """Where a workload runs.

    Lifecycle: ``async with``; ``over`` is set when the callers shall stop.

    Attributes:
        rng: All that is random.
        server: The server; persistent, so that what it has acknowledged survives it.
        proxy: Between it and the clients under test.
        admin: A client that is not under test, past the proxy.
        history: All calls.
        over: Whether the callers shall stop.
        cancels: Whether calls are cancelled at random.
    """

    def __init__(self, seed, *, make=create_client):
        self.rng = random.Random(seed)
        self.history = []
        self.over = False
        self.cancels = False
        self._make = make
        self._clients = []
        self.server = RedisServer(persistence="aof", config=CONFIG)
        self.proxy = None
        self.admin = None

    async def __aenter__(self):
        await asyncio.to_thread(self.server.start)
        self.proxy = await FaultProxy.for_url(self.server.url).__aenter__()
        self.admin = create_client(self.server.url, decode_responses=True, reconnect_strategy=0.02, command_timeout=30)
        return self

    async def __aexit__(self, *exception):
        await self.admin.close()
        await self.proxy.__aexit__(*exception)
        await asyncio.to_thread(self.server.stop)

    def client(self, **options):
        """Return another client under test."""
        client = self._make(self.proxy.url, decode_responses=True, client_name="tested", **OPTIONS | options)
        self._clients.append(client)
        return client

    @property
    def clients(self):
        """The clients under test."""
        return tuple(self._clients)

    async def close_clients(self):
        """Close all clients under test."""
        await asyncio.gather(*(client.close() for client in self._clients))

    async def call(self, name, make):
        """Make a call, perhaps cancel it, and note what came of it; return that."""
        call = Call(name, time.monotonic())
        self.history.append(call)
        try:
            if self.cancels and self.rng.random() < 0.2:
                call.value = await self._cancelled_sometime(make)
            else:
                call.value = await make()
        except (RedisError, asyncio.CancelledError) as error:
            call.error = error
            if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():
                raise
        finally:
            call.ended = time.monotonic()
        return call

    async def _cancelled_sometime(self, make):
        async def begun():  # or what redis-py's methods have made before would never be awaited
            return await make()

        task = asyncio.create_task(begun())
        for _ in range(self.rng.choice((0, 0, 1, 1, 2, 3, 4, 6, 10, 50))):
            await asyncio.sleep(0)
            if task.done():
                break
        task.cancel()
        return await task

    def of(self, name):
        """Return the calls of one name."""
        return [call for call in self.history if call.name == name]


def endless(world):
    """Count up until the callers shall stop."""
    number = 0
    while not world.over:
        yield number
        number += 1


def contradictions(world, kind, done):
    """Return what the calls of a kind were said to have done and have not, and the other way round.

    Args:
        world: The world.
        kind: What the calls' names begin with, before the name of what each was to do.
        done: How often each was done, by those names.
    """
    wrong = []
    for call in world.history:
        word, _, name = call.name.partition(" ")
        if word == kind and call.succeeded and not done[name]:
            wrong.append(f"{call.name} was acknowledged, and not made")
        if word == kind and done[name] and not (call.succeeded or call.may_be_executed):
            wrong.append(f"{call.name} was made, and said not to be: {call.error!r}")
    return wrong


def promises_kept(world):
    """Return what contradicts the promises that hold for every call: it ends, in time."""
    wrong = []
    for call in world.history:
        if call.ended is None:
            wrong.append(f"{call.name} never ended")
        elif call.ended - call.began > TIMEOUT + LATENESS and not call.name.startswith("blocked"):
            wrong.append(f"{call.name} took {call.ended - call.began:.2f} s: {call.error!r}")
    return wrong
