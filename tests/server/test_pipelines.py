"""Pipelines, transactions, scripts and iterators on a real server."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import NoScriptError, ResponseError, WatchError

from aioredis_kit import create_client


@pytest.mark.pins("case-64")
async def test_a_transaction(redis_client):
    assert await redis_client.pipeline().ping().set("k", "v").get("k").execute() == [True, True, b"v"]


@pytest.mark.pins("case-65")
async def test_an_unknown_command_ends_the_whole_transaction(redis_client):
    pipe = redis_client.pipeline().set("k", "v")
    pipe.execute_command("NO.SUCH.COMMAND")
    with pytest.raises(ResponseError, match="unknown command"):
        await pipe.execute()
    assert await redis_client.exists("k") == 0


@pytest.mark.pins("case-67")
@pytest.mark.parametrize("who", ["another client", "the same client"])
async def test_a_watched_key_that_changes(redis_client, redis_url, who):
    async with redis_client.pipeline() as pipe, create_client(redis_url) as other:
        await pipe.watch("k")
        await (other if who == "another client" else redis_client).set("k", 1)
        pipe.multi()
        pipe.set("k", 2)
        with pytest.raises(WatchError):
            await pipe.execute()
    assert await redis_client.get("k") == b"1"


@pytest.mark.pins("case-69")
async def test_a_refusal_at_run_time(redis_client):
    """The others are executed; the refusal is raised, or one of the responses."""
    await redis_client.set("text", "x")
    pipe = redis_client.pipeline().set("a", 1).hget("text", "field").set("b", 2)
    with pytest.raises(ResponseError, match="Command # 2 .HGET text field. of pipeline caused error.*WRONGTYPE"):
        await pipe.execute()
    assert await redis_client.mget("a", "b") == [b"1", b"2"]
    responses = await redis_client.pipeline().set("a", 1).hget("text", "f").set("b", 2).execute(raise_on_error=False)
    assert [type(each) for each in responses] == [bool, ResponseError, bool]


@pytest.mark.pins("case-71")
@pytest.mark.parametrize("transaction", [True, False])
async def test_a_script_that_the_server_does_not_know(redis_client, transaction):
    script = redis_client.register_script("return {KEYS[1], ARGV[1]}")
    await redis_client.script_flush()
    with pytest.raises(NoScriptError):
        await redis_client.evalsha(script.sha, 0)
    assert await script(keys=["k"], args=["a"]) == [b"k", b"a"]
    await redis_client.script_flush()
    pipe = redis_client.pipeline(transaction=transaction)
    await script(keys=["k"], args=["a"], client=pipe)
    pipe.get("nothing")
    assert await pipe.execute() == [[b"k", b"a"], None]


@pytest.mark.pins("case-72")
async def test_iterators_find_everything(redis_client):
    names = {b"%d" % number for number in range(300)}
    pipe = redis_client.pipeline(transaction=False)
    for name in names:
        pipe.set(b"key:" + name, 1).hset("hash", name, 1).sadd("set", name).zadd("zset", {name: 1})
    await pipe.execute()
    assert {key async for key in redis_client.scan_iter("key:*", count=20)} == {b"key:" + name for name in names}
    assert {field async for field, _ in redis_client.hscan_iter("hash")} == names
    assert {member async for member in redis_client.sscan_iter("set")} == names
    assert {member async for member, _ in redis_client.zscan_iter("zset")} == names


@pytest.mark.parametrize("connections", [1, 3])
async def test_many_pipelines_at_once(redis_url, connections):
    """Each gets its own replies, whatever else is on the wire."""
    async with create_client(redis_url, connections=connections) as client:

        async def work(number):
            pipe = client.pipeline(transaction=number % 2 == 0)
            for step in range(20):
                pipe.rpush(f"list:{number}", step)
            assert await pipe.lrange(f"list:{number}", 0, -1).execute() == [
                *range(1, 21),
                [b"%d" % step for step in range(20)],
            ]
            assert await client.echo(f"{number}") == b"%d" % number

        await asyncio.gather(*(work(number) for number in range(100)))


async def test_a_pipeline_that_blocks_has_its_own_connection(redis_client):
    """Its block time counts beyond the deadline, and others go on meanwhile."""
    view = redis_client.with_options(command_timeout=0.3)
    pipe = view.pipeline(transaction=False).blpop("empty", timeout=0.5)
    task = asyncio.create_task(pipe.set("k", 1).execute())
    assert await view.ping() is True
    assert await task == [None, True]


async def test_select_in_a_pipeline_is_that_pipelines_own(redis_server):
    """Unlike node-redis, which remembers it (case 36), and redis-py, whose pool keeps it by accident."""
    if not redis_server.started_here:
        pytest.skip("this writes to another database")
    async with create_client(redis_server.url) as client:
        pipe = client.pipeline(transaction=False)
        pipe.select(9)
        pipe.set("only-in-9", 1)
        assert await pipe.execute() == [True, True]
        assert await client.exists("only-in-9") == 0
        pipe = client.pipeline(transaction=False)
        assert await pipe.exists("only-in-9").execute() == [0]
        async with client.duplicate(db=9) as other:
            assert await other.delete("only-in-9") == 1


async def test_large_values_in_pieces(redis_client):
    value = bytes(range(256)) * 4096
    pipe = redis_client.pipeline(transaction=False).set("small", 1).set("large", value).get("small").get("large")
    assert await pipe.execute() == [True, True, b"1", value]


async def test_decoded_or_not_command_by_command(redis_url):
    """DUMP is never decoded; the others are."""
    async with create_client(redis_url, decode_responses=True) as client:
        responses = await client.pipeline(transaction=False).set("k", "ä").get("k").dump("k").get("k").execute()
        assert responses[1] == responses[3] == "ä"
        assert isinstance(responses[2], bytes)
