"""What redis-py's own code reads from ``client.connection_pool``.

There is no pool. redis-py's module classes ask it for the protocol and the shapes of responses, its scripts for an
encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioredis_kit._redispy import Encoder
from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from aioredis_kit.options import CommandOptions, Options


class PoolView:
    """Answers what can be answered without a pool.

    Attributes:
        connection_kwargs: The options under redis-py's names, without secrets.
    """

    def __init__(self, options: Options, view: CommandOptions) -> None:
        self.connection_kwargs: dict[str, Any] = {
            "host": options.host,
            "port": options.port,
            "db": options.db,
            "username": options.username,
            "client_name": options.client_name,
            "protocol": options.protocol,
            "legacy_responses": options.legacy_responses,
            "decode_responses": view.decode_responses,
            "encoding": options.encoding,
            "encoding_errors": options.encoding_errors,
            "socket_timeout": view.timeout,
            "socket_connect_timeout": options.connect_timeout,
        }

    def get_encoder(self) -> Encoder:
        """Return redis-py's encoder with the client's encoding."""
        kwargs = self.connection_kwargs
        names = ("encoding", "encoding_errors", "decode_responses")
        return Encoder(*(kwargs[name] for name in names))  # type: ignore[no-untyped-call]  # redis-py's

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ConfigurationError(
            f"connection_pool.{name}: this client has no pool of redis-py's yet; use redis-py's own client for code "
            "that takes connections from it"
        )
