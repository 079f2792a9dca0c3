"""See what aioredis_kit does: ``uv run examples/quickstart.py [URL of a server]``.

Without a URL it starts servers of its own and kills one of them under load. A server at a URL is not killed: that
part is left out, and the keys that the other part makes are removed.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis

from aioredis_kit import KitError, RedisClient, create_client
from aioredis_kit.testing import RedisServer

if TYPE_CHECKING:
    from collections.abc import Awaitable

PREFIX = f"quickstart-{secrets.token_hex(4)}"
POOL_SIZE = 50


async def main() -> bool:
    if len(sys.argv) > 1:
        await many_at_once(sys.argv[1])
        print("\nA server at a URL is not killed: run this without one to see a client survive that.")
        return True
    with RedisServer() as server:
        await many_at_once(server.url)
    with RedisServer(persistence="aof") as server:  # appendfsync always: what it has acknowledged is on its disk
        return await killed_under_load(server)


# Part 1: many commands at once.


async def many_at_once(url: str) -> None:
    print("SET, GET, INCR, HSET and ECHO, all issued at once:")
    async with create_client(url, decode_responses=True) as client:
        writes_before = client.statistics().socket_writes
        await measure("aioredis_kit, 1 connection", client, 20_000)
        print(f"  … in {client.statistics().socket_writes - writes_before} socket writes")

        url = re.sub("^(valkey|garnet)", "redis", url)
        pool = BlockingConnectionPool.from_url(url, max_connections=POOL_SIZE, timeout=60, decode_responses=True)
        async with Redis.from_pool(pool) as stock:
            await asyncio.gather(*(stock.ping() for _ in range(POOL_SIZE)))  # connects beforehand
            # Not 20,000: it is faster with fewer.
            await measure(f"redis-py, {POOL_SIZE} connections", stock, 5_000)

        await client.unlink(f"{PREFIX}:visits", f"{PREFIX}:hash", *(f"{PREFIX}:user:{n}" for n in range(100)))


async def measure(name: str, client: Redis, count: int) -> None:
    began = time.perf_counter()
    replies = await asyncio.gather(*(mixed_command(client, n) for n in range(count)))
    seconds = time.perf_counter() - began
    if replies[4::5] != [f"token {n}" for n in range(4, count, 5)]:
        raise RuntimeError(f"{name}: a caller got somebody else's reply")
    print(f"  {name:26}  {count:6,} commands, {count / seconds:7,.0f} a second")


def mixed_command(client: Redis, number: int) -> Awaitable[Any]:
    user = f"{PREFIX}:user:{number % 100}"
    match number % 5:
        case 0:
            return client.set(user, f"name {number}")
        case 1:
            return client.get(user)
        case 2:
            return client.incr(f"{PREFIX}:visits")
        case 3:
            return client.hset(f"{PREFIX}:hash", f"field {number % 100}", number)
        case _:
            return client.echo(f"token {number}")


# Part 2: the server is killed under load.


async def killed_under_load(server: RedisServer) -> bool:
    print(
        "\n100 callers increment a counter; after 1 s the server is killed (SIGKILL), 0.6 s later it is started again:"
    )
    tally: Counter[str] = Counter()
    is_over = asyncio.Event()
    async with create_client(server.url) as client:
        print_events(client)
        hasty = client.with_options(command_timeout=0.2)  # the same connection, for callers that don't like to wait
        async with asyncio.TaskGroup() as callers:
            for caller in [client, hasty] * 50:
                callers.create_task(increment(caller, tally, is_over))
            await asyncio.sleep(1)
            server.kill()
            succeeded_before = tally["succeeded"]
            await asyncio.sleep(0.6)
            await asyncio.gather(asyncio.to_thread(server.start), client.wait_for("ready", timeout=10))
            await asyncio.sleep(1)
            is_over.set()
        return is_proven(tally, succeeded_before, counter=int(await client.get("counter") or 0))


async def increment(client: RedisClient, tally: Counter[str], is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        try:
            await client.incr("counter")
            tally["succeeded"] += 1
        except KitError as error:
            tally["unknown" if error.maybe_executed else "not executed"] += 1


def print_events(client: RedisClient) -> None:
    began = time.monotonic()

    def show(text: str) -> None:
        print(f"  {time.monotonic() - began:4.2f} s  {text}")

    client.on("connect", lambda: show("connect"))
    client.on("ready", lambda: show("ready"))
    client.on("error", lambda error: show(f"error: {error}"))
    client.on("reconnecting", lambda retries, delay: show(f"reconnecting: retries {retries}, in {delay:.2f} s"))


def is_proven(tally: Counter[str], before: int, counter: int) -> bool:
    succeeded, unknown = tally["succeeded"], tally["unknown"]
    print(f"  {succeeded:9,} increments succeeded: {before:,} before the kill, {succeeded - before:,} after it")
    print(f"  {tally['not executed']:9,} failed and were not executed: the hasty callers', while the server was down")
    print(f"  {unknown:9,} ended with an unknown outcome: they were in flight when the server died")
    print(f"  {counter:9,} is the counter; it must be from {succeeded:,} to {succeeded + unknown:,}")
    proven = before < succeeded <= counter <= succeeded + unknown
    print("Proven: every acknowledged increment is there." if proven else "FAILED: the numbers do not add up.")
    return proven


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
