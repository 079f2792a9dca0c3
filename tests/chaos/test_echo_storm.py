"""Callers ask for tokens of their own while the network between them and a real server misbehaves.

The worst that this library could do is to hand a caller somebody else's reply. So each token names its caller and
its number, and each reply is compared with the token that was asked for.

A caller may give up: its task is cancelled, its own ``asyncio.timeout`` passes, or the command has a short
``command_timeout``. What it gave up is counted apart. All others are patient: they wait for as long as the client
needs.

The client has the options that a user would set who expects a fault every 100 ms and a server that answers in a few:
all waits a tenth of the defaults or less, since with the defaults the storm would measure waiting. ECHO changes
nothing, so it is sent again after a loss; a quarter of the callers forbid that, for outcomes that stay unknown.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter
from contextlib import contextmanager
from statistics import median

import pytest

from aioredis_kit import CommandTimeoutError, ConnectionLostError, KitError, create_client
from aioredis_kit.testing import FaultProxy

CALLERS = 200
PATIENCE = 2.0
HASTE = 0.02
OPTIONS = {
    "command_timeout": PATIENCE,
    "connect_timeout": 0.3,
    "ping_interval": 0.2,
    "ping_timeout": 0.2,
    "reconnect_strategy": 0.02,
}
NARROW = {"commands_queue_max_length": 32, "commands_queue_max_bytes": 16_000}
"""Limits far below what the callers ask for at once; the longest token exceeds them by itself."""
SECONDS_BETWEEN_FAULTS = 0.1
FILLERS = (0, 0, 0, 0, 0, 0, 0, 100, 100, 100, 3000, 20_000)
"""How much longer a token is than its name, in bytes. From 16 KiB on a value is written uncopied."""
LATENESS = 0.05
"""How late a deadline may be noticed, in seconds; the loop's own lag comes on top (DESIGN, section 4)."""
MOST_BYTES = 8 * 2**20
MOST_BLOCKS = 20_000
"""By how much memory may grow from the second tenth of the storm to the last. Some 20 blocks a caller come and go."""


class Storm:
    """Faults of a proxy, one after the other, each of which heals by itself after a while."""

    def __init__(self, proxy, rng):
        self.count = Counter()
        self.losses = {self.cut: 4, self.half_close: 2, self.refuse: 2}
        self.delays = {self.stall: 4, self.stall_for_long: 1, self.delay: 3, self.split: 3}
        self._proxy = proxy
        self._rng = rng
        self._healing = []

    async def rage(self, weights):
        """Make these faults, as often as they weigh, until cancelled; then heal them all."""
        try:
            while True:
                await asyncio.sleep(self._rng.expovariate(1 / SECONDS_BETWEEN_FAULTS))  # the pace of the faults
                (fault,) = self._rng.choices([*weights], [*weights.values()])
                self.count[fault.__name__] += 1
                fault()
        finally:
            for timer in self._healing:
                timer.cancel()
            self._proxy.heal()

    def cut(self):
        self._proxy.cut(reset=self._rng.random() < 0.5)

    def half_close(self):
        self._proxy.half_close(self._any_direction())

    def stall(self):
        direction = self._any_direction()
        self._proxy.stall(direction)
        self._later(0.01, 0.1, self._proxy.resume)

    def stall_for_long(self):
        """Stall until the health check gives the connection up; new ones are not concerned."""
        self._proxy.stall(self._any_direction(), scope="present")

    def delay(self):
        self._proxy.delay(self._rng.uniform(0.001, 0.03), self._any_direction())
        self._later(0.02, 0.1, lambda: self._proxy.delay(0))

    def split(self):
        self._proxy.split(self._any_direction())
        self._later(0.005, 0.02, self._proxy.heal)

    def refuse(self):
        self._proxy.cut()
        self._proxy.refuse()
        self._later(0.01, 0.1, self._proxy.accept)

    def _any_direction(self):
        return self._rng.choice(["to_server", "to_client", "both"])

    def _later(self, least, most, heal):
        loop = asyncio.get_running_loop()
        self._healing = [timer for timer in self._healing if timer.when() > loop.time()]
        self._healing.append(loop.call_later(self._rng.uniform(least, most), heal))


