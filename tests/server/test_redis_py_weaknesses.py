"""What goes wrong with redis-py 8.1's own client, each reproduced there, goes right here."""

from __future__ import annotations

import asyncio
import time

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import CommandTimeoutError, KitError
from aioredis_kit.testing import RedisServer


@pytest.mark.pins("P1")
async def test_a_reply_left_unread_reaches_nobody(redis_url, redis_faults):
    """There, a connection given back with an unread reply hands it to the next caller."""
    async with create_client(redis_faults.url, command_timeout=0.2, ping_timeout=5) as client:
        redis_faults.stall("to_client")
        with pytest.raises(CommandTimeoutError):
            await client.echo("secret of another request")
        redis_faults.heal()
        assert await client.with_options(command_timeout=5).echo("mine") == b"mine"


@pytest.mark.pins("P3", "4.8")
async def test_an_increment_whose_reply_is_late_is_applied_once(redis_client, redis_faults):
    """There, one ``await incr()`` across a stall is applied twice. So did coredis, three times."""
    async with create_client(redis_faults.url, command_timeout=0.1) as client:
        redis_faults.stall("to_client")
        with pytest.raises(CommandTimeoutError) as caught:
            await client.incr("n")
        assert caught.value.maybe_executed
        redis_faults.heal()
        await client.with_options(command_timeout=5).ping()
    assert await redis_client.get("n") == b"1"


@pytest.mark.pins("P3", "4.11")
async def test_an_increment_whose_connection_is_lost_is_applied_once(redis_client, redis_faults):
    async with create_client(redis_faults.url, reconnect_strategy=0.0) as client:
        redis_faults.stall("to_client")
        task = asyncio.create_task(client.incr("n"))
        while await redis_client.get("n") is None:
            await asyncio.sleep(0.001)
        redis_faults.cut()
        redis_faults.heal()
        with pytest.raises(KitError) as caught:
            await task
        assert caught.value.maybe_executed
        await client.ping()
    assert await redis_client.get("n") == b"1"


async def test_a_blocking_command_may_block_longer_than_the_time_out(redis_url):
    """There, it is sent again and again until its retries are used up, and raises after a minute."""
    async with create_client(redis_url, socket_timeout=0.2) as client:
        began = time.monotonic()
        assert await client.blpop("nothing", timeout=0.6) is None
        assert 0.5 < time.monotonic() - began < 3


async def test_as_many_commands_at_once_as_one_likes(redis_url):
    """There, the default pool raises from the 101st on."""
    async with create_client(redis_url) as client:
        assert await asyncio.gather(*(client.echo(f"{number}") for number in range(300))) == [
            f"{number}".encode() for number in range(300)
        ]


async def test_blocking_commands_beyond_the_limit_wait(redis_url):
    async with create_client(redis_url, max_connections=5) as client:
        await client.rpush("list", *range(60))
        popped = await asyncio.gather(*(client.blpop("list", timeout=5) for _ in range(60)))
        assert sorted(int(value) for _, value in popped) == list(range(60))


@pytest.mark.pins("P1")
async def test_attributes_shift_no_reply(redis_server):
    """There, every reply after an attribute belongs to the command before."""
    if not redis_server.started_here:
        pytest.skip("a server is started for this: it has to be a binary")
    with RedisServer(binary=redis_server.binary, config={"enable-debug-command": "local"}) as server:
        async with create_client(server.url) as client:
            before, _, after = await asyncio.gather(
                client.echo("before"),
                client.execute_command("DEBUG", "PROTOCOL", "ATTRIB"),
                client.echo("after"),
            )
    assert (before, after) == (b"before", b"after")


async def test_a_flag_in_the_url_is_a_flag(redis_url):
    """There, ``decode_responses=false`` is a text, and true."""
    joint = "&" if "?" in redis_url else "?"
    async with create_client(f"{redis_url}{joint}decode_responses=false") as client:
        assert await client.echo("x") == b"x"
