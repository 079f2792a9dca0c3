"""A client is opened, closed and destroyed at random moments, by several tasks at once, while its network misbehaves.

Whatever the order, every call ends, none leaves a task or a socket behind, and the client can be opened again.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from aioredis_kit import ConnectionLostError, KitError, create_client
from aioredis_kit.testing import FaultProxy
from tests.support.observing import until

OPTIONS = {
    "command_timeout": 0.4,
    "connect_timeout": 0.1,
    "initial_connect_timeout": 0.3,
    "close_timeout": 0.2,
    "ping_interval": 0.05,
    "ping_timeout": 0.05,
    "reconnect_strategy": 0.005,
}
LONGEST = 3.0
"""Seconds after which a call counts as one that never ends: far more than any of its limits, and their sum."""


class Round:
    """One client behind one proxy, and what is done to them.

    Attributes:
        steps: What was done, in order.
        ended: How the calls ended.
        events: The names of the client's events, in order.
    """

    def __init__(self, client, proxy, rng):
        self.steps = []
        self.ended = Counter()
        self.events = []
        self._client = client
        self._proxy = proxy
        self._rng = rng
        self._tasks = []
        for event in ("connect", "ready", "reconnecting", "error", "end", "terminated"):
            client.on(event, lambda *_, event=event: self.events.append(event))

    async def play(self, count):
        """Do so many things in a random order, and wait until all calls have ended."""
        moves = [self.command, self.connect, self.close, self.aclose, self.destroy, self.cancel, self.fault]
        for _ in range(count):
            move = self._rng.choices(moves, weights=[50, 12, 5, 4, 3, 8, 18])[0]
            self.steps.append(move.__name__)
            move()
            if self._rng.random() < 0.5:
                await asyncio.sleep(self._rng.choice([0, 0, 0, 0.001, 0.01]))  # the pace of the moves
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=LONGEST)
            assert not stuck, f"{stuck} never end after {self.steps}"

    def command(self):
        token = f"{len(self._tasks)}".encode()

        async def ask():
            assert await self._client.echo(token) == token

        self._start(ask)

    def connect(self):
        self._start(self._client.connect)

    def close(self):
        self._start(self._client.close)

    def aclose(self):
        self._start(self._client.aclose)

    def destroy(self):
        self._client.destroy()

    def cancel(self):
        if self._tasks:
            self._rng.choice(self._tasks).cancel()

    def fault(self):
        proxy = self._proxy
        direction = self._rng.choice(["both", "to_server", "to_client"])
        faults = [
            proxy.cut,
            lambda: proxy.cut(reset=True),
            lambda: proxy.half_close(direction),
            lambda: proxy.stall(direction),
            proxy.resume,
            proxy.refuse,
            proxy.accept,
        ]
        self._rng.choice(faults)()

    def _start(self, call):
        async def note(name):
            try:
                await call()
            except KitError as error:
                self.ended[f"{name}: {type(error).__name__}"] += 1
            else:
                self.ended[name] += 1

        self._tasks.append(asyncio.create_task(note(self.steps[-1])))


async def serves_again(client):
    """Open the client and ask, until it answers; then close it. A loss may still be on its way."""
    async with asyncio.timeout(LONGEST):
        while True:
            try:
                await client.connect()
                assert await client.echo("again") == b"again"
                break
            except ConnectionLostError:
                continue
    async with asyncio.timeout(LONGEST):
        await client.close()


@pytest.mark.pins("P2", "P6", "4.20", "5.2")
async def test_every_call_ends_and_nothing_stays(server, rng, is_long):
    """connect(), close(), aclose() and commands, cancelled or not, end at whatever moment they were called."""
    ended = Counter()
    rounds = 150 if is_long else 10
    tasks = asyncio.all_tasks()
    for _ in range(rounds):
        async with FaultProxy(server.host, server.port) as proxy:
            client = create_client(f"redis://{proxy.host}:{proxy.port}", **OPTIONS)
            round_ = Round(client, proxy, rng)
            await round_.play(rng.randrange(20, 60))
            ended += round_.ended
            proxy.heal()
            await serves_again(client)
            assert asyncio.all_tasks() == tasks, round_.steps
            assert round_.events[-1] == "end", round_.events
            await until(lambda proxy=proxy: not proxy.statistics().connections_open, timeout=LONGEST)
    print(f"{rounds} rounds: {dict(ended)}")
