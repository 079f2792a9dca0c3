"""Which server answers: its name and version, and the protocol that it speaks with us."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aioredis_kit.client.client import RedisClient

__all__ = ["Server", "ask_server", "server_of"]

_KNOWN: Final = {"valkey": "Valkey", "garnet": "Garnet", "dragonfly": "Dragonfly", "keydb": "KeyDB", "redis": "Redis"}
"""Servers by the words that stand before ``_version`` in INFO. All say what version of Redis they are like, as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a server says of itself, as far as its user may ask.

    Attributes:
        name: Such as ``Valkey``; empty: not told.
        version: Such as ``9.1.2``; empty: not told.
        protocol: The version of RESP that is spoken; ``None``: not told.
    """

    name: str = ""
    version: str = ""
    protocol: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip() or "a server that does not say which"

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return {"name": self.name or None, "version": self.version or None, "protocol": self.protocol}


def server_of(info: Mapping[str, Any], hello: Mapping[str, Any]) -> Server:
    """Return what the replies to INFO and HELLO say. Either may be empty: both may be forbidden, and HELLO unknown."""
    word = next((word for word in _KNOWN if f"{word}_version" in info), "")
    name = _KNOWN.get(word) or _KNOWN.get(str(hello.get("server", "")), str(hello.get("server", "")))
    version = info.get(f"{word}_version") or hello.get("version") or ""
    return Server(name=name, version=str(version), protocol=hello.get("proto"))


async def ask_server(client: RedisClient) -> Server:
    """Ask the server that a client is connected to.

    Raises:
        RedisError: It can't be asked any more.

    Cancellation:
        Safe.
    """
    client = client.with_options(decode_responses=True)
    info: Mapping[str, Any] = {}
    hello: Any = {}
    with suppress(ResponseError):  # it may be forbidden
        info = await client.info("server")
    async with client.dedicated() as session:
        try:
            hello = await session.execute_command("HELLO")
        except ResponseError as error:
            hello = {} if "NOPERM" in str(error) else {"proto": 2}
    return server_of(info, hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True)))
