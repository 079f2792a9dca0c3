"""Sessions and blocking commands on a real server: what one user leaves behind the next one does not find."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from aioredis_kit import create_client
from aioredis_kit.exceptions import ConnectionLostError
from tests.support.blocking import lease_count
from tests.support.observing import outcome, until


@pytest.fixture
async def client(redis_url):
    """A client with one dedicated connection, so that all users share it."""
    async with create_client(redis_url, max_dedicated_connections=1, client_name="kit", command_timeout=10) as client:
        yield client


async def look(session):
    """What a session's connection is, as the server sees it; a flag says whether it is in a transaction."""
    info = await session.client_info()
    return {name: info.get(name) for name in ("db", "name", "user", "flags", "watch", "sub", "resp", "lib-name")}


LEFT_BEHIND = {
    "nothing": [],
    "SELECT": [("SELECT", 3)],
    "WATCH": [("WATCH", "k")],
    "MULTI": [("MULTI",), ("SET", "k", 1)],
    "WATCH and MULTI": [("WATCH", "k"), ("MULTI",)],
    "SETNAME": [("CLIENT", "SETNAME", "other")],
    "NO-EVICT": [("CLIENT", "NO-EVICT", "ON")],
    "TRACKING": [("CLIENT", "TRACKING", "ON")],
    "HELLO": [("HELLO", 2)],
    "RESET": [("RESET",)],
    "EXEC without MULTI": [("EXEC",)],
    "several": [("SELECT", 3), ("CLIENT", "NO-EVICT", "ON"), ("HELLO", 2), ("MULTI",)],
}


ENDS = {"ends": type(None), "raises": LookupError, "is cancelled": asyncio.CancelledError}


