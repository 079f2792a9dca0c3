"""The clients that are compared, what each takes part in, and the event loops.

An adapter is an async context manager: it takes the server's URL and the number of callers that will use the client at
once, and yields an object with redis-py's command methods. Whatever a client needs to be at its best for that many
callers is its adapter's business. What a client costs to import is paid in the process that measures it alone, hence
the imports inside.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.cells import BESIDE_LARGE, COMMANDS, HALF_LOAD, Cell

Adapter: TypeAlias = Callable[[str, int], AbstractAsyncContextManager[Any]]

FLOOR: Final = "floor"
OURS: Final = "aioredis_kit"
REDIS_PY: Final = "redis-py"
COREDIS: Final = "coredis"
GLIDE: Final = "valkey-glide"
NODE_REDIS: Final = "node-redis"
IOREDIS: Final = "ioredis"
IOREDIS_AUTO: Final = "ioredis, auto-pipelining"
REDIS_BENCHMARK: Final = "redis-benchmark"
SESSION: Final = "aioredis_kit, large on a session"
PLAIN: Final = "aioredis_kit, no TLS"
PLAIN_FLOOR: Final = "floor, no TLS"
CACHED: Final = "aioredis_kit, cached"
LASTING: Final = "aioredis_kit, cached, key_expiry=False"
UNCACHED_VIEW: Final = "aioredis_kit, cached, view without"
COREDIS_CACHED: Final = "coredis, cached"
NODE_CACHED: Final = "node-redis, cached"

# What redis-py is best with, measured in thousand GETs a second on asyncio / uvloop:
# 100 callers: a connection each 21 / 27, a blocking pool of 50 15 / 19.
# 1000 callers: a connection each 14 / 15, a blocking pool of 50 14 / 18, of 16 12 / 18, of 4 11 / 18.
_MOST_CONNECTIONS: Final = 100
_SHARED_CONNECTIONS: Final = 50
# It has timeouts by default, 5 s each, so that these cost it nothing. Its hundred TLS contexts take seconds to make.
_PATIENT: Final[dict[str, Any]] = {"socket_timeout": 60, "socket_connect_timeout": 60}


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
        pool = ConnectionPool.from_url(url, max_connections=100_000, **_PATIENT)  # as many as are in use at once
    else:
        pool = BlockingConnectionPool.from_url(url, max_connections=_SHARED_CONNECTIONS, timeout=60, **_PATIENT)
    async with Redis.from_pool(pool) as client:
        yield client


@asynccontextmanager
async def _coredis(url: str, callers: int) -> AsyncIterator[Any]:
    from coredis import Redis

    async with Redis.from_url(url, max_connections=min(callers, _MOST_CONNECTIONS)) as client:
        yield client


@asynccontextmanager
async def _glide(url: str, callers: int) -> AsyncIterator[Any]:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    address = urlsplit(url)
    assert address.port is not None
    where = [NodeAddress(address.hostname or "127.0.0.1", address.port)]
    # By default it refuses the 1001st command in flight, and gives up after 250 ms.
    configuration = GlideClientConfiguration(where, request_timeout=60_000, inflight_requests_limit=100_000)
    client = await GlideClient.create(configuration)
    try:
        yield client
    finally:
        await client.close()


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


async def _pipeline(client: Any, key: str, count: int) -> None:
    pipe = client.pipeline(transaction=False)
    for _ in range(count):
        pipe.get(key)
    await pipe.execute()


async def _coredis_pipeline(client: Any, key: str, count: int) -> None:
    async with client.pipeline(transaction=False) as pipe:
        for _ in range(count):
            pipe.get(key)


async def _glide_pipeline(client: Any, key: str, count: int) -> None:
    from glide import Batch

    batch = Batch(is_atomic=False)
    for _ in range(count):
        batch.get(key)
    await client.exec(batch, raise_on_error=True)


_CLOSED: Final = "closed"
_TLS: Final = "tls"


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to run a cell.

    Attributes:
        workloads: What it takes part in, under which `conditions`: closed loop, TLS, or the name of an open loop's load.
        open: None for what does not run in Python: `workers` knows how it is driven.
        package: Without which it can't take part.
        reads_large: How it reads large values while others read small ones.
        is_plain: Whether it has no TLS where the others have.
    """

    workloads: tuple[str, ...]
    conditions: tuple[str, ...] = (_CLOSED,)
    open: Adapter | None = None
    package: str = "redis"
    send_pipeline: Callable[[Any, str, int], Awaitable[Any]] = _pipeline
    reads_large: Callable[[Any], AbstractAsyncContextManager[Any]] = nullcontext
    is_plain: bool = False

    def takes(self, cell: Cell) -> bool:
        """Return whether it can run a cell."""
        condition = _TLS if cell.tls else cell.load.name if cell.load else _CLOSED
        return cell.workload in self.workloads and condition in self.conditions


_OPEN: Final = (HALF_LOAD.name, BESIDE_LARGE.name)
_FEATURES: Final = ("pipeline", "blocking", "fan-in", "fan-out")
_CACHE_COSTS: Final = ("misses", "write-read")

PEERS: Final[dict[str, Peer]] = {
    FLOOR: Peer(COMMANDS, (_CLOSED, _TLS, *_OPEN), _floor),
    OURS: Peer((*COMMANDS, *_FEATURES, *_CACHE_COSTS), (_CLOSED, _TLS, *_OPEN), _ours),
    SESSION: Peer(COMMANDS, (BESIDE_LARGE.name,), _ours, reads_large=lambda client: client.dedicated()),
    PLAIN: Peer(COMMANDS, (_TLS,), _ours, is_plain=True),
    PLAIN_FLOOR: Peer(COMMANDS, (_TLS,), _floor, is_plain=True),
    CACHED: Peer(("hits", *_CACHE_COSTS), (_CLOSED,), _cached),
    LASTING: Peer(_CACHE_COSTS, (_CLOSED,), partial(_cached, key_expiry=False)),
    UNCACHED_VIEW: Peer(("hits",), (_CLOSED,), partial(_cached, uses_cache=False)),
    REDIS_PY: Peer((*COMMANDS, *_FEATURES), (_CLOSED, _TLS, *_OPEN), _redis_py),
    COREDIS: Peer((*COMMANDS, "pipeline"), (_CLOSED, *_OPEN), _coredis, "coredis", _coredis_pipeline),
    COREDIS_CACHED: Peer(("hits",), (_CLOSED,), _coredis_cached, "coredis"),
    GLIDE: Peer((*COMMANDS, "pipeline"), (_CLOSED, *_OPEN), _glide, "glide", _glide_pipeline),
    NODE_REDIS: Peer((*COMMANDS, "pipeline")),
    NODE_CACHED: Peer(("hits",)),
    IOREDIS: Peer((*COMMANDS, "pipeline")),
    IOREDIS_AUTO: Peer(COMMANDS),
    REDIS_BENCHMARK: Peer(("get", "set", "hgetall")),
}
"""In the order in which they are shown."""
NODE_PEERS: Final = (NODE_REDIS, NODE_CACHED, IOREDIS, IOREDIS_AUTO)


def adapter_of(client: str) -> Adapter:
    """Return how a client of this interpreter is opened."""
    adapter = PEERS[client].open
    assert adapter is not None, client
    return adapter


def _new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {"asyncio": asyncio.new_event_loop}
if find_spec("uvloop"):
    LOOPS["uvloop"] = _new_uvloop
