"""The clients that are compared, each behind an adapter, and the event loops.

An adapter is an async context manager: it takes the server's URL and the number of callers that will
use the client at once, and yields an object with redis-py's command methods. Whatever a client needs
to be at its best for that many callers is its adapter's business. What a client costs to import is
paid in the process that measures it alone, hence the imports inside.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

Adapter: TypeAlias = Callable[[str, int], AbstractAsyncContextManager[Any]]

FLOOR = "floor"
OURS = "aioredis_kit"
REDIS_PY = "redis-py"
COREDIS = "coredis"
CACHED = "cached"
LASTING = "cached, key_expiry=False"
UNCACHED_VIEW = "cached, view without"
COREDIS_CACHED = "coredis, cached"

# What redis-py is best with, measured in thousand GETs a second on asyncio / uvloop:
# 100 callers: a connection each 21 / 27, a blocking pool of 50 15 / 19.
# 1000 callers: a connection each 14 / 15, a blocking pool of 50 14 / 18, of 16 12 / 18, of 4 11 / 18.
_MOST_CONNECTIONS = 100
_SHARED_CONNECTIONS = 50


@asynccontextmanager
async def _floor(url: str, callers: int) -> AsyncIterator[Any]:
    from tests.benchmarks.floor import FloorClient

    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    tls = None
    if address.scheme == "rediss":
        tls = ssl.create_default_context(cafile=parse_qs(address.query)["ssl_ca_certs"][0])
    client = await FloorClient.connect(address.hostname, address.port, tls)
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def _ours(url: str, callers: int) -> AsyncIterator[Any]:
    from aioredis_kit import create_client

    client = await create_client(url).connect()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _redis_py(url: str, callers: int) -> AsyncIterator[Any]:
    from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis

    pool: ConnectionPool
    if callers <= _MOST_CONNECTIONS:
        pool = ConnectionPool.from_url(url, max_connections=callers + 1)  # one is for messages
    else:
        pool = BlockingConnectionPool.from_url(url, max_connections=_SHARED_CONNECTIONS, timeout=60)
    async with Redis.from_pool(pool) as client:
        yield client


@asynccontextmanager
async def _coredis(url: str, callers: int) -> AsyncIterator[Any]:
    from coredis import Redis

    async with Redis.from_url(url, max_connections=min(callers, _MOST_CONNECTIONS)) as client:
        yield client


@asynccontextmanager
async def _cached(url: str, callers: int, *, key_expiry: bool = True, uses_cache: bool = True) -> AsyncIterator[Any]:
    from aioredis_kit import CacheOptions, create_client

    client = await create_client(url, client_side_cache=CacheOptions(key_expiry=key_expiry)).connect()
    try:
        yield client if uses_cache else client.with_options(cache=False)
    finally:
        await client.close()


@asynccontextmanager
async def _coredis_cached(url: str, callers: int) -> AsyncIterator[Any]:
    from coredis import Redis
    from coredis.patterns.cache import LRUCache

    connections = min(callers, _MOST_CONNECTIONS) + 1  # one is for invalidations
    async with Redis.from_url(url, max_connections=connections, cache=LRUCache()) as client:
        yield client


ADAPTERS: dict[str, Adapter] = {
    FLOOR: _floor,
    OURS: _ours,
    REDIS_PY: _redis_py,
    COREDIS: _coredis,
}
DEFAULT_CLIENTS = (FLOOR, OURS, REDIS_PY)
CACHING_ADAPTERS: dict[str, Adapter] = {
    CACHED: _cached,
    LASTING: partial(_cached, key_expiry=False),
    UNCACHED_VIEW: partial(_cached, uses_cache=False),
    COREDIS_CACHED: _coredis_cached,
}
"""Compared by `cache` alone."""


def _new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if find_spec("uvloop"):
    LOOPS["uvloop"] = _new_uvloop
