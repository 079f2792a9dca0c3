"""Reads that are answered from the cache, and those that must not be."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import CacheOptions
from aioredis_kit.exceptions import (
    ConfigurationError,
)
from aioredis_kit.testing import resp
from tests.support.caching import LASTING, invalidation, sent, stats
from tests.support.observing import outcome

# -- hits and misses --------------------------------------------------------------------------------


@pytest.mark.pins("case-93")
async def test_the_second_read_is_a_hit(server, client):
    await client.set("k", "v")
    assert await client.get("k") == b"k"
    assert (stats(client).hits, stats(client).misses) == (0, 1)
    assert await client.get("k") == b"k"
    assert await client.execute_command("GET", "k") == b"k"
    assert (stats(client).hits, stats(client).misses) == (2, 1)
    assert sent(server, "GET") == [("GET", "k")]
    assert client.statistics().cache == stats(client)


@pytest.mark.parametrize(("key", "sent_as"), [(b"k", b"k"), (bytearray(b"k"), b"k"), (1, b"1"), (1.5, b"1.5")])
async def test_keys_that_are_no_text(client, key, sent_as):
    for _ in range(3):
        assert await client.get(key) == sent_as
    assert (stats(client).hits, stats(client).misses) == (2, 1)


async def test_arguments_that_are_equal_and_sent_otherwise_are_two_reads(server, client):
    assert [await client.get(key) for key in (1, 1.0, "1")] == [b"1", b"1.0", b"1"]
    assert stats(client).misses == 3


@pytest.mark.pins("case-98")
async def test_own_writes_are_seen(server, client):
    """At once, whether or not the server has announced the change by then."""
    values = iter(range(100))
    server.on("GET", lambda _: resp.bulk(str(next(values))))
    for number in range(3):
        await client.set("k", "v")
        assert await client.get("k") == str(number).encode()
    assert (stats(client).hits, stats(client).misses) == (0, 3)


async def test_a_read_behind_a_write_of_the_same_turn(server, client):
    """It goes out behind it, whatever was cached."""
    await client.get("k")
    server.on("GET", resp.bulk("new"))
    _, value = await asyncio.gather(client.set("k", "new"), client.get("k"))
    assert value == b"new"


@pytest.mark.parametrize(
    ("command", "ended"),
    [
        (("DEL", "a", "b"), "ab"),
        (("RENAME", "a", "b"), "ab"),
        (("MSET", "a", "1", "c", "2"), "ac"),
        (("FLUSHALL",), "abc"),
        (("MY.OWN", "a"), "abc"),
        (("EVAL", "…", "1", "b"), "b"),
        (("EVAL", "…", "0"), "abc"),
        (("FCALL", "f", 0), "abc"),
        (("EVAL_RO", "…", "0"), ""),
        (("JSON.SET", "c", "$", "1"), "c"),
        (("CONFIG SET", "maxmemory", "0"), ""),
        (("PING",), ""),
        (("EXPIRE", "a", "1"), "a"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
async def test_what_own_writes_end(server, client, command, ended):
    """What depends on their keys; of a command that nobody knows, and of a script that names no keys, everything."""
    for key in "abc":
        await client.get(key)
    server.on(command[0].split()[0], resp.integer(1))
    await outcome(client.execute_command(*command))
    for key in "abc":
        await client.get(key)
    assert "".join(key for _, key in sent(server, "GET")[3:]) == ended


@pytest.mark.parametrize("kind", ["command", "pipeline"])
async def test_who_reads_until_a_value_changes(server, client, kind):
    """Hits wait for nothing, but they do not keep the loop from hearing of the change for ever."""

    async def read():
        if kind == "command":
            return await client.get("k")
        return (await client.pipeline(transaction=False).get("k").execute())[0]

    await read()
    server.on("GET", resp.bulk("new"))
    server.connections[0].send(invalidation("k"))
    for _ in range(100_000):
        if await read() == b"new":
            break
    else:
        raise AssertionError("the change was never seen")


async def test_missing_keys_are_kept_too(server, client):
    server.on("GET", resp.null())
    assert [await client.get("k") for _ in range(3)] == [None] * 3
    assert len(sent(server, "GET")) == 1


@pytest.mark.pins("case-99")
async def test_nobody_is_given_what_another_may_change(server, client):
    server.on("LRANGE", resp.array(resp.bulk("a"), resp.bulk("b")))
    server.on("HGETALL", resp.mapping({resp.bulk("f"): resp.bulk("v")}))
    for read in (lambda: client.lrange("l", 0, -1), lambda: client.hgetall("h")):
        first, second = await asyncio.gather(read(), read())
        for found in (first, second, await read()):
            found.clear()
        assert len(await read()) in (1, 2)
    assert len(sent(server, "LRANGE", "HGETALL")) == 2


async def test_responses_are_made_for_each_caller(server, client):
    """With the options of that call, and the callbacks of that view."""
    server.on("ZRANGE", resp.array(resp.array(resp.bulk("m"), b",1.5\r\n")))
    assert await client.zrange("z", 0, -1, withscores=True) == [(b"m", 1.5)]
    assert await client.zrange("z", 0, -1, withscores=True, score_cast_func=lambda score: -float(score)) == [
        (b"m", -1.5)
    ]
    view = client.with_options()
    view.set_response_callback("GET", lambda reply: reply.decode() + "!")
    assert (await client.get("k"), await view.get("k")) == (b"k", "k!")
    assert len(sent(server, "ZRANGE", "GET")) == 2


async def test_views_that_decode_otherwise_do_not_mix(server, client):
    text = client.with_options(decode_responses=True)
    assert [await each.get("k") for each in (client, text, client, text)] == [b"k", "k", b"k", "k"]
    assert len(sent(server, "GET")) == 2


async def test_numbers_are_what_they_are_sent_as(server, client):
    """Equal ones that are spelled otherwise are other commands, and what can't be sent is no hit."""
    server.on("GETRANGE", lambda received: resp.bulk(b" ".join(received.words)))
    assert await client.execute_command("GETRANGE", "k", 0, 1) == b"GETRANGE k 0 1"
    assert await client.execute_command("GETRANGE", "k", 0.0, 1) == b"GETRANGE k 0.0 1"
    assert await client.execute_command("GETRANGE", "k", "0", b"1") == b"GETRANGE k 0 1"
    assert "DataError" in repr(await outcome(client.execute_command("GETRANGE", "k", False, True)))
    assert stats(client).hits == 1


