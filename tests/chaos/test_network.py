"""A network that is cut, loses and delays packets: the server is in a network namespace of its own.

Other than a proxy this leaves TCP to the kernel: nobody is told of a connection that is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
import uuid

import pytest

from aioredis_kit import KitError, create_client
from aioredis_kit.testing.binaries import find_binary
from tests.support.observing import EventRecord, until

PORT = 6379
CALLERS = 20


class Namespace:
    """A network namespace with a server in it, and a link to it.

    Attributes:
        url: Of the server.
    """

    def __init__(self):
        number = uuid.uuid4().int
        self.name = f"aioredis-kit-{number % 10**8}"
        self._here, self._there = f"ak{number % 10**8}a", f"ak{number % 10**8}b"
        self._subnet = f"10.{100 + number % 100}.{number // 100 % 250}"
        self.url = f"redis://{self._subnet}.2:{PORT}"
        self._process = None

    def __enter__(self):
        run("ip", "netns", "add", self.name)
        try:
            run("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self.name)
            run("ip", "addr", "add", f"{self._subnet}.1/24", "dev", self._here)
            run("ip", "link", "set", self._here, "up")
            self._inside("ip", "addr", "add", f"{self._subnet}.2/24", "dev", self._there)
            self._inside("ip", "link", "set", self._there, "up")
            self._process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.name, find_binary().path, "--port", str(PORT)),
                    *("--bind", f"{self._subnet}.2", "--save", "", "--protected-mode", "no"),
                ],
                stdout=subprocess.DEVNULL,
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
        run("ip", "netns", "del", self.name)  # and with it the link

    def cut(self):
        """Let no packet pass."""
        run("ip", "link", "set", self._here, "down")

    def mend(self):
        """Let all packets pass, at once."""
        run("ip", "link", "set", self._here, "up")
        with contextlib.suppress(subprocess.CalledProcessError):
            run("tc", "qdisc", "del", "dev", self._here, "root")

    def impair(self, *how):
        """Lose or delay packets, as ``tc netem`` names that."""
        try:
            run("tc", "qdisc", "replace", "dev", self._here, "root", "netem", *how)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this kernel has no netem: {error.stderr.decode().strip()}")

    def _inside(self, *words):
        run("ip", "netns", "exec", self.name, *words)


def run(*words):
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def namespace():
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("network namespaces are for root")
    if not (shutil.which("ip") and shutil.which("tc")):
        pytest.skip("there is no ip or tc here: install iproute2")
    try:
        with Namespace() as namespace:
            yield namespace
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this system lets nobody make network namespaces: {error.stderr.decode().strip()}")


@pytest.fixture
async def client(namespace):
    options = {"ping_interval": 0.3, "ping_timeout": 0.3, "connect_timeout": 0.5, "reconnect_strategy": 0.05}
    async with create_client(namespace.url, command_timeout=3, **options) as client:
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
async def test_a_network_that_fails(namespace, client, fault):
    """Everybody gets their own replies; a connection that is cut in silence is noticed; all goes on afterwards."""
    events, load = EventRecord(client), Load(client)

    async def play():
        await until(lambda: load.acknowledged > 100)
        if fault == "partition":
            for _ in range(3):
                began = time.monotonic()
                namespace.cut()
                await until(lambda: not client.is_ready, timeout=5)
                noticed = time.monotonic() - began
                assert noticed < 0.3 + 0.3 + 0.5
                await asyncio.sleep(0.5)  # for so long nobody gets through
                namespace.mend()
                before = load.acknowledged
                await until(lambda before=before: client.is_ready and load.acknowledged > before + 100, timeout=10)
        elif fault == "bursts":  # packets are lost, a few dozens of milliseconds at a time
            for _ in range(20):
                namespace.cut()
                await asyncio.sleep(0.04)  # for so long nothing passes
                namespace.mend()
                await asyncio.sleep(0.15)  # and for so long all does
        else:
            how = {
                "loss": ("loss", "10%"),
                "delay": ("delay", "30ms", "20ms"),
                "reordering": ("delay", "5ms", "reorder", "25%", "50%"),
            }[fault]
            namespace.impair(*how)
            await asyncio.sleep(5)  # for so long
            namespace.mend()
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