class Callers:
    """Those who ask, and what became of their commands."""

    def __init__(self, client, rng):
        self.issued = 0
        self.ended = Counter()
        self.wrong = []
        self.overdue = -PATIENCE  # by how much a command missed its deadline at most, in seconds
        self._client = client
        self._text = client.with_options(decode_responses=True)
        self._once = client.with_options(retry_unanswered="never")
        self._hasty = client.with_options(command_timeout=HASTE)
        self._rng = rng
        self._is_over = False

    async def ask_for(self, seconds):
        """Ask with all callers, for so long."""
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._ask(number))
            await asyncio.sleep(seconds)  # how long the load lasts
            self._is_over = True

    async def _ask(self, number):
        client = (self._client, self._client, self._text, self._once)[number % 4]
        turn = 0
        while not self._is_over:
            turn += 1
            token = f"{number}.{turn}." + "x" * self._rng.choice(FILLERS)
            self.issued += 1
            kind = self._rng.random()
            if kind < 0.85:
                await self._patiently(client, token)
            elif kind < 0.90:
                await self._until_cancelled(client, token)
            elif kind < 0.95:
                await self._in_own_time(client, token)
            else:
                await self._hastily(token)

    async def _patiently(self, client, token):
        with self._deadline(PATIENCE):
            try:
                self._take(token, await client.echo(token), "succeeded")
            except CommandTimeoutError as error:
                self.ended[f"timed out, maybe executed: {error.maybe_executed}"] += 1
            except ConnectionLostError as error:
                self.ended[f"lost, maybe executed: {error.maybe_executed}"] += 1

    async def _until_cancelled(self, client, token):
        task = asyncio.create_task(client.echo(token))
        timer = asyncio.get_running_loop().call_later(self._rng.expovariate(300), task.cancel)
        try:
            self._take(token, await task, "given up, but answered")
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                raise  # it was the caller's own task
            self.ended["given up: cancelled"] += 1
        except (CommandTimeoutError, ConnectionLostError):
            self.ended["given up, but failed"] += 1
        finally:
            timer.cancel()

    async def _in_own_time(self, client, token):
        limit = asyncio.timeout(self._rng.expovariate(300))
        try:
            async with limit:
                reply = await client.echo(token)
            self._take(token, reply, "given up, but answered")
        except (TimeoutError, ConnectionLostError):
            self.ended["given up: own timeout" if limit.expired() else "given up, but failed"] += 1

    async def _hastily(self, token):
        with self._deadline(HASTE):
            try:
                self._take(token, await self._hasty.echo(token), "given up, but answered")
            except CommandTimeoutError:
                self.ended["given up: command_timeout"] += 1
            except ConnectionLostError:
                self.ended["given up, but failed"] += 1

    @contextmanager
    def _deadline(self, timeout):
        due = time.monotonic() + timeout
        yield
        self.overdue = max(self.overdue, time.monotonic() - due)

    def _take(self, token, reply, outcome):
        if (reply if isinstance(reply, str) else reply.decode()) == token:
            self.ended[outcome] += 1
        else:
            self.ended["wrong"] += 1
            self.wrong.append((token[:30], reply[:30]))


class Watch:
    """Looks at the loop every 10 ms and at memory every 100 ms, while it is entered.

    Attributes:
        lag: How late the loop was at most, in seconds.
        resident: How many bytes were resident, each time.
        blocks: How many blocks of memory Python's objects took, each time. They tell of a leak where the process has
            been larger before, so that what leaks finds room.
    """

    def __init__(self, resident_bytes):
        self.lag = 0.0
        self.resident = []
        self.blocks = []
        self._resident_bytes = resident_bytes

    async def __aenter__(self):
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _look(self):
        for turn in itertools.count():
            due = time.monotonic() + 0.01
            await asyncio.sleep(0.01)  # what is measured: by how much it is late
            self.lag = max(self.lag, time.monotonic() - due)
            if turn % 10 == 0:
                self.resident.append(self._resident_bytes())
                self.blocks.append(sys.getallocatedblocks())


def growth(samples):
    """Return by how much the median grew from the second tenth to the last."""
    tenth = len(samples) // 10
    return median(samples[-tenth:]) - median(samples[tenth : 2 * tenth])


