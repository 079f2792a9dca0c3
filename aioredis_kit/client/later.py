"""What redis-py's client can do and this one can't yet.

Refused with a clear error, so that nothing of it ever reaches the shared connection.
"""

from __future__ import annotations

from typing import Any, NoReturn

from aioredis_kit.exceptions import ConfigurationError


def _refuse(what: str, needs: str) -> NoReturn:
    raise ConfigurationError(f"{what} needs {needs}, which is not supported yet: use redis-py's own client for it")


class NotYet:
    """The methods that need more than the shared lane."""

    def pubsub(self, **_: Any) -> NoReturn:
        """Not supported yet.

        Raises:
            ConfigurationError: Always.
        """
        _refuse("pubsub()", "a connection for pushes")

    def keyspace_notifications(self, *_: Any, **__: Any) -> NoReturn:
        """Not supported yet.

        Raises:
            ConfigurationError: Always.
        """
        _refuse("keyspace_notifications()", "a connection for pushes")
