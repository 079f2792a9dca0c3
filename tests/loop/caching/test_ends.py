"""What ends what is kept: connections, other states, time."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit import CacheOptions, ClientSideCache
from aioredis_kit.exceptions import (
    ClientClosedError,
)
from aioredis_kit.testing import resp
from tests.support.caching import LASTING, sent, stats
from tests.support.observing import EventRecord, outcome, turns, until

# -- connections ------------------------------------------------------------------------------------


async def test_the_loss_of_the_connection_ends_what_it_has_read(server, client):
    events = EventRecord(client)
    await client.get("k")
    server.on("GET", resp.bulk("new"))
    server.connections[0].close()
    await events.wait_for("reconnecting")
    assert stats(client).entries == 0
    assert await client.get("k") == b"new"
    assert events.of("invalidate") == [None]


@pytest.mark.pins("B18")
async def test_a_load_over_the_loss_is_answered_and_not_kept(server, client):
    """It was sent again, but who knows what was announced in between."""
    server.on("GET", None)
    read = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    server.on("GET", resp.bulk("v"))
    server.connections[0].close()
    assert await read == b"v"
    assert stats(client).entries == 0
    assert await client.get("k") == b"v"
    assert stats(client).entries == 1


async def test_only_what_that_connection_has_read(server, make_client):
    client = await make_client(client_side_cache=LASTING, connections=2, reconnect_strategy=0.0).connect()
    keys = [f"k{number}" for number in range(20)]
    for key in keys:
        await client.get(key)
    of_first = [each.words[1].decode() for each in server.connections[0].commands if each.name == "GET"]
    assert 0 < len(of_first) < 20
    server.connections[0].close()
    await until(lambda: stats(client).entries == 20 - len(of_first))
    before = len(sent(server, "GET"))
    for key in keys:
        await client.get(key)
    assert [key for _, key in sent(server, "GET")[before:]] == [key for key in keys if key in of_first]


async def test_select_ends_everything(server, client):
    """And a read that is issued behind it goes out behind it."""
    server.on("SELECT", resp.simple("OK"))
    await client.get("k")
    server.on("GET", resp.bulk("of db 1"))
    _, value = await asyncio.gather(client.select(1), client.get("k"))
    assert value == b"of db 1"
    assert await client.get("k") == b"of db 1"
    assert await client.get("k") == b"of db 1"
    names = [each.name for each in server.commands if each.name in ("GET", "SELECT")]
    assert names == ["GET", "SELECT", "GET", "GET"]


@pytest.mark.pins("case-100")
async def test_after_closing_nothing_is_left(server, client):
    await client.get("k")
    await client.close()
    assert stats(client).requests == stats(client).entries == 0
    await client.connect()
    await client.get("k")
    assert stats(client).misses == 1
    assert len(sent(server, "GET")) == 2


@pytest.mark.pins("case-105")
async def test_a_client_that_was_never_connected_ends_nothing_of_others(server, make_client):
    cache = ClientSideCache(LASTING)
    client = await make_client(client_side_cache=cache).connect()
    other = make_client(client_side_cache=cache)
    await client.get("k")
    other.destroy()
    await other.close()
    assert cache.stats().entries == 1


async def test_clients_that_share_a_cache(server, make_client):
    """What one has read is a hit for the other; when one is closed only what its connections would tell about ends."""
    cache = ClientSideCache(LASTING)
    first, second = [await make_client(client_side_cache=cache).connect() for _ in range(2)]
    await first.get("a")
    await second.get("b")
    assert [await first.get("b"), await second.get("a")] == [b"b", b"a"]
    assert len(sent(server, "GET")) == 2
    server.on("SET", resp.simple("OK"))
    await second.set("a", "new")
    assert cache.stats().entries == 1
    await first.get("a")
    await first.close()
    await second.get("b")
    assert len(sent(server, "GET")) == 3
    assert cache.stats().entries == 1


@pytest.mark.parametrize("began", ["before the loss", "behind it"])
async def test_nobody_waits_for_the_connection_of_another_client(server, make_client, began):
    """A load of a client that is not connected is of use to none but itself."""
    cache = ClientSideCache(LASTING)
    first = await make_client(client_side_cache=cache, reconnect_strategy=60.0).connect()
    second = await make_client(client_side_cache=cache).connect()

    async def lose():
        server.on("GET", resp.bulk("v"))
        server.connections[0].close()
        await until(lambda: not first.is_ready)

    if began == "behind it":
        await lose()
    server.on("GET", None)
    stuck = asyncio.create_task(outcome(first.get("k")))
    await turns()
    server.on("GET", resp.bulk("v"))
    read = asyncio.create_task(second.get("k"))
    if began == "before the loss":
        await turns()
        assert cache.stats().joined_loads == 1
        await lose()
    assert await asyncio.wait_for(read, 1) == b"v"
    assert not stuck.done()
    first.destroy()
    assert isinstance(await stuck, ClientClosedError)


@pytest.mark.parametrize("options", [{"db": 1}, {"username": "u", "password": "s3cret-word"}], ids=["db", "user"])
async def test_those_of_another_kind_see_nothing_of_it(server, make_client, options):
    cache = ClientSideCache(LASTING)
    server.on("SELECT", resp.simple("OK"))
    first, second = [await make_client(client_side_cache=cache, **each).connect() for each in ({}, options)]
    await first.get("k")
    await second.get("k")
    assert cache.stats().hits == 0
    assert len(sent(server, "GET")) == 2


async def test_a_client_with_a_cache_is_collected_like_any_other(server, make_client):
    client = make_client(client_side_cache=LASTING)
    await client.get("k")
    view = client.with_options(decode_responses=True)
    await view.get("k")
    reference = weakref.ref(view)
    gc.disable()
    try:
        del view
        assert reference() is None
    finally:
        gc.enable()


# -- time -------------------------------------------------------------------------------------------


async def test_an_entry_ends_with_its_key(clock, server, expiring):
    """Counted from the write, which is earlier than the server's answer."""
    server.on("PTTL", resp.integer(1500))
    await expiring.get("k")
    assert [each.name for each in server.commands][-2:] == ["GET", "PTTL"]
    assert server.commands[-1].chunk == server.commands[-2].chunk
    await asyncio.sleep(1.4)
    await expiring.get("k")
    assert len(sent(server, "GET")) == 1
    await asyncio.sleep(0.11)
    await expiring.get("k")
    assert len(sent(server, "GET")) == 2
    assert stats(expiring).evictions == 1


