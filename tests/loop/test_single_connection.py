"""``single_connection_client=True``: all commands of a client go through one dedicated connection."""

from __future__ import annotations

import asyncio
import gc
from json import JSONDecoder

import pytest
from redis.exceptions import ReadOnlyError

from aioredis_kit import RedisClient
from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.testing import resp
from tests.support.observing import outcome, sockets_to, turns, until


@pytest.fixture
async def single(make_client):
    return await make_client(single_connection_client=True, reconnect_strategy=0.0).connect()


def numbers(peer, name):
    return [each.connection.number for each in peer.commands if each.name == name]


async def test_one_connection_for_all(single, peer):
    """Also for pipelines, views, and commands that change the connection's state."""
    peer.on("CLIENT", resp.simple("OK"))
    await asyncio.gather(*(single.get(f"k{number}") for number in range(10)))
    await single.client_no_evict("ON")
    pipe = single.pipeline(transaction=False)
    pipe.get("a").get("b")
    assert await pipe.execute() == [b"a", b"b"]
    view = single.with_options(decode_responses=True)
    assert await view.get("c") == "c"
    assert await view.pipeline(transaction=False).get("d").execute() == ["d"]
    assert set(numbers(peer, "GET")) == {1}
    assert [each.connection.number for each in peer.commands if each.words[:2] == (b"CLIENT", b"NO-EVICT")] == [1]
    assert single.single_connection_client is view.single_connection_client is True
    assert single.connection is None


async def test_callbacks_are_the_clients(single):
    single.set_response_callback("GET", lambda reply: (reply,))
    assert await single.get("k") == (b"k",)
    assert single.response_callbacks["get"](1) == (1,)
    assert await single.with_options(decode_responses=True).get("k") == ("k",)


@pytest.mark.pins("4.14")
async def test_a_server_that_has_become_a_replica_is_left(single, peer):
    """The command is refused; the next one goes over another connection."""
    peer.on(
        "SET", resp.simple("OK"), resp.error("READONLY You can't write against a read only replica."), resp.simple("OK")
    )
    await single.set("k", 1)
    with pytest.raises(ReadOnlyError):
        await single.set("k", 2)
    await until(lambda: single.is_ready)
    await single.set("k", 3)
    first, refused, other = numbers(peer, "SET")
    assert first == refused != other


MODULES = {
    "json": lambda client: client.json(),
    "json with a decoder": lambda client: client.json(decoder=JSONDecoder()),
    "ts": lambda client: client.ts(),
    "ft": lambda client: client.ft(),
}


@pytest.mark.parametrize("is_view", [False, True])
@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
async def test_the_pipelines_of_modules_take_it_too(single, peer, module, transaction, is_view):
    peer.on("TYPE", resp.simple("QUEUED" if transaction else "string"))
    peer.on("MULTI", resp.simple("OK"))
    peer.on("EXEC", resp.array(resp.simple("string")))
    client = single.with_options(decode_responses=True) if is_view else single
    pipe = module(client).pipeline(transaction=transaction)
    pipe.execute_command("TYPE", "k")
    assert await pipe.execute() == ["string" if is_view else b"string"]
    assert numbers(peer, "TYPE") == [1]


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
async def test_the_pipelines_of_modules_watch_on_it(single, peer, module):
    for name in ("WATCH", "UNWATCH"):
        peer.on(name, resp.simple("OK"))
    async with module(single).pipeline() as pipe:
        await pipe.watch("k")
    assert numbers(peer, "WATCH") == numbers(peer, "UNWATCH") == [1]
    assert len(peer.connections) == 2


async def test_another_connection_when_it_is_lost(single, peer):
    assert await single.get("k") == b"k"
    peer.connections[1].close()
    await until(lambda: len(sockets_to(peer.port)) == 1, "the loss")
    assert await single.get("k") == b"k"
    assert numbers(peer, "GET") == [1, 2]


@pytest.mark.pins("4.19")
async def test_close_waits_for_replies_and_not_for_the_lease(single, peer):
    peer.on("GET", None)
    waiting = asyncio.ensure_future(single.get("k"))
    await until(lambda: numbers(peer, "GET"), "the command")
    closing = asyncio.ensure_future(single.close())
    await turns()
    assert not closing.done()
    peer.connections[1].send(resp.bulk("v"))
    async with asyncio.timeout(2):
        await closing
    assert await waiting == b"v"
    assert not sockets_to(peer.port)
    assert isinstance(await outcome(single.get("k")), ClientClosedError)


@pytest.mark.pins("4.20", "4.21")
async def test_every_way_to_end(single, peer):
    for end in (single.aclose, single.aclose, single.quit):
        assert await single.get("k") == b"k"
        async with asyncio.timeout(2):
            await end()
        assert not sockets_to(peer.port)
    assert isinstance(await outcome(single.get("k")), ClientClosedError)
    await single.connect()
    assert await single.get("k") == b"k"
    waiting = asyncio.ensure_future(single.get("late"))
    await turns(1)
    single.destroy()
    assert await outcome(waiting) == b"late" or isinstance(await outcome(waiting), ClientClosedError)
    await single.close()
    assert not sockets_to(peer.port)


@pytest.mark.pins("P6")
@pytest.mark.leaves_redis_clients_open(reason="it is forgotten")
async def test_one_that_is_forgotten(make_client, peer):
    client = await RedisClient(peer.url, single_connection_client=True).connect()
    assert await client.get("k") == b"k"
    with pytest.warns(ResourceWarning, match="was not closed"):
        del client
        gc.collect()
    await until(lambda: not sockets_to(peer.port), "the end of the sockets")


async def test_a_subclass_that_takes_all_commands(peer):
    seen = []

    class Noting(RedisClient):
        async def execute_command(self, *args, **options):
            seen.append(args[0])
            return await super().execute_command(*args, **options)

    async with Noting(peer.url, single_connection_client=True) as client:
        assert await client.get("k") == b"k"
        assert await client.set("k", "v") is True
    assert seen == ["GET", "SET"]
    assert set(numbers(peer, "GET")) == {1}


async def test_duplicates_are_such_clients_too(single, peer):
    async with single.duplicate() as other:
        assert await other.get("k") == b"k"
    async with single.duplicate(single_connection_client=False) as other:
        assert await other.get("k") == b"k"
        assert other.single_connection_client is False
    assert len(peer.connections) == 1 + 2 + 1
