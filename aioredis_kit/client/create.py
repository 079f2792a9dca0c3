"""``create_client``: how a client is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioredis_kit.client.client import RedisClient

if TYPE_CHECKING:
    from aioredis_kit.options import Options


def create_client(url: str | None = None, **options: Any) -> RedisClient:
    """Return a client for one server. Nothing is connected yet.

    Args:
        url: Where the server is: ``redis://[[user]:password@]host[:port][/db]``, ``rediss://`` with TLS, or
            ``unix:///path``; ``valkey``, ``valkeys`` and ``garnet`` are synonyms. Options of simple types may stand in
            its query.
        options: See the README. redis-py's names are understood.

    Raises:
        ConfigurationError: An option is unknown, has a wrong value, or contradicts another.
    """
    return RedisClient(url, **options)


def client_of(options: Options) -> RedisClient:
    """Return a client with options that have been resolved.

    Raises:
        ConfigurationError: The TLS options name a file that can't be read, or the like.
    """
    return RedisClient._of(options)  # noqa: SLF001  # of this floor, and not for users
