"""Writers change keys while others read them through a cache: no read is older than what its client has been told.

Each key has one writer, which counts its versions. When a write was answered, the writer asks on all connections of the
caching client for an answer, behind which all that the server had announced by then has arrived. From that moment on no
read that begins may show an older version. (Without that question the bound is the network's delay.)

The connections of the caching client lead through a proxy that delays, cuts and stalls them, and the server kills some
of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from aioredis_kit import CacheOptions, KitError, create_client
from aioredis_kit.testing import FaultProxy, RedisServer
from tests.support.observing import until

KEYS = 500
WRITERS = 8
READERS = 50
MODES = {
    "default": {},
    "optin": {"mode": "optin"},
    "broadcast": {"mode": "broadcast", "prefixes": ("key:",)},
    "small": {"max_entries": 100},
}
LUA = "redis.call('SET', KEYS[1], ARGV[1]); return 1"


class Truth:
    """What is known of one key.

    Attributes:
        name: The key.
        issued: The version that was last written, or is about to be.
        told: The version of which the caching client knows for sure: nothing older may be read.
        missing: The latest version in which the key does not exist, or stops to.
        writing: Held while it is changed.
    """

    def __init__(self, number):
        self.name = f"key:{number}"
        self.issued = self.told = 0
        self.missing = 0
        self.writing = asyncio.Lock()

    def next_value(self):
        """Begin another version; return its value."""
        self.issued += 1
        return f"{self.name}={self.issued}"

    def vanish(self):
        """Begin a version in which it is not there, or may end at any time."""
        self.issued += 1
        self.missing = self.issued

    def check(self, value, least):
        """Compare what was read with what it may be."""
        if value is None:
            assert self.missing >= least, f"{self.name} is missing, but version {least} is there"
            return
        name, _, version = value.partition("=")
        assert name == self.name
        assert least <= int(version) <= self.issued, f"{value} was read when version {least} was known"


class Hunt:
    """Writers, readers and faults, for a while.

    Attributes:
        count: What was done, and how it ended.
        wrong: Reads that were too old.
    """

    def __init__(self, client, reader, writers, admin, proxy, rng):
        self.count = Counter()
        self.wrong = []
        self._keys = [Truth(number) for number in range(KEYS)]
        self._client = client
        self._reader = reader
        self._writers = writers
        self._admin = admin
        self._proxy = proxy
        self._rng = rng
        self._ends = 0.0

    async def run(self, seconds):
        """Do all at once."""
        self._ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number, writer in enumerate(self._writers):
                group.create_task(self._write(writer, self._keys[number::WRITERS]))
            for _ in range(READERS):
                group.create_task(self._read())
            group.create_task(self._flush())
            group.create_task(self._disturb())

    async def compare(self):
        """In the end what is cached is what the server has."""
        for key in self._keys:
            await self._admin.persist(key.name)
        await self._await_announcements()
        for key in self._keys:
            assert await self._reader.get(key.name) == await self._admin.get(key.name)
            assert await self._reader.get(key.name) == await self._admin.get(key.name)

    def _goes_on(self):
        return time.monotonic() < self._ends

    async def _await_announcements(self):
        """Wait until the caching client has been told of all that was changed by now.

        A connection that is lost meanwhile is not asked again: what it had read is dropped.
        """
        shared = self._client._core.route(()).shared
        await shared.ask_all(b"PING\r\n")

    async def _write(self, writer, keys):
        while self._goes_on():
            key = self._rng.choice(keys)
            async with key.writing:
                await self._change(writer, key)
                now = key.issued
                await self._await_announcements()
                key.told = max(key.told, now)

    async def _change(self, writer, key):
        kind = self._rng.choices(("set", "delete", "expire", "rename", "block", "lua", "own"), (8, 2, 1, 2, 2, 2, 2))[0]
        self.count[kind] += 1
        match kind:
            case "set":
                await writer.set(key.name, key.next_value())
            case "delete":
                key.vanish()
                await writer.delete(key.name)
            case "expire":
                await writer.set(key.name, key.next_value())
                key.vanish()
                await writer.pexpire(key.name, self._rng.randrange(1, 20))
                await asyncio.sleep(0.025)  # so that it has ended when its next version begins
            case "rename":
                value = key.next_value()
                await writer.set(f"new:{key.name}", value)
                await writer.rename(f"new:{key.name}", key.name)
            case "block":
                first, second = key.next_value(), key.next_value()
                await writer.pipeline().set(key.name, first).set(key.name, second).execute()
            case "lua":
                await writer.eval(LUA, 1, key.name, key.next_value())
            case "own":  # by the client that caches
                try:
                    await self._client.set(key.name, key.next_value())
                except KitError:
                    self.count["own failed"] += 1
                    await writer.set(key.name, key.next_value())

    async def _flush(self):
        while self._goes_on():
            await asyncio.sleep(self._rng.uniform(0.2, 0.5))  # the pace of flushes, not a wait
            for key in self._keys:
                await key.writing.acquire()
            for key in self._keys:
                key.vanish()
            await self._admin.flushdb()
            await self._await_announcements()
            for key in self._keys:
                key.told = key.issued
                key.writing.release()
            self.count["flushes"] += 1

    async def _read(self):
        while self._goes_on():
            keys = self._rng.sample(self._keys, self._rng.choice((1, 1, 1, 3)))
            least = [key.told for key in keys]
            names = [key.name for key in keys]
            try:
                if len(keys) == 1:
                    values = [await self._reader.get(names[0])]
                elif self._rng.random() < 0.5:
                    values = await self._reader.mget(names)
                else:
                    pipe = self._reader.pipeline(transaction=False)
                    for name in names:
                        pipe.get(name)
                    values = await pipe.execute()
            except KitError as error:
                self.count[type(error).__name__] += 1
            else:
                self.count["reads"] += 1
                for key, value, floor in zip(keys, values, least, strict=True):
                    try:
                        key.check(value, floor)
                    except AssertionError as error:
                        self.wrong.append(str(error))
            await asyncio.sleep(0)

    async def _disturb(self):
        while self._goes_on():
            await asyncio.sleep(self._rng.uniform(0.02, 0.1))  # the pace of faults, not a wait
            match self._rng.randrange(6):
                case 0:
                    self._proxy.cut(reset=self._rng.random() < 0.5)
                case 1:
                    self._proxy.delay(self._rng.uniform(0.001, 0.02), "to_client")
                case 2:
                    self._proxy.split("to_client")
                case 3:
                    self._proxy.stall("to_client")
                    await asyncio.sleep(0.02)  # for so long
                    self._proxy.heal()
                case 4:
                    self._proxy.heal()
                case 5:
                    await self._kill_one()
            self.count["faults"] += 1

    async def _kill_one(self):
        """Have the server kill a connection of the caching client's."""
        found = [each["id"] for each in await self._admin.client_list() if each["name"] == "cached"]
        if found:
            await self._admin.client_kill_filter(_id=self._rng.choice(found))


