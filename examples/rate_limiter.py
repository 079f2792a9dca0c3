"""A rate limiter that all processes of a service share: ``uv run examples/rate_limiter.py [URL of a server]``.

Each user has a bucket of tokens, which is filled again at a steady rate. A script looks and takes in one step, by the
server's clock, so that it does not matter who asks, or where. A script counts as a write: where its outcome is unknown
it is not sent again, and nobody pays twice.

Without a URL it starts a server of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import sys

from aioredis_kit import KitError, RedisClient, create_client
from aioredis_kit.testing import RedisServer

# Takes a token if there is one; returns how many milliseconds to wait for one: 0 if it was taken.
TAKE = """
local rate, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(size, (bucket[1] or size) + rate * (now - (bucket[2] or now)))
if tokens < 1 then
    return math.ceil((1 - tokens) / rate * 1000)
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - 1), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(size / rate * 1000))
return 0
"""


class RateLimiter:
    """Lets so many requests through per second, and as many at once as a bucket holds."""

    def __init__(self, client: RedisClient, *, rate: float, size: int) -> None:
        self._take = client.with_options(command_timeout=0.2).register_script(TAKE)
        self._limits = [rate, size]

    async def wait_time(self, user: str) -> float:
        """Return 0 if the request may go on, else after how many seconds to ask again."""
        try:
            return int(await self._take(keys=[f"limit:{user}"], args=self._limits)) / 1000
        except KitError:
            return 0  # a limiter that is away limits nobody


async def show(url: str) -> None:
    user = f"somebody-{secrets.token_hex(4)}"
    async with create_client(url) as client, create_client(url) as elsewhere:
        limiters = [RateLimiter(each, rate=10, size=5) for each in (client, elsewhere)]
        try:
            waits = await asyncio.gather(*(limiters[number % 2].wait_time(user) for number in range(20)))
            print(f"20 requests at once, in two processes: {waits.count(0)} let through")
            await asyncio.sleep(max(waits))
            print("waited as told:", "let through" if await limiters[0].wait_time(user) == 0 else "refused")
        finally:
            await client.delete(f"limit:{user}")


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(show(sys.argv[1]))
        return
    with RedisServer() as server:
        asyncio.run(show(server.url))


if __name__ == "__main__":
    main()