@pytest.mark.parametrize(
    "command",
    [
        ("TTL", "k"),
        ("SRANDMEMBER", "k"),
        ("OBJECT", "IDLETIME", "k"),
        ("SCAN", "0"),
        ("PING",),
        ("EVAL_RO", "return 1", "1", "k"),
        ("SORT_RO", "k"),
        ("DBSIZE",),
        ("GET",),
    ],
    ids=lambda command: command[0],
)
async def test_what_is_never_cached(server, client, command):
    server.on(command[0], resp.array(resp.bulk("0"), resp.array()))
    for _ in range(2):
        await outcome(client.execute_command(*command))
    assert len(sent(server, command[0])) >= 2
    assert stats(client).requests == 0


async def test_large_commands_are_not_cached(server, client):
    key = "k" * 20_000
    for _ in range(2):
        assert await client.get(key) == key.encode()
    assert len(sent(server, "GET")) == 2


async def test_the_user_may_say_what_is_cached(server, make_client):
    asked = []

    def cacheable(command):
        asked.append(command)
        return command[1] != "no"

    client = await make_client(client_side_cache=CacheOptions(key_expiry=False, cacheable=cacheable)).connect()
    for key in ("yes", "yes", "no", "no"):
        await client.get(key)
    assert sent(server, "GET") == [("GET", "yes"), ("GET", "no"), ("GET", "no")]
    assert asked == [("GET", "yes"), ("GET", "no"), ("GET", "no")]


async def test_a_subclass_sees_all_commands(server, client):
    seen = []

    class Watching(type(client)):
        def execute_command(self, *args, **options):
            seen.append(args)
            return super().execute_command(*args, **options)

    watching = Watching(server.url, client_side_cache=LASTING)
    for _ in range(2):
        assert await watching.get("k") == b"k"
    assert seen == [("GET", "k")] * 2
    assert len(sent(server, "GET")) == 1
    await watching.close()


# -- views and modes --------------------------------------------------------------------------------