@pytest.mark.pins("P1", "4.7")
async def test_a_read_whose_caller_has_gone_before_it_was_written(server, expiring):
    """Neither it nor the question behind it is sent, and the others get their own replies."""
    server.on("PTTL", resp.integer(7))
    first, gone, other = (asyncio.create_task(expiring.get(key)) for key in ("first", "gone", "k"))
    asyncio.get_running_loop().call_soon(
        gone.cancel
    )  # in the turn in which they are issued; the first has left by then
    await asyncio.wait((first, gone, other))
    assert (await first, await other) == (b"first", b"k")
    assert gone.cancelled()
    assert [key for _, key in sent(server, "GET", "PTTL")] == ["first", "first", "k", "k"]
    assert await expiring.with_options(cache=False).get("another") == b"another"


async def test_a_key_that_ended_in_between(server, expiring):
    """Nobody knows what was read."""
    server.on("PTTL", resp.integer(-2))
    for _ in range(2):
        assert await expiring.get("k") == b"k"
    assert len(sent(server, "GET")) == 2


async def test_a_key_that_was_not_there(server, expiring):
    """Both answers say so; when it comes to be, that is announced."""
    server.on("GET", resp.null())
    server.on("PTTL", resp.integer(-2))
    assert [await expiring.get("k") for _ in range(2)] == [None] * 2
    assert len(sent(server, "GET")) == 1


async def test_several_keys_end_with_the_first(clock, server, expiring):
    ends = {b"a": -1, b"b": 3000, b"c": 2000}
    server.on("PTTL", lambda received: resp.integer(ends[received.words[1]]))
    server.on("MGET", resp.array(*[resp.bulk("v")] * 3))
    await expiring.mget("a", "b", "c")
    await asyncio.sleep(1.9)
    await expiring.mget("a", "b", "c")
    assert len(sent(server, "MGET")) == 1
    await asyncio.sleep(0.2)
    await expiring.mget("a", "b", "c")
    assert len(sent(server, "MGET")) == 2


async def test_of_many_keys_nobody_asks(server, expiring):
    server.on("EXISTS", resp.integer(1))
    for count in (16, 17):
        for _ in range(2):
            await expiring.exists(*map(str, range(count)))
    assert len(sent(server, "EXISTS")) == 3
    assert len(sent(server, "PTTL")) == 16


async def test_whoever_may_not_ask_gets_no_cache(server, expiring, caplog):
    """And is told, once: a cache that is of no use is never so in silence."""
    server.on("PTTL", resp.error("LOADING not yet"), resp.error("NOPERM no"))
    for _ in range(3):
        assert await expiring.get("k") == b"k"
    assert len(sent(server, "GET")) == 3
    assert (
        caplog.text.count("refuses PTTL (NOPERM), without which nothing is cached: let its ACL allow it, or set") == 1
    )
    assert "LOADING" not in caplog.text


async def test_an_error_with_the_question_behind_it(server, expiring):
    server.on("GET", resp.error("NOPERM no"))
    assert isinstance(await outcome(expiring.get("k")), NoPermissionError)
    server.on("GET", resp.error("LOADING not yet"), resp.bulk("v"))
    assert await expiring.get("k") == b"v"


async def test_a_limit_for_all(clock, server, make_client):
    client = await make_client(client_side_cache=CacheOptions(key_expiry=False, ttl=5), ping_interval=None).connect()
    await client.get("k")
    await asyncio.sleep(4.9)
    await client.get("k")
    await asyncio.sleep(0.2)
    await client.get("k")
    assert len(sent(server, "GET")) == 2
