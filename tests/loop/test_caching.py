"""Reads that are answered from the cache, and all that must not be: a scripted peer says what comes when."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from aioredis_kit import CacheOptions, ClientSideCache
from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    HandshakeError,
    NotConnectedError,
)
from aioredis_kit.testing import resp
from tests.support.observing import EventRecord, outcome, turns, until

LASTING = CacheOptions(key_expiry=False)
"""No questions when keys end: what a test is about is all that is sent."""
TRACKING = ("CLIENT", "TRACKING", "ON")


def invalidation(*keys):
    return resp.push("invalidate", resp.array(*map(resp.bulk, keys)) if keys else resp.null())


@pytest.fixture
def server(peer):
    """The peer, with tracking and keys that do not end."""
    peer.on("PTTL", resp.integer(-1))
    peer.on("CLIENT CACHING", resp.simple("OK"))
    return peer


@pytest.fixture
async def client(server, make_client):
    return await make_client(client_side_cache=LASTING, reconnect_strategy=0.0, ping_interval=None).connect()


def sent(peer, *names):
    return [tuple(word.decode() for word in each.words) for each in peer.commands if each.name in names]


def stats(client):
    return client.client_side_cache.stats()


# -- hits and misses --------------------------------------------------------------------------------


@pytest.mark.pins("case-93")
async def test_the_second_read_is_a_hit(server, client):
    await client.set("k", "v")
    assert await client.get("k") == b"k"
    assert (stats(client).hits, stats(client).misses) == (0, 1)
    assert await client.get("k") == b"k"
    assert await client.execute_command("GET", b"k") == b"k"
    assert (stats(client).hits, stats(client).misses) == (2, 1)
    assert sent(server, "GET") == [("GET", "k")]
    assert client.statistics().cache == stats(client)


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


# -- invalidations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [("k",), ()], ids=["by key", "by flush"])
async def test_what_the_server_says_ends_entries(server, client, keys):
    await client.get("k")
    server.connections[0].send(invalidation(*keys))
    await until(lambda: stats(client).invalidations)
    server.on("GET", resp.bulk("new"))
    assert await client.get("k") == b"new"


@pytest.mark.pins("case-104", "B18")
@pytest.mark.parametrize("keys", [("k",), ()], ids=["by key", "by flush"])
@pytest.mark.parametrize("order", ["reply first", "invalidation first"])
async def test_reply_and_invalidation_in_one_packet(server, client, keys, order):
    """The caller gets the reply; nobody after that does."""
    server.on("GET", None)
    read = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    frames = [resp.bulk("old"), invalidation(*keys)]
    server.connections[0].send(*(frames if order == "reply first" else reversed(frames)))
    assert await read == b"old"
    server.on("GET", resp.bulk("new"))
    assert await client.get("k") == b"new"
    assert await client.get("k") == b"new"
    assert len(sent(server, "GET")) == 2


@pytest.mark.parametrize("keys", [("k",), ()], ids=["by key", "by flush"])
async def test_the_race_that_leaves_others_stale(server, client, keys):
    """A read is in flight, the invalidation comes, then the old reply; the server has forgotten that it was read.

    The four steps in which coredis 6.9 keeps the old value for ever.
    """
    server.on("GET", None)
    read = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    server.connections[0].send(invalidation(*keys))
    await until(lambda: stats(client).invalidations)
    server.connections[0].send(resp.bulk("old"))
    assert await read == b"old"
    server.on("GET", resp.bulk("new"))
    assert [await client.get("k") for _ in range(3)] == [b"new"] * 3
    assert len(sent(server, "GET")) == 2


async def test_a_read_that_begins_after_the_invalidation_does_not_join_the_one_before(server, client):
    server.on("GET", None)
    before = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    server.connections[0].send(invalidation("k"))
    await until(lambda: stats(client).invalidations)
    behind = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET", count=2)
    server.connections[0].send(resp.bulk("old"), resp.bulk("new"))
    assert [await before, await behind] == [b"old", b"new"]
    assert await client.get("k") == b"new"
    assert len(sent(server, "GET")) == 2


async def test_invalidations_of_other_keys_disturb_nothing(server, client):
    await client.get("k")
    server.connections[0].send(invalidation("other", "another"))
    server.connections[0].send(resp.push("something", resp.bulk("else")))
    server.on("ECHO", resp.bulk("done"))
    await client.echo("done")  # whose answer comes behind them
    assert await client.get("k") == b"k"
    assert len(sent(server, "GET")) == 1


# -- shared loads -----------------------------------------------------------------------------------


@pytest.mark.pins("case-103")
async def test_concurrent_reads_are_sent_once(server, client):
    assert await asyncio.gather(*(client.get("k") for _ in range(3))) == [b"k"] * 3
    numbers = stats(client)
    assert (numbers.misses, numbers.joined_loads, numbers.load_successes) == (3, 2, 1)
    assert len(sent(server, "GET")) == 1


async def test_they_share_an_error_reply(server, client):
    server.on("GET", resp.error("WRONGTYPE not a string"))
    errors = await asyncio.gather(*(outcome(client.get("k")) for _ in range(3)))
    assert {str(error) for error in errors} == {"not a string"} or {str(error) for error in errors} == {
        "WRONGTYPE not a string"
    }
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, ResponseError) for error in errors)
    numbers = stats(client)
    assert (numbers.load_failures, numbers.entries) == (1, 0)
    assert len(sent(server, "GET")) == 1
    await outcome(client.get("k"))
    assert len(sent(server, "GET")) == 2


@pytest.mark.pins("4.16")
async def test_they_share_what_can_not_be_decoded(server, make_client):
    client = await make_client(client_side_cache=LASTING, decode_responses=True).connect()
    server.on("GET", resp.bulk(b"\xff"))
    errors = await asyncio.gather(*(outcome(client.get("k")) for _ in range(3)))
    assert [type(error) for error in errors] == [UnicodeDecodeError] * 3
    assert len({id(error) for error in errors}) == 3
    assert len(sent(server, "GET")) == 1
    assert stats(client).entries == 0


@pytest.mark.pins("P5")
async def test_of_those_who_waited_in_vain_nothing_is_left(server, client):
    server.on("GET", None)
    read = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    hasty = client.with_options(command_timeout=0.01)
    assert {type(each) for each in await asyncio.gather(*(outcome(hasty.get("k")) for _ in range(10)))} == {
        CommandTimeoutError
    }
    assert not any(client.client_side_cache.joined.values())
    server.connections[0].send(resp.bulk("v"))
    assert await read == b"v"


@pytest.mark.parametrize("which", ["the first", "another"])
async def test_one_callers_cancellation_is_its_own(server, client, which):
    server.on("GET", None)
    reads = [asyncio.create_task(client.get("k")) for _ in range(3)]
    await server.wait_for_command("GET")
    server.on("GET", resp.bulk("v"))
    gone = reads.pop(0 if which == "the first" else 1)
    gone.cancel()
    await turns()
    server.connections[0].send(resp.bulk("v"))
    assert await asyncio.gather(*reads) == [b"v"] * 2
    assert gone.cancelled()
    assert len(sent(server, "GET")) == (2 if which == "the first" else 1)
    assert await client.get("k") == b"v"
    assert len(sent(server, "GET")) == (2 if which == "the first" else 1)


async def test_one_callers_deadline_is_its_own(server, client):
    server.on("GET", None)
    hasty = asyncio.create_task(outcome(client.with_options(command_timeout=0.05).get("k")))
    await server.wait_for_command("GET")
    patient = asyncio.create_task(client.get("k"))
    hasty_too = asyncio.create_task(outcome(client.with_options(command_timeout=0.1).get("k")))
    assert isinstance(await hasty, CommandTimeoutError)
    await server.wait_for_command("GET", count=2)
    error = await hasty_too
    assert isinstance(error, CommandTimeoutError)
    server.connections[0].send(resp.bulk("late"), resp.bulk("v"))
    assert await patient == b"v"


async def test_a_deadline_while_waiting_for_another(server, client):
    server.on("GET", None)
    patient = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    error = await outcome(client.with_options(command_timeout=0.05).get("k"))
    assert isinstance(error, CommandTimeoutError)
    assert "it waited for the same command of another caller" in str(error)
    assert not error.maybe_executed
    server.connections[0].send(resp.bulk("v"))
    assert await patient == b"v"


async def test_what_the_server_did_not_do_is_tried_again(server, client):
    server.on("GET", *[resp.error("LOADING not yet")] * 2, resp.bulk("v"))
    assert await asyncio.gather(*(client.get("k") for _ in range(3))) == [b"v"] * 3
    assert await client.get("k") == b"v"


@pytest.mark.pins("P1")
@pytest.mark.parametrize("joined", [1, 2])
async def test_those_who_wait_never_get_what_is_in_another_database(server, client, joined):
    """The one whose command it was has gone; what is sent now goes out behind the SELECT that came after them."""
    server.on("SELECT", resp.simple("OK"))
    server.on("GET", None)
    gone = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    reads = [asyncio.create_task(outcome(client.get("k"))) for _ in range(joined)]
    await turns()
    select = asyncio.create_task(client.select(1))
    await turns()
    server.on("GET", resp.bulk("of db 1"))
    gone.cancel()
    await turns()
    server.connections[0].send(resp.bulk("of db 0"))
    await select
    for error in await asyncio.gather(*reads):
        assert isinstance(error, NotConnectedError)
        assert not error.maybe_executed
    assert sent(server, "GET", "SELECT") == [("GET", "k"), ("SELECT", "1")]
    assert [await client.get("k") for _ in range(2)] == [b"of db 1"] * 2
    assert (stats(client).hits, stats(client).entries) == (1, 1)


@pytest.mark.pins("P6")
async def test_those_who_wait_do_not_open_a_client_that_was_closed(server, make_client):
    client = await make_client(client_side_cache=LASTING, close_timeout=0.01).connect()
    server.on("GET", None)
    reads = [asyncio.create_task(outcome(client.get("k"))) for _ in range(3)]
    await server.wait_for_command("GET")
    await client.aclose()
    for error in await asyncio.gather(*reads):
        assert isinstance(error, ClientClosedError)
    assert not client.is_open


@pytest.mark.pins("P6")
async def test_closing_ends_those_who_wait(server, client):
    server.on("GET", None)
    reads = [asyncio.create_task(outcome(client.get("k"))) for _ in range(3)]
    await server.wait_for_command("GET")
    client.destroy()
    for error in await asyncio.gather(*reads):
        assert isinstance(error, ClientClosedError)
    assert isinstance(await outcome(client.get("k")), ClientClosedError)


@pytest.mark.parametrize("count", [1, 50, 3000])
async def test_each_question_is_behind_its_read(server, make_client, count):
    """In one write with those of the same turn of the loop, as far as that is none too large."""
    client = await make_client(client_side_cache=CacheOptions()).connect()
    before = client.statistics().socket_writes
    keys = [f"k{number}" for number in range(count)]
    assert await asyncio.gather(*map(client.get, keys)) == [key.encode() for key in keys]
    wanted = [(name, key) for key in keys for name in ("GET", "PTTL")]
    assert sent(server, "GET", "PTTL") == wanted
    assert client.statistics().socket_writes - before <= 2 + count // 100
    assert stats(client).entries == count


async def test_reads_with_questions_go_again_after_a_loss(server, make_client):
    """Those that were written and those that were not, in their order; what had been answered of one counts not."""
    client = await make_client(client_side_cache=CacheOptions(), reconnect_strategy=0.0).connect()
    server.on("GET", resp.bulk("old"), None)
    server.on("PTTL", None)
    reads = [asyncio.create_task(client.get(key)) for key in "abc"]
    await server.wait_for_command("PTTL", count=3)
    server.on("GET", resp.bulk("new"))
    server.on("PTTL", resp.integer(-1))
    server.connections[0].close()
    assert await asyncio.gather(*reads) == [b"new"] * 3
    again = [(each.name, each.words[1]) for each in server.connections[1].commands if each.name in ("GET", "PTTL")]
    assert again == [(name, key) for key in (b"a", b"b", b"c") for name in ("GET", "PTTL")]
    assert stats(client).entries == 0


async def test_reads_with_questions_have_deadlines_and_can_be_cancelled(server, make_client):
    client = await make_client(client_side_cache=CacheOptions(), command_timeout=0.1).connect()
    server.on("GET", resp.bulk("v"), None)
    server.on("PTTL", None)
    gone = asyncio.create_task(client.get("a"))
    await server.wait_for_command("PTTL")
    withdrawn = asyncio.create_task(client.get("b"))
    await turns()
    for each in (gone, withdrawn):
        each.cancel()
    assert isinstance(await outcome(client.get("c")), CommandTimeoutError)
    assert gone.cancelled()
    assert withdrawn.cancelled()
    assert stats(client).entries == 0
    assert not client.client_side_cache.entries


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


# -- time -------------------------------------------------------------------------------------------


@pytest.fixture
async def expiring(clock, server, make_client):
    return await make_client(client_side_cache=CacheOptions(), ping_interval=None).connect()


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


# -- pipelines and sessions -------------------------------------------------------------------------


async def test_the_reads_of_a_pipeline(server, client):
    """Hits are not sent; what is sent is kept; responses are in their places."""
    await client.get("b")
    server.on("INCRBY", resp.integer(1))
    pipe = client.pipeline(transaction=False)
    pipe.get("a").get("b").incr("n").get("c").get("a")
    assert await pipe.execute() == [b"a", b"b", 1, b"c", b"a"]
    assert [key for _, key in sent(server, "GET")] == ["b", "a", "c", "a"]
    assert await client.pipeline(transaction=False).get("a").get("b").get("c").execute() == [b"a", b"b", b"c"]
    assert len(sent(server, "GET")) == 4


async def test_a_pipeline_asks_when_keys_end(clock, server, expiring):
    server.on("PTTL", resp.integer(1000))
    assert await expiring.pipeline(transaction=False).get("a").set("b", 1).get("b").execute() == [b"a", True, b"b"]
    assert [each.name for each in server.commands][-5:] == ["GET", "PTTL", "SET", "GET", "PTTL"]
    assert await expiring.get("a") == b"a"
    await asyncio.sleep(1.1)
    await expiring.get("a")
    assert len(sent(server, "GET")) == 3


async def test_a_pipeline_that_opts_in(server, make_client):
    client = await make_client(client_side_cache=CacheOptions(mode="optin")).connect()
    view = client.with_options(cache=True)
    for _ in range(2):
        assert await view.pipeline(transaction=False).get("a").set("b", 1).execute() == [b"a", True]
    names = [each.name for each in server.commands if each.name in ("CLIENT", "GET", "PTTL", "SET")]
    assert names[-5:] == ["CLIENT", "GET", "PTTL", "SET", "SET"]


async def test_a_pipeline_in_parts_opts_in_for_nothing(server, make_client):
    """What was to accompany a read may have gone with somebody else's."""
    client = await make_client(client_side_cache=CacheOptions(mode="optin"), commands_queue_max_length=2).connect()
    view = client.with_options(cache=True)
    for _ in range(2):
        assert await view.pipeline(transaction=False).get("a").get("b").execute() == [b"a", b"b"]
    assert len(sent(server, "GET")) == 4


