"""A network that is cut, loses, delays and reorders packets: the server is in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from aioredis_kit import KitError, create_client
from tests.chaos.harness.network import Network, NoNetworkError
from tests.chaos.harness.run import run_seed
from tests.chaos.harness.workloads import WORKLOADS
from tests.support.observing import EventRecord, until

CALLERS = 20
FAULTS = {
    "loss": {"loss": 0.1},
    "delay": {"delay": 0.03},
    "reordering": {"delay": 0.005, "jitter": 0.005},
}


@pytest.fixture
def network():
    try:
        with Network() as network:
            yield network
    except NoNetworkError as error:
        pytest.skip(str(error))


@pytest.fixture
async def client(network):
    options = {"ping_interval": 0.3, "ping_timeout": 0.3, "connect_timeout": 0.5, "reconnect_strategy": 0.05}
    async with create_client(network.url, command_timeout=3, **options) as client:
        yield client


class Load:
    """Callers that count up, and compare what they get.

    Attributes:
        acknowledged: How many increments were.
        unknown: How many may have been made.
        not_executed: How many failed otherwise.
        longest: How long a call took at most, in seconds.
    """

    def __init__(self, client):
        self.acknowledged = self.unknown = self.not_executed = 0
        self.longest = 0.0
        self._client = client
        self._is_over = False

    async def run(self, play):
        """Let callers call while something happens."""
        callers = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]
        try:
            await play
        finally:
            self._is_over = True
            await asyncio.gather(*callers)

    async def _call(self, number):
        values = set()
        while not self._is_over:
            began = time.monotonic()
            try:
                value = await self._client.incr(f"counter:{number}")
            except KitError as error:
                self.unknown += error.maybe_executed
                self.not_executed += not error.maybe_executed
            else:
                self.acknowledged += 1
                assert value not in values
                values.add(value)
            with contextlib.suppress(KitError):
                token = f"{number}:{len(values)}"
                assert await self._client.echo(token) == token.encode()
            self.longest = max(self.longest, time.monotonic() - began)


@pytest.mark.only_long
@pytest.mark.pins("P1", "P2", "P3")
@pytest.mark.parametrize("fault", ["partition", "bursts", "loss", "delay", "reordering"])
async def test_a_network_that_fails(network, client, fault):
    """Everybody gets their own replies; a connection that is cut in silence is noticed; all goes on afterwards."""
    events, load = EventRecord(client), Load(client)

    async def play():
        await until(lambda: load.acknowledged > 100)
        if fault == "partition":
            for _ in range(3):
                began = time.monotonic()
                network.is_cut = True
                await until(lambda: not client.is_ready, timeout=5)
                noticed = time.monotonic() - began
                assert noticed < 0.3 + 0.3 + 0.5
                await asyncio.sleep(0.5)  # for so long nobody gets through
                network.heal()
                before = load.acknowledged
                await until(lambda before=before: client.is_ready and load.acknowledged > before + 100, timeout=10)
        elif fault == "bursts":  # packets are lost, a few dozens of milliseconds at a time
            for _ in range(20):
                network.is_cut = True
                await asyncio.sleep(0.04)  # for so long nothing passes
                network.heal()
                await asyncio.sleep(0.15)  # and for so long all does
        else:
            for name, value in FAULTS[fault].items():
                setattr(network, name, value)
            await asyncio.sleep(5)  # for so long
            network.heal()
            before = load.acknowledged
            await until(lambda: load.acknowledged > before + 100, timeout=10)

    await load.run(play())
    counters = [int(value) for value in await client.mget(f"counter:{number}" for number in range(CALLERS))]
    print(f"{fault}: {load.acknowledged} acknowledged, {load.unknown} unknown, {load.not_executed} not executed;")
    print(f"the longest took {load.longest:.2f} s; {len(events.of('reconnecting'))} attempts to reconnect")
    assert load.acknowledged <= sum(counters) <= load.acknowledged + load.unknown
    assert load.longest < 2 * 3.5
    if fault == "partition":
        assert len([each for each in events.names if each == "ready"]) >= 3


@pytest.mark.only_long
@pytest.mark.pins("P1", "P2", "P3", "P6")
@pytest.mark.parametrize("workload", sorted(WORKLOADS))
async def test_nothing_is_wrong_in_a_network_that_fails(network, workload, rng):
    report = await run_seed(rng.randrange(10**9), workload=workload, seconds=1.5, network=network)
    assert not report.wrong, report
