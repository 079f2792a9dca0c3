"""What a run consists of: a real server behind a proxy, clients, and the history of all that was called."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import deque
from dataclasses import dataclass

from redis.exceptions import RedisError

from aioredis_kit import KitError, create_client
from aioredis_kit.testing import FaultProxy, RedisServer

TIMEOUT = 1.5
"""``command_timeout`` of the clients under test, in seconds."""
LATENESS = 0.25
"""How late a call may end beyond that and beyond the loop's lag, in seconds: 50 ms, and room for a busy machine."""
PULSE = 0.01
"""How often the loop's lag is looked at, in seconds."""
OPTIONS = {
    "command_timeout": TIMEOUT,
    "connect_timeout": 0.3,
    "initial_connect_timeout": 30,
    "ping_interval": 0.2,
    "ping_timeout": 0.2,
    "reconnect_strategy": 0.02,
    "close_timeout": 2.0,
}
FILLERS = 500
"""So many keys that nobody reads, so that loading takes a while."""
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

    Args:
        seed: What all choices follow from.
        make: Makes the clients under test.
        persistence: Of the server: ``"aof"``, and what it has acknowledged survives it; or ``"none"``.
        network: Where the server is; else it is a process of the world's own, behind a proxy.

    Attributes:
        rng: What the fault of the moment follows from.
        server: The server.
        proxy: Between it and the clients under test.
        admin: A client that is not under test, past the proxy.
        history: All calls.
        over: Whether the callers shall stop.
        cancels: Whether calls are cancelled at random.
        losses: How often the server has lost all that it had.
        is_damaged: Whether bytes of replies were changed.
    """

    def __init__(self, seed, *, make=create_client, persistence="aof", network=None):
        self.seed = seed
        self.rng = self.chance("world")
        self.history = []
        self.losses = 0
        self.is_damaged = False
        self.over = False
        self.cancels = False
        self._make = make
        self._clients = []
        self._lags = deque(maxlen=1000)
        self._pulse = None
        self._cancelling = self.chance("cancelling")
        self._calls = 0  # that have not ended
        self._may_call = asyncio.Event()
        self._may_call.set()
        self._all_ended = asyncio.Event()
        self._turns = itertools.cycle((*range(40), 60, 100))
        self._loses = persistence == "none"
        self.network = network
        self.server = network or RedisServer(persistence=persistence, config=CONFIG)
        self.proxy = network
        self.admin = None

    async def __aenter__(self):
        self._pulse = asyncio.create_task(self._note_lags())
        if self.network is None:
            await asyncio.to_thread(self.server.start)
            self.proxy = await FaultProxy.for_url(self.server.url).__aenter__()
        url = self.server.url if self.network is None else self.network.admin_url
        self.admin = create_client(url, decode_responses=True, reconnect_strategy=0.02, command_timeout=30)
        await self.admin.flushall()
        await self.fill()
        return self

    async def __aexit__(self, *exception):
        self._pulse.cancel()
        await asyncio.gather(self._pulse, return_exceptions=True)
        await self.admin.close()
        if self.network is None:
            await self.proxy.__aexit__(*exception)
            await asyncio.to_thread(self.server.stop)

    def chance(self, *role):
        """Return random numbers for a role: the same ones each time, whatever the others have taken of theirs."""
        return random.Random(" ".join(map(str, (self.seed, *role))))

    async def fill(self):
        """Give the server something to load."""
        await self.admin.mset({f"filler:{number}": "x" * 64 for number in range(FILLERS)})

    def kill(self):
        """``kill -9``."""
        self.losses += self._loses
        self.server.kill()

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
        """Make a call, perhaps cancel it, and note what came of it; return that. While callers rest, it waits."""
        while not self._may_call.is_set():
            await self._may_call.wait()
        call = Call(name, time.monotonic())
        self.history.append(call)
        self._calls += 1
        try:
            if self.cancels and self._cancelling.random() < 0.2:
                call.value = await self._cancelled_sometime(make)
            else:
                call.value = await make()
        except (RedisError, asyncio.CancelledError, TimeoutError, UnicodeDecodeError) as error:
            call.error = error
            if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():
                raise
        finally:
            call.ended = time.monotonic()
            self._calls -= 1
            if not self._calls:
                self._all_ended.set()
        return call

    @contextlib.asynccontextmanager
    async def rest(self):
        """Let all calls end, and no other begin within the block."""
        self._may_call.clear()
        try:
            while self._calls:
                self._all_ended.clear()
                await self._all_ended.wait()
            yield
        finally:
            self._may_call.set()

    async def _cancelled_sometime(self, make):
        """Cancel a call after one more turn of the loop than the call before: so at every place where it waits."""

        async def begun():  # or what redis-py's methods have made before would never be awaited
            return await make()

        task = asyncio.create_task(begun())
        for _ in range(next(self._turns)):
            await asyncio.sleep(0)
            if task.done():
                break
        task.cancel()
        return await task

    async def _note_lags(self):
        while True:
            before = time.monotonic()
            await asyncio.sleep(PULSE)  # the pace of looking
            now = time.monotonic()
            if now - before > 2 * PULSE:
                self._lags.append((before, now))

    def lag(self, began, ended):
        """Return for how long of that time the loop did not turn, in seconds: then nobody could end anything."""
        return sum(max(min(ended, end) - max(began, start), 0.0) for start, end in self._lags)

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
            took, lag = call.ended - call.began, world.lag(call.began, call.ended)
            if took > TIMEOUT + LATENESS + lag:
                wrong.append(
                    f"{call.name} took {took:.2f} s, of which the loop stood still for {lag:.2f}: {call.error!r}"
                )
    return wrong