async def test_writes_in_a_pipeline_end_what_is_cached(server, client):
    """What comes before them may be a hit, what comes behind them is none."""
    await client.get("k")
    server.on("GET", resp.bulk("new"))
    assert await client.pipeline(transaction=False).get("k").set("k", "new").get("k").execute() == [b"k", True, b"new"]
    assert await client.get("k") == b"new"


@pytest.mark.parametrize("kind", ["transaction", "session", "session's transaction"])
async def test_writes_elsewhere_end_what_is_cached(server, transactional, client, kind):
    server.on("SET", resp.simple("OK"))
    await client.get("k")
    if kind == "session":
        async with client.dedicated() as session:
            await session.set("k", "v")
    else:
        server.on("SET", resp.simple("QUEUED"))
        server.on("EXEC", resp.array(resp.simple("OK")))
        if kind == "transaction":
            await client.pipeline().set("k", "v").execute()
        else:
            async with client.dedicated() as session:
                await session.pipeline().set("k", "v").execute()
    await client.get("k")
    assert len(sent(server, "GET")) == 2


async def test_a_block_that_is_written_by_hand(server, transactional, client):
    """Nobody knows any more at EXEC what was in it."""
    server.on("SET", resp.simple("QUEUED"))
    async with client.dedicated() as session:
        await session.execute_command("MULTI")
        await session.execute_command("SET", "k", "v")
        await client.get("k")
        await session.execute_command("EXEC")
    await client.get("k")
    assert len(sent(server, "GET")) == 2