async def test_a_view_without(server, client):
    plain = client.with_options(cache=False)
    await client.get("k")
    assert [await plain.get("k") for _ in range(2)] == [b"k"] * 2
    assert len(sent(server, "GET")) == 3
    await plain.set("k", "v")
    await client.get("k")
    assert len(sent(server, "GET")) == 4
    again = plain.with_options(cache=True)
    await again.get("k")
    assert len(sent(server, "GET")) == 4


async def test_only_who_opts_in(server, make_client):
    server.on("PTTL", resp.integer(-1))
    client = await make_client(client_side_cache=CacheOptions(mode="optin")).connect()
    view = client.with_options(cache=True)
    await client.get("k")
    await client.get("k")
    assert [await view.get("k") for _ in range(2)] == [b"k"] * 2
    names = [tuple(word.decode() for word in each.words) for each in server.commands][-6:]
    assert names[-5:] == [
        ("GET", "k"),
        ("GET", "k"),
        ("CLIENT", "CACHING", "YES"),
        ("GET", "k"),
        ("PTTL", "k"),
    ]
    assert len({each.chunk for each in server.commands[-3:]}) == 1
    server.on("SET", resp.simple("OK"))
    await client.set("k", "v")
    await view.get("k")
    assert len(sent(server, "GET")) == 4


async def test_opting_in_over_the_loss_of_the_connection(server, make_client):
    client = await make_client(client_side_cache=CacheOptions(mode="optin"), reconnect_strategy=0.0).connect()
    view = client.with_options(cache=True)
    server.on("GET", None)
    read = asyncio.create_task(view.get("k"))
    await server.wait_for_command("GET")
    server.on("GET", resp.bulk("v"))
    server.connections[0].close()
    assert await read == b"v"
    assert sent(server, "CLIENT")[-1] == ("CLIENT", "CACHING", "YES")


async def test_a_server_that_does_not_let_us_opt_in(server, make_client, caplog):
    client = await make_client(client_side_cache=CacheOptions(mode="optin")).connect()
    server.on("CLIENT CACHING", resp.error("ERR CLIENT CACHING can be called only when …"))
    view = client.with_options(cache=True)
    assert [await view.get("k") for _ in range(2)] == [b"k"] * 2
    assert len(sent(server, "GET")) == 2
    assert (
        caplog.text.count("refuses CLIENT CACHING (ERR), without which nothing is cached: let its ACL allow it\n") == 1
    )


async def test_keys_of_other_prefixes_are_not_cached(server, make_client):
    options = CacheOptions(mode="broadcast", prefixes=("user:",), key_expiry=False)
    client = await make_client(client_side_cache=options).connect()
    for key in ("user:1", "user:1", "session:1", "session:1"):
        await client.get(key)
    server.on("MGET", resp.array(resp.null(), resp.null()))
    for _ in range(2):
        await client.mget("user:1", "session:1")
    assert [key for _, key in sent(server, "GET")] == ["user:1", "session:1", "session:1"]
    assert len(sent(server, "MGET")) == 2


async def test_a_view_with_a_time_of_its_own(clock, server, client):
    view = client.with_options(cache=10)
    assert [await each.get("k") for each in (view, client)] == [b"k", b"k"]
    await asyncio.sleep(9)
    await view.get("k")
    assert len(sent(server, "GET")) == 2
    await asyncio.sleep(2)
    await view.get("k")
    await client.get("k")
    assert len(sent(server, "GET")) == 3
    assert stats(client).evictions == 1


@pytest.mark.pins("P5")
async def test_of_views_with_a_time_of_their_own_nothing_is_left(server, client):
    for number in range(1, 1000):
        await client.with_options(cache=number / 7).get("k")
    assert len(client._core.caching._lenses) == 1
    client.client_side_cache.clear()
    assert len(client.client_side_cache._spaces) == 1


@pytest.mark.parametrize("cache", ["yes", -1, 0])
async def test_a_view_with_nonsense(client, cache):
    with pytest.raises(ConfigurationError, match="cache must be True, False, or"):
        client.with_options(cache=cache)


async def test_a_view_of_a_client_without_cache(make_client):
    with pytest.raises(ConfigurationError, match="client_side_cache=CacheOptions"):
        make_client().with_options(cache=True)
    make_client().with_options(cache=False)


async def test_a_view_of_a_session(client):
    async with client.dedicated() as session:
        with pytest.raises(ConfigurationError, match="nothing of a session is cached"):
            session.with_options(cache=True)
        await session.with_options(cache=False, command_timeout=1).set("k", "v")