@pytest.mark.pins("case-92", "P1")
@pytest.mark.parametrize("way", ENDS)
@pytest.mark.parametrize("commands", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
async def test_the_next_user_finds_the_connection_as_new(client, commands, way):
    async with client.dedicated() as session:
        expected = await look(session)
        number = await session.client_id()

    async def use():
        async with client.dedicated() as session:
            for command in commands:
                result = await outcome(session.execute_command(*command))
                assert isinstance(result, Exception) is (commands == [("EXEC",)])
            if way == "raises":
                raise LookupError
            if way == "is cancelled":
                await asyncio.Event().wait()

    task = asyncio.create_task(use())
    if way == "is cancelled":
        await asyncio.wait((task,), timeout=0.05)
        task.cancel()
    assert isinstance(await outcome(task), ENDS[way])
    async with client.dedicated() as session:
        assert await look(session) == expected
        is_same = await session.client_id() == number
        assert is_same is not any("NO-EVICT" in command for command in commands)  # which not every server takes back
        assert await session.set("k", 1) is True
    assert client.statistics().unknown_outcomes == 0


@pytest.mark.pins("case-92")
async def test_another_user_left_behind(redis_server, client):
    """AUTH in a session concerns that session; the next is who the client is."""
    if not redis_server.started_here:
        pytest.skip("users are made only on a server that the tests have started")
    await client.acl_setuser("session-user", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"])
    try:
        async with client.dedicated() as session:
            await session.auth("s3cret", "session-user")
            assert await session.acl_whoami() in {"session-user", b"session-user"}
        async with client.dedicated() as session:
            assert await session.acl_whoami() in {"default", b"default"}
        assert await client.acl_whoami() in {"default", b"default"}
    finally:
        await client.acl_deluser("session-user")


@pytest.mark.pins("P1", "4.8")
async def test_every_blocking_command_is_unblocked(client):
    """By CLIENT UNBLOCK, whichever it is: the connection is used again each time."""
    await client.xadd("stream", {"a": 1})
    await client.xgroup_create("stream", "group", "$")
    calls = [
        lambda c: c.blpop(["none1", "none2"], 0),
        lambda c: c.brpop("none", 0),
        lambda c: c.brpoplpush("none", "other", 0),
        lambda c: c.blmove("none", "other", 0),
        lambda c: c.blmpop(0, 1, "none", direction="LEFT"),
        lambda c: c.bzpopmin("none", 0),
        lambda c: c.bzpopmax("none", 0),
        lambda c: c.bzmpop(0, 1, ["none"], min=True),
        lambda c: c.xread({"stream": "$"}, block=0),
        lambda c: c.xreadgroup("group", "consumer", {"stream": ">"}, block=0),
    ]
    async with client.dedicated() as session:
        number = await session.client_id()
    for call in calls:
        task = asyncio.create_task(call(client))
        await until_blocked(client)
        task.cancel()
        assert isinstance(await outcome(task), asyncio.CancelledError)
        await until(lambda: lease_count(client) == (1, 0))
    async with client.dedicated() as session:
        assert await session.client_id() == number
    assert (client.statistics().unknown_outcomes, client.statistics().orphaned_replies) == (0, 0)


async def until_blocked(client):
    """Wait until a command waits at the server."""
    async with asyncio.timeout(5):
        while not [each for each in await client.client_list() if "b" in each["flags"]]:
            await asyncio.sleep(0.001)


async def test_blocking_commands_give_what_redis_py_gives(client, redis_url):
    """The same shapes, whether there is something at once, later or never."""
    calls = (
        lambda c: c.blpop("l", 0.01),
        lambda c: c.brpop(["none", "l"], 0.01),
        lambda c: c.blpop("none", 0.01),
        lambda c: c.blmove("l", "l", 0.01),
        lambda c: c.blmove("none", "other", 0.01),
        lambda c: c.bzpopmin("z", 0.01),
        lambda c: c.bzpopmin("none", 0.01),
        lambda c: c.blmpop(0.01, 1, "l", direction="LEFT"),
        lambda c: c.blmpop(0.01, 1, "none", direction="LEFT"),
        lambda c: c.xread({"none": 0}, block=5),
        lambda c: c.blpop("z", 0.01),
    )
    async with redis.asyncio.Redis.from_url(redis_url) as stock:
        for number, call in enumerate(calls):
            found = []
            for each in (stock, client):
                await client.delete("l", "z", "none", "other")
                await client.rpush("l", "a", "b", "c")
                await client.zadd("z", {"a": 1, "b": 2})
                result = await outcome(call(each))
                found.append((type(result), str(result)))
            assert found[0] == found[1], number


async def test_an_element_comes_later(client):
    task = asyncio.create_task(client.blpop("later", 5))
    await until_blocked(client)
    await client.rpush("later", "v")
    assert await task == (b"later", b"v")


@pytest.mark.pins("4.11")
async def test_a_read_that_waits_outlives_its_connection(client):
    """XREAD BLOCK is repeated on another connection and sees what comes; BLPOP is not."""
    await client.delete("outlives")
    first = await client.xadd("outlives", {"a": 1})
    reading = asyncio.create_task(client.xread({"outlives": first}, block=5000))
    await until_blocked(client)
    (blocked,) = [each for each in await client.client_list() if "b" in each["flags"]]
    await client.client_kill_filter(_id=blocked["id"])
    await client.xadd("outlives", {"a": 2})
    ((_, entries),) = (await reading).items() if isinstance(await reading, dict) else await reading
    assert b"2" in str(entries).encode()
    popping = asyncio.create_task(client.blpop("none", 5))
    await until_blocked(client)
    (blocked,) = [each for each in await client.client_list() if "b" in each["flags"]]
    await client.client_kill_filter(_id=blocked["id"])
    assert isinstance(await outcome(popping), ConnectionLostError)


@pytest.mark.pins("case-36")
async def test_the_database_after_a_kill(redis_url):
    """``select(1)`` is remembered; a SELECT inside MULTI is that connection's own business, and undone."""
    async with create_client(redis_url, command_timeout=10) as client:
        await client.select(1)
        await client.set("in-1", "yes")
        await client.client_kill_filter(_id=await client.client_id(), skipme=False)
        assert await client.get("in-1") == b"yes"
        assert (await client.client_info())["db"] in {1, "1"}
        await client.delete("in-1")


@pytest.mark.pins("P1")
@pytest.mark.parametrize("kind", ["dedicated()", "client()", "single connection"])
async def test_concurrent_transactions_lose_no_increment(redis_url, kind):
    """Twenty read, add one and write: on one connection, where EXEC of one ends the watches of all others, as well."""
    async with create_client(redis_url, single_connection_client=kind == "single connection") as client:
        session = {"dedicated()": client.dedicated, "client()": client.client}.get(kind, lambda: client)()

        async def increment(pipe):
            number = int(await pipe.get("n") or 0)
            pipe.multi()
            pipe.set("n", number + 1)

        await client.delete("n")
        await asyncio.gather(*(session.transaction(increment, "n") for _ in range(20)))
        assert await client.get("n") == b"20"
        if session is not client:
            await session.close()


@pytest.mark.pins("P4")
async def test_what_was_deleted_before_is_not_popped(client):
    """BLPOP goes over a connection of its own, but does not overtake what was issued in the same turn."""
    await client.blpop("l", 0.01)
    for _ in range(50):
        await client.rpush("l", "old")
        assert await asyncio.gather(client.get("k"), client.delete("l"), client.blpop("l", 0.01)) == [None, 1, None]
