"""One at a time, wherever they run: ``uv run examples/distributed_lock.py [URL of a server]``.

A lock that its holder does not give back, because it died, ends by itself after a time-out. So a holder that was only
slow may find that somebody else has it: what is written under the lock then has to carry a number that grows with each
holder, and whoever stores it refuses a lower one.

Without a URL it starts a server of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time

from redis.exceptions import LockNotOwnedError

from aioredis_kit import RedisClient, create_client
from aioredis_kit.testing import RedisServer

NAME = f"lock-{secrets.token_hex(4)}"


async def work(client: RedisClient, holders: list[int]) -> None:
    """What no two may do at a time: read, take one's time, write."""
    async with client.lock(NAME, timeout=5, sleep=0.01):
        holders.append(await client.incr(f"{NAME}:holder"))  # the number that goes with what is written
        balance = int(await client.get(f"{NAME}:balance") or b"0")
        await asyncio.sleep(0.005)
        await client.set(f"{NAME}:balance", balance + 1)


async def show(url: str) -> None:
    # A client for each, as for processes of their own.
    async with create_client(url) as client, create_client(url) as second, create_client(url) as third:
        try:
            holders: list[int] = []
            await asyncio.gather(*(work(each, holders) for each in (client, second, third) for _ in range(5)))
            balance = await client.get(f"{NAME}:balance")
            print(f"holders {holders[0]} to {holders[-1]}, one after the other: the balance is {int(balance or b'0')}")

            slow = client.lock(NAME, timeout=0.3)
            await slow.acquire()
            began = time.monotonic()
            async with second.lock(NAME, timeout=5, blocking_timeout=2, sleep=0.01):
                print(f"a holder that does not come back: the next one waited {time.monotonic() - began:.1f} s")
                try:
                    await slow.release()
                except LockNotOwnedError:
                    print("when it does come back it is told that the lock is not its own any more")
        finally:
            await client.delete(NAME, f"{NAME}:holder", f"{NAME}:balance")


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(show(sys.argv[1]))
        return
    with RedisServer() as server:
        asyncio.run(show(server.url))


if __name__ == "__main__":
    main()
