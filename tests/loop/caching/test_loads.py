"""Reads that go to the server: what ends them before they are kept, and who else waits for them."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from aioredis_kit import CacheOptions
from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    NotConnectedError,
)
from aioredis_kit.testing import resp
from tests.support.caching import LASTING, invalidation, sent, stats
from tests.support.observing import outcome, turns, until

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
