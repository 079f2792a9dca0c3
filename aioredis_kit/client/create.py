"""``create_client``: how a client is made."""

from __future__ import annotations

from typing import Any

from aioredis_kit.client.client import RedisClient


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