async def test_reads_in_sessions_and_transactions_are_not_cached(server, transactional, client):
    server.on("EXEC", resp.array(resp.bulk("v")))
    for _ in range(2):
        async with client.dedicated() as session:
            await session.get("k")
    server.on("GET", resp.simple("QUEUED"))
    for _ in range(2):
        assert await client.pipeline().get("k").execute() == [b"v"]
    assert stats(client).requests == 0


@pytest.mark.parametrize("end", ["error", "cancelled", "not sent"])
async def test_a_pipeline_that_fails_keeps_nothing(server, client, end):
    """Whoever waits for its reads asks by itself."""
    server.on("GET", None)
    pipe = client.pipeline(transaction=False).get("a").get("b")
    if end == "not sent":
        pipe.execute_command("GET", object())
        assert "DataError" in repr(await outcome(pipe.execute()))
    else:
        run = asyncio.create_task(outcome(pipe.execute()))
        await server.wait_for_command("GET", count=2)
        joined = asyncio.create_task(client.get("a"))
        await turns()
        assert stats(client).joined_loads == 1
        if end == "cancelled":
            run.cancel()
            await server.wait_for_command("GET", count=3)
            server.connections[0].send(resp.bulk("1"), resp.bulk("2"), resp.bulk("v"))
            assert await joined == b"v"
        else:
            server.connections[0].send(resp.error("WRONGTYPE no"), resp.bulk("2"))
            assert isinstance(await run, ResponseError)
            await server.wait_for_command("GET", count=3)
            server.connections[0].send(resp.bulk("v"))
            assert await joined == b"v"
    server.on("GET", resp.bulk("v"))
    assert await client.get("a") == b"v"
    assert not [each for each in client.client_side_cache.entries.values() if each.ends_at < 0]


async def test_a_pipeline_joins_nobody(server, client):
    """Its other commands would have to wait."""
    server.on("GET", None)
    read = asyncio.create_task(client.get("k"))
    await server.wait_for_command("GET")
    run = asyncio.create_task(client.pipeline(transaction=False).get("k").execute())
    await server.wait_for_command("GET", count=2)
    server.connections[0].send(resp.bulk("1"), resp.bulk("2"))
    assert (await read, await run) == (b"1", [b"2"])
    assert await client.get("k") == b"1"


async def test_the_replies_of_a_pipeline_that_was_lost(server, client):
    """Those to its own commands, hits among them."""
    await client.get("hit")
    server.on("INCRBY", resp.integer(1))
    server.on("DECR", None)
    pipe = client.pipeline(transaction=False).incr("n").get("hit").get("a").execute_command("DECR", "n")
    run = asyncio.create_task(outcome(pipe.execute()))
    await server.wait_for_command("DECR")
    server.connections[0].close()
    error = await run
    assert error.replies == (1, b"hit", b"a")
    assert error.maybe_executed
    assert stats(client).entries == 0


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