@pytest.mark.pins("P1", "P2", "P6", "4.8", "4.10", "4.11")
@pytest.mark.parametrize(
    ("limits", "seconds", "least"),
    [
        pytest.param({}, 60.0, 100_000, id="wide"),
        pytest.param(NARROW, 20.0, 10_000, id="narrow", marks=pytest.mark.only_long),
    ],
)
async def test_each_caller_gets_its_own_reply_or_none(server, rng, resident_bytes, is_long, limits, seconds, least):
    """Whatever happens to the connections, no reply reaches another caller, and each command ends once and in time."""
    if not is_long:
        seconds, least = 1.5, 400
    events = Counter()
    async with (
        FaultProxy(server.host, server.port) as proxy,
        create_client(f"redis://{proxy.host}:{proxy.port}", **OPTIONS, **limits) as client,
    ):
        for event in ("ready", "reconnecting", "error"):
            client.on(event, lambda *_, event=event: events.update([event]))
        storm, callers = Storm(proxy, rng), Callers(client, rng)
        raging = asyncio.create_task(storm.rage(storm.losses | storm.delays))
        async with Watch(resident_bytes) as watch:
            await callers.ask_for(seconds)
        raging.cancel()
        await asyncio.wait((raging,))
        assert raging.cancelled()
        print(f"{seconds:g} s, {storm.count.total()} faults {dict(storm.count)}, events {dict(events)}")
        print(f"{callers.issued} issued: {dict(callers.ended)}")
        print(f"deadlines missed by {callers.overdue:.3f} s and lag {watch.lag:.3f} s at most")
        print(f"{growth(watch.resident) / 2**20:+.1f} MiB resident, {growth(watch.blocks):+.0f} blocks")
        assert not callers.wrong
        assert callers.ended.total() == callers.issued
        patient = {outcome: count for outcome, count in callers.ended.items() if not outcome.startswith("given up")}
        assert patient["succeeded"] >= 0.9 * sum(patient.values())
        assert patient["succeeded"] >= least
        assert "lost, maybe executed: False" not in patient  # what was not written waits for the next connection
        assert callers.overdue <= LATENESS + 2 * watch.lag  # of the turn that notices, and of the caller's
        assert growth(watch.resident) < MOST_BYTES
        assert growth(watch.blocks) < MOST_BLOCKS
        tokens = [f"after:{number}".encode() for number in range(CALLERS)]
        assert await asyncio.gather(*map(client.echo, tokens)) == tokens


@pytest.mark.pins("P3", "P4", "4.7", "4.8", "4.10", "4.11")
async def test_what_became_of_each_write_is_true(server, rng, is_long):
    """What was acknowledged is there, what counts as not executed isn't, and all that is there is in order, once."""
    acknowledged, unknown, not_executed = set(), set(), set()

    async def push(client, number):
        try:
            await client.rpush("list", number)
        except KitError as error:
            (unknown if error.maybe_executed else not_executed).add(number)
        except asyncio.CancelledError:
            unknown.add(number)
            raise
        else:
            acknowledged.add(number)

    async with (
        FaultProxy(server.host, server.port) as proxy,
        create_client(f"redis://{proxy.host}:{proxy.port}", **OPTIONS) as client,
    ):
        hasty = client.with_options(command_timeout=HASTE)
        storm = Storm(proxy, rng)
        # No delays: what a network has held back arrives behind what was sent later on another connection.
        raging = asyncio.create_task(storm.rage(storm.losses))
        tasks = []
        until = time.monotonic() + (20.0 if is_long else 2.0)
        while time.monotonic() < until:
            for _ in range(rng.randrange(1, 20)):
                by = hasty if rng.random() < 0.3 else client
                tasks.append(asyncio.create_task(push(by, len(tasks))))
            await asyncio.sleep(rng.uniform(0, 0.004))  # the pace of the load
            if rng.random() < 0.3:
                rng.choice(tasks[-20:]).cancel()
        raging.cancel()
        await asyncio.wait((raging, *tasks))
        there = [int(number) for number in await client.lrange("list", 0, -1)]
    print(
        f"{storm.count.total()} faults; {len(tasks)} pushes, {len(there)} there: {len(acknowledged)} acknowledged, "
        f"{len(unknown)} unknown, {len(not_executed)} not executed"
    )
    assert there == sorted(set(there))
    assert acknowledged <= set(there) <= acknowledged | unknown
    assert not_executed or not is_long  # the faults of two seconds may catch no command waiting
    assert len(acknowledged) > 0.5 * len(tasks)
