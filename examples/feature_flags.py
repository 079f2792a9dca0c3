"""Feature flags, read for every request of a web service: ``uv run examples/feature_flags.py [URL of a server]``.

The flags are a hash in Redis. The handler reads it for each request, and nearly all of these reads cost no more than a
look-up in a dictionary: the client keeps the reply until the server says that the hash has changed.

Without a URL it starts a server of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time

from aiohttp import ClientSession, test_utils, web

from aioredis_kit import CacheOptions, RedisClient, create_client
from aioredis_kit.testing import RedisServer

FLAGS = f"flags-{secrets.token_hex(4)}"
CLIENT = web.AppKey("client", RedisClient)


async def page(request: web.Request) -> web.Response:
    """Read the flags, and act on them."""
    flags = await request.app[CLIENT].hgetall(FLAGS)
    return web.Response(text="new checkout" if flags.get("new-checkout") == "on" else "old checkout")


async def ask(port: int, *, requests: int = 1) -> str:
    """Be a visitor; return the last page."""
    text = ""
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        for _ in range(requests):
            async with session.get("/") as response:
                text = await response.text()
    return text


async def show(url: str) -> None:
    # decode_responses: the handler wants text. max_entries: there are few keys that are read so often.
    cache = CacheOptions(max_entries=1000)
    async with (
        create_client(url, decode_responses=True, client_side_cache=cache) as client,
        create_client(url) as somebody_else,
    ):
        app = web.Application()
        app[CLIENT] = client
        app.router.add_get("/", page)
        await somebody_else.hset(FLAGS, mapping={"new-checkout": "off", "dark-mode": "on"})
        try:
            async with test_utils.TestServer(app) as server:
                port = server.port or 0
                began = time.perf_counter()
                await asyncio.gather(*(ask(port, requests=100) for _ in range(10)))
                print(f"1000 requests in {time.perf_counter() - began:.1f} s:", end=" ")
                if (numbers := client.statistics().cache) is not None:
                    print(f"of {numbers.requests} reads {numbers.loads} went to the server")
                await somebody_else.hset(FLAGS, "new-checkout", "on")
                began = time.perf_counter()
                while await ask(port) == "old checkout":
                    pass
                print(f"switched on by somebody else: served {(time.perf_counter() - began) * 1000:.1f} ms later")
        finally:
            await somebody_else.delete(FLAGS)


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(show(sys.argv[1]))
        return
    with RedisServer() as server:
        asyncio.run(show(server.url))


if __name__ == "__main__":
    main()
