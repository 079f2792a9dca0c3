"""The only importer of redis-py's internals.

Each name below was checked against redis-py 8.1; ``tests/unit/test_redispy.py`` holds what is relied on, so
that a new release that changes it fails there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis._parsers.base import BaseParser
from redis._parsers.encoders import Encoder
from redis._parsers.helpers import bool_ok, parse_set_result
from redis._parsers.response_callbacks import get_response_callbacks
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import RedisError, ResponseError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = [
    "EMPTY_RESPONSE",
    "NEVER_DECODE",
    "Encoder",
    "error_reply",
    "hang_up",
    "made_of_ok",
    "response_callbacks",
]


def error_reply(text: str) -> Exception:
    """Return redis-py's exception for the text of an error reply. Never raises."""
    try:
        error: RedisError = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]  # redis-py's
    except (ValueError, IndexError):  # a MOVED or ASK that does not say where to
        return ResponseError(text)
    return error


def response_callbacks(protocol: int | None, *, legacy_responses: bool) -> dict[str, Callable[..., Any]]:
    """Return redis-py's response callbacks by command name.

    Args:
        protocol: What the user asked for; ``None`` has the shapes of RESP2 on a RESP3 connection.
        legacy_responses: Whether the shapes are those of redis-py before version 8.
    """
    callbacks: dict[str, Callable[..., Any]] = get_response_callbacks(protocol, legacy_responses)
    return callbacks


def made_of_ok(callback: Callable[..., Any]) -> bool | None:
    """Return what a response callback makes of the reply ``OK``, if it is one that always makes the same of it."""
    return True if callback in (parse_set_result, bool_ok) else None


def hang_up(connection: Any) -> asyncio.StreamWriter | None:
    """Close a connection of redis-py's at once; return what is closed then, if it was open."""
    writer: asyncio.StreamWriter | None = connection._writer  # noqa: SLF001  # it has no other way that isn't a coroutine
    connection._reader = connection._writer = None  # noqa: SLF001  # as above
    if writer is None:
        return None
    try:
        writer.transport.abort()
    except RuntimeError:  # its event loop is closed
        return None
    return writer