@pytest.fixture
def late_server():
    """A server that finds out that a key has ended when somebody asks for it, and announces it no sooner."""
    with RedisServer(config={"enable-debug-command": "local"}) as server:
        yield server


@pytest.mark.pins("P1", "B18")
@pytest.mark.parametrize(
    ("cache", "connections"),
    [
        pytest.param(cache, connections, id=f"{name}-{connections}", marks=marks)
        for name, cache in MODES.items()
        for connections, marks in ((1, pytest.mark.only_long), (3, pytest.mark.only_long if name == "small" else ()))
    ],
)
async def test_no_read_is_older_than_what_is_known(late_server, rng, is_long, cache, connections):
    server = late_server
    async with FaultProxy.for_url(server.url) as proxy:
        client = create_client(
            proxy.url,
            connections=connections,
            client_side_cache=CacheOptions(**cache),
            client_name="cached",
            decode_responses=True,
            reconnect_strategy=0.005,
            command_timeout=10,
        )
        writers = [create_client(server.url) for _ in range(WRITERS)]
        admin = create_client(server.url, decode_responses=True)
        async with client, admin:
            await admin.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
            hunt = Hunt(client, client.with_options(cache=True), writers, admin, proxy, rng)
            await hunt.run((60.0 if cache == {} else 20.0) if is_long else 0.5)
            proxy.heal()
            await until(lambda: client.is_ready)
            await hunt.compare()
            numbers = client.client_side_cache.stats()
        for writer in writers:
            await writer.close()
        print(dict(hunt.count), numbers)
        assert hunt.wrong == []
        assert numbers.hits > 100
        assert hunt.count["reads"] > 200
