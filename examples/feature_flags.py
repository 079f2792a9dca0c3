"""Feature flags, read for every request of a web service: ``uv run examples/feature_flags.py [URL of a server]``.

The flags are a hash in Redis. The handler reads it for each request, and nearly all of these reads cost no more than a
look-up in a dictionary: the client keeps the reply until the server says that the hash has changed.

Without a URL it starts a server of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from typing import TYPE_CHECKING

from aioredis_kit import CacheOptions, RedisClient, create_client
from aioredis_kit.testing import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FLAGS = f"flags-{secrets.token_hex(4)}"
REQUESTS = 5000
"""How many requests are made before a flag is switched, over ten connections."""


async def main() -> None:
    if len(sys.argv) > 1:
        await show(sys.argv[1])
        return
    with RedisServer() as server:
        await show(server.url)


async def show(url: str) -> None:
    # decode_responses: the handler wants text. max_entries: there are few keys that are read so often.
    cache = CacheOptions(max_entries=1000)
    async with (
        create_client(url, decode_responses=True, client_side_cache=cache) as client,
        create_client(url) as somebody_else,
        serving(client) as port,
    ):
        await somebody_else.hset(FLAGS, mapping={"new-checkout": "off", "dark-mode": "on"})
        try:
            began = time.perf_counter()
            await asyncio.gather(*(request(port, count=REQUESTS // 10) for _ in range(10)))
            took = time.perf_counter() - began
            numbers = client.statistics().cache
            assert numbers is not None
            print(
                f"{REQUESTS} requests in {took:.1f} s; of {numbers.requests} reads {numbers.loads} went to the server"
            )

            await somebody_else.hset(FLAGS, "new-checkout", "on")
            began = time.perf_counter()
            while "new checkout" not in await request(port):
                pass
            print(f"switched on by somebody else: served {(time.perf_counter() - began) * 1000:.1f} ms later")
        finally:
            await somebody_else.delete(FLAGS)


async def page(client: RedisClient) -> str:
    """What a handler does: read the flags, and act on them."""
    flags = await client.hgetall(FLAGS)
    return "new checkout" if flags.get("new-checkout") == "on" else "old checkout"


# Around it, in as few lines as will do: a web server, and who asks it.


@contextlib.asynccontextmanager
async def serving(client: RedisClient) -> AsyncIterator[int]:
    """Serve on a free port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                body = (await page(client)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def request(port: int, *, count: int = 1) -> str:
    """Make some requests on one connection; return the last answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b""
    for _ in range(count):
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.split()[-1]))
    writer.close()
    await writer.wait_closed()
    return body.decode()


if __name__ == "__main__":
    asyncio.run(main())
