"""The cache at real servers: what they announce, and that nothing differs but where replies come from."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from aioredis_kit import CacheOptions, ClientSideCache, create_client
from aioredis_kit.exceptions import HandshakeError
from aioredis_kit.testing import RedisServer
from tests.support.comparing import COMBINATIONS, assert_same, both, in_pipeline, name_of
from tests.support.data_calls import DATA_CALLS
from tests.support.observing import EventRecord, outcome, until

MODES = [
    pytest.param(options, id="-".join(map(str, options.values())) or "default")
    for options in ({}, {"mode": "optin"}, {"mode": "broadcast"}, {"key_expiry": False})
]

LONG = pytest.mark.only_long


def cached_client(url, *, cache, **options):
    """A client that caches, in whatever mode."""
    return create_client(url, client_side_cache=CacheOptions(**cache), **options)


def view_of(client):
    """A view that opts in."""
    return client.with_options(cache=True)


@pytest.fixture(params=MODES)
async def client(request, redis_url):
    async with cached_client(redis_url, cache=request.param) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def other(redis_url):
    async with create_client(redis_url) as other:
        yield other


async def quiet(client, other):
    """Wait until all that the other has changed was announced: the announcement of one more change comes last."""
    view = view_of(client)
    before = await view.incr("quiet")
    await view.get("quiet")
    await other.set("quiet", before + 1)
    cache = client.client_side_cache
    await until(lambda: not [keys for _, _, _, keys, _, _ in cache.entries.values() if keys == b"quiet"])


# -- transparent ------------------------------------------------------------------------------------


@pytest.mark.pins("P1")
@pytest.mark.parametrize("kind", ["commands", "pipelines"])
@pytest.mark.parametrize(
    "cache", [MODES[0], *(pytest.param(*each.values, id=each.id, marks=LONG) for each in MODES[1:])]
)
@pytest.mark.parametrize("options", COMBINATIONS, ids=name_of)
async def test_the_same_response(redis_url, options, cache, kind):
    """As from redis-py without a cache; each command twice, the second time perhaps from the cache."""
    if options.get("protocol") == 2:
        pytest.skip("there is no cache under RESP2")
    numbers = []

    def ours(url, **options):
        return Opted(cached_client(url, cache=cache, **options), numbers)

    noted = [call for each in DATA_CALLS for call in (each, each) if "xpending_range" not in inspect.getsource(each)]
    calls = noted  # but for the one that tells how long ago something was
    if kind == "pipelines":
        calls = [in_pipeline(call, lambda client: client.pipeline(transaction=False)) for call in noted]
    theirs, mine = await both(redis_url, options, calls, ours=ours)
    assert_same(theirs, mine, noted)
    assert numbers[0].hits > 20


class Opted:
    """A client whose view opts in."""

    def __init__(self, client, numbers):
        self._client = client
        self._numbers = numbers

    async def __aenter__(self):
        return view_of(await self._client.__aenter__())

    async def __aexit__(self, *exception):
        self._numbers.append(self._client.client_side_cache.stats())
        await self._client.__aexit__(*exception)


# -- what servers announce --------------------------------------------------------------------------


@pytest.mark.pins("case-97")
@pytest.mark.parametrize(
    "change",
    [
        lambda other: other.set("k", "new"),
        lambda other: other.delete("k"),
        lambda other: other.flushdb(),
        lambda other: other.flushall(),
        lambda other: other.rename("k", "elsewhere"),
        lambda other: other.rename("source", "k"),
        lambda other: other.append("k", "more"),
        lambda other: other.pipeline().set("k", "new").execute(),
        lambda other: other.eval("return redis.call('SET', KEYS[1], 'new')", 1, "k"),
        lambda other: other.expire("k", 0),
        lambda other: other.copy("source", "k", replace=True),
    ],
)
async def test_a_change_by_somebody_else(client, other, change):
    await other.mset({"k": "old", "source": "another", "stays": "the same"})
    view = view_of(client)
    assert await view.get("k") == b"old"
    await view.get("k")
    await change(other)
    await quiet(client, other)
    assert await view.get("k") == await other.get("k")


async def test_own_changes_are_seen_at_once(client):
    view = view_of(client)
    for number in range(50):
        await client.set("k", number)
        assert await view.get("k") == str(number).encode()
    for number in range(50):
        await client.pipeline(transaction=bool(number % 2)).hset("h", "f", number).execute()
        assert await view.hgetall("h") == {b"f": str(number).encode()}
    for number in range(50):
        await client.rpush("l", number)
        assert await view.llen("l") == 1
        assert await client.blpop("l", timeout=1) is not None
        assert await view.llen("l") == 0


async def test_a_key_ends_on_time():
    """Whenever the server comes to say so: this one never does."""
    with RedisServer(config={"enable-debug-command": "local"}) as server:
        async with cached_client(server.url, cache={}) as client, create_client(server.url) as other:
            await other.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
            await other.psetex("k", 60, "v")
            assert [await client.get("k") for _ in range(2)] == [b"v"] * 2
            assert client.client_side_cache.stats().hits == 1
            await asyncio.sleep(0.07)  # so long that the key has ended
            assert await client.get("k") is None
            assert client.client_side_cache.stats().evictions == 1


async def test_hits_send_nothing(client, other):
    """Seen at the server."""
    view = view_of(client)
    await client.set("k", "v")
    await view.get("k")
    async with other.monitor() as monitor:
        await monitor.connect()
        for _ in range(1000):
            assert await view.get("k") == b"v"
        await other.echo("the end")
        seen = []
        async for told in monitor.listen():
            if "the end" in told["command"]:
                break
            seen.append(told["command"])
    assert [each for each in seen if "GET" in each] == []
    assert client.client_side_cache.stats().hits == 1000


async def test_what_others_read_is_not_announced_to_everybody(redis_url):
    """An application with a cache of its own hears of what it has read."""
    async with create_client(redis_url, emit_invalidate=True) as client, create_client(redis_url) as other:
        events = EventRecord(client)
        await other.set("k", 1)
        await client.get("k")
        await other.set("unread", 1)
        await other.set("k", 2)
        await events.wait_for("invalidate")
        await other.flushdb()
        await events.wait_for("invalidate", 2)
        assert events.of("invalidate") == [b"k", None]


@pytest.mark.parametrize("rights", ["-client|tracking", "-client"])
async def test_without_the_right_to_track(redis_server, rights):
    if not redis_server.started_here:
        pytest.skip("this makes users: it is for a server of our own")
    async with create_client(redis_server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "reader", "on", ">s3cret-reader", "~*", "+@all", rights)
        try:
            error = await outcome(
                create_client(
                    redis_server.url, username="reader", password="s3cret-reader", client_side_cache=CacheOptions()
                ).connect()
            )
        finally:
            await admin.acl_deluser("reader")
            await admin.acl_log_reset()
    assert isinstance(error, HandshakeError)
    assert "refused CLIENT TRACKING" in str(error)
    assert "its ACL" in str(error)


async def test_a_server_that_is_killed():
    """What its connections had read is gone before anything is read again."""
    with RedisServer() as server:
        async with cached_client(server.url, cache={}, reconnect_strategy=0.05) as client:
            await client.set("k", "v")
            assert await client.get("k") == b"v"
            server.kill()
            await until(lambda: client.client_side_cache.stats().entries == 0)
            server.start()
            assert await client.get("k") is None


async def test_the_same_text_in_another_encoding_is_another_key(redis_server):
    cache = ClientSideCache()
    async with (
        create_client(redis_server.url, client_side_cache=cache) as client,
        create_client(redis_server.url, client_side_cache=cache, encoding="latin-1") as other,
    ):
        await client.mset({"é".encode(): "of UTF-8", "é".encode("latin-1"): "of Latin 1"})
        for _ in range(2):
            assert (await client.get("é"), await other.get("é")) == (b"of UTF-8", b"of Latin 1")
        assert cache.stats().hits == 2
