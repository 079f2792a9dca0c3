"""The clients that are measured, each with what it needs to be at its best for that many callers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from aioredis_kit.client.client import RedisClient
    from aioredis_kit.options import Options

__all__ = ["Measured", "check_comparable", "redis_py"]

# What redis-py is best with: a connection for each of up to 100 callers, and a blocking pool of 50 for more.
_MOST_CONNECTIONS: Final = 100
_SHARED_CONNECTIONS: Final = 50
_OWN: Final = frozenset({"retry", "health_check_interval"})
"""What redis-py has its own defaults for, which are cheaper than ours."""


class Measured(Protocol):
    """What is asked of a client."""

    def get(self, name: str) -> Awaitable[Any]:
        """Read."""

    def set(self, name: str, value: bytes, *, ex: int) -> Awaitable[Any]:
        """Write."""


def check_comparable(options: Options) -> None:
    """Refuse what redis-py can't do in the same way.

    Raises:
        ConfigurationError: It can't.
    """
    if options.credential_provider is not None:
        raise ConfigurationError("redis-py is not measured with credentials of a provider: add --alone")


@asynccontextmanager
async def redis_py(client: RedisClient, options: Options, callers: int) -> AsyncIterator[Redis]:
    """Give redis-py's own client, with its own connections, for the server of a client of ours.

    Cancellation:
        Safe. Its connections are closed.
    """
    arguments = {name: value for name, value in client.connection_pool.connection_kwargs.items() if name not in _OWN}
    kind: type[Any] = SSLConnection if options.tls else Connection
    if options.unix_socket_path is not None:
        kind = UnixDomainSocketConnection
    pool: ConnectionPool
    if callers <= _MOST_CONNECTIONS:
        pool = ConnectionPool(kind, max_connections=callers, **arguments)
    else:
        pool = BlockingConnectionPool(_SHARED_CONNECTIONS, None, kind, **arguments)
    async with Redis.from_pool(pool) as peer:
        yield peer
