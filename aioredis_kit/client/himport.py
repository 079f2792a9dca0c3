"""``himport_*``: what it prepares belongs to one connection, and is not supported yet.

Refused with a clear error, so that nothing of it ever reaches the server.
"""

from __future__ import annotations

from typing import Any, NoReturn

from aioredis_kit.exceptions import ConfigurationError


def _refuse(name: str) -> NoReturn:
    raise ConfigurationError(f"{name}() is not supported yet: use hset(), or redis-py's own client for it")


class NoImports:
    """redis-py's methods for ``HIMPORT``."""

    async def himport_prepare(self, *_: Any, **__: Any) -> NoReturn:
        """Not supported yet.

        Raises:
            ConfigurationError: Always.

        Cancellation:
            Safe.
        """
        _refuse("himport_prepare")

    async def himport_set(self, *_: Any, **__: Any) -> NoReturn:
        """Not supported yet.

        Raises:
            ConfigurationError: Always.

        Cancellation:
            Safe.
        """
        _refuse("himport_set")

    async def himport_discard(self, *_: Any, **__: Any) -> NoReturn:
        """Not supported yet.

        Raises:
            ConfigurationError: Always.

        Cancellation:
            Safe.
        """
        _refuse("himport_discard")

    async def himport_discard_all(self, *_: Any, **__: Any) -> NoReturn:
        """Not supported yet.

        Raises:
            ConfigurationError: Always.

        Cancellation:
            Safe.
        """
        _refuse("himport_discard_all")
