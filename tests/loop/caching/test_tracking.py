"""What is asked of the server, and what it tells."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from aioredis_kit import CacheOptions, ClientSideCache
from aioredis_kit.exceptions import (
    HandshakeError,
)
from aioredis_kit.testing import resp
from tests.support.caching import LASTING, invalidation, sent, stats
from tests.support.observing import EventRecord, outcome, turns, until

TRACKING = ("CLIENT", "TRACKING", "ON")


# -- handshake --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client_side_cache": CacheOptions()}, ()),
        ({"client_side_cache": CacheOptions(mode="optin")}, ("OPTIN",)),
        (
            {"client_side_cache": CacheOptions(mode="broadcast", prefixes=("a", "b"))},
            ("BCAST", "PREFIX", "a", "PREFIX", "b"),
        ),
        ({"emit_invalidate": True}, ()),
    ],
)
async def test_what_is_asked_for_on_each_shared_connection(server, make_client, options, words):
    client = await make_client(connections=2, **options).connect()
    assert [each for each in sent(server, "CLIENT") if each[1] == "TRACKING"] == [(*TRACKING, *words)] * 2
    async with client.dedicated() as session:
        await session.ping()
    assert len([each for each in sent(server, "CLIENT") if each[1] == "TRACKING"]) == 2


@pytest.mark.parametrize("option", [{"client_side_cache": LASTING}, {"emit_invalidate": True}])
async def test_a_server_that_does_not_track(server, make_client, option):
    """Never a cache that is of no use, or worse."""
    server.on("CLIENT TRACKING", resp.error("ERR unknown subcommand"))
    error = await outcome(make_client(**option).connect())
    assert isinstance(error, HandshakeError)
    assert "refused CLIENT TRACKING" in str(error)
    assert "client_side_cache and emit_invalidate need it" in str(error)


async def test_a_server_without_resp3(server, make_client):
    server.on("HELLO", resp.error("ERR unknown command 'HELLO'"))
    error = await outcome(make_client(client_side_cache=LASTING).connect())
    assert isinstance(error, HandshakeError)
    assert "need RESP3" in str(error)


# -- events -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [False, True])
async def test_invalidations_are_told(server, make_client, decode):
    """For those who keep a cache of their own."""
    client = await make_client(emit_invalidate=True, decode_responses=decode, reconnect_strategy=0.0).connect()
    events = EventRecord(client)
    server.connections[0].send(invalidation("a", "b"), invalidation())
    await events.wait_for("invalidate", 3)
    assert events.of("invalidate") == (["a", "b", None] if decode else [b"a", b"b", None])
    server.connections[0].close()
    await events.wait_for("invalidate", 4)
    assert events.of("invalidate")[-1] is None
    assert client.client_side_cache is None


async def test_another_user_sees_nothing_of_what_was_read(clock, server, make_client):
    """A provider may come with another one."""
    from aioredis_kit import Credentials
    from tests.support.virtual_time import EPOCH

    users = iter("ab")
    server.on("AUTH", resp.simple("OK"))
    client = await make_client(
        client_side_cache=LASTING,
        ping_interval=None,
        credential_provider=lambda: Credentials(next(users), "s3cret-token", expires_at=EPOCH + clock() + 100),
    ).connect()
    await client.get("k")
    await asyncio.sleep(90)
    await until(lambda: sent(server, "AUTH"))
    await client.get("k")
    assert len(sent(server, "GET")) == 2


@pytest.mark.parametrize("is_write", [False, True], ids=["read", "write"])
@pytest.mark.parametrize("kind", ["command", "pipeline", "transaction"])
async def test_a_stranger_neither_reads_nor_ends_what_is_cached(server, client, kind, is_write):
    """He is refused, whatever is cached; and never touches what the client's own loop may just be looking at."""
    await client.get("k")

    async def use():
        commands = client if kind == "command" else client.pipeline(transaction=kind == "transaction")
        called = commands.set("k", "v") if is_write else commands.get("k")
        return await outcome(called if kind == "command" else commands.execute())

    error = await asyncio.to_thread(lambda: asyncio.run(use()))
    assert isinstance(error, RuntimeError)
    assert "belongs to the event loop" in str(error)
    assert (stats(client).entries, stats(client).hits, stats(client).misses) == (1, 0, 1)


async def test_the_first_pipeline_of_a_client_is_cached(server, make_client):
    client = make_client(client_side_cache=LASTING)
    for _ in range(2):
        assert await client.pipeline(transaction=False).get("k").execute() == [b"k"]
    assert len(sent(server, "GET")) == 1


async def test_on_another_event_loop(server, make_client):
    cache = ClientSideCache(LASTING)
    await make_client(client_side_cache=cache).connect()
    other = make_client(client_side_cache=cache)

    def run():
        async def connect():
            return await outcome(other.connect())

        return asyncio.run(connect())

    error = await asyncio.to_thread(run)
    assert isinstance(error, RuntimeError)
    assert "make one for each event loop" in str(error)


@pytest.mark.pins("B19")
@pytest.mark.parametrize("trouble", ["select refused", "select withdrawn", "tracking refused for a while"])
async def test_after_trouble_it_is_of_use_again(server, client, trouble):
    """Other than node-redis's in a cluster, which stays switched off."""
    if trouble == "select refused":
        server.on("SELECT", resp.error("ERR DB index is out of range"))
        assert isinstance(await outcome(client.select(99)), ResponseError)
    elif trouble == "select withdrawn":
        server.on("GET", None)
        read = asyncio.create_task(client.get("k"))
        await server.wait_for_command("GET")
        select = asyncio.create_task(client.select(1))
        await turns()
        select.cancel()
        await turns()
        server.connections[0].send(resp.bulk("v"))
        await read
        server.on("GET", resp.bulk("v"))
    else:
        server.on("CLIENT TRACKING", *[resp.error("ERR not now")] * 3, resp.simple("OK"))
        server.connections[0].close()
        await until(lambda: len(server.connections) == 5 and client.is_ready)
    before = len(sent(server, "GET"))
    for _ in range(3):
        await client.get("another")
    assert len(sent(server, "GET")) == before + 1


async def test_locks_are_not_read_from_the_cache(server, client):
    lock = client.lock("l")
    for _ in range(2):
        assert await lock.locked()
    assert len(sent(server, "GET")) == 2
