"""Starlette: a lifespan that keeps named clients, and 503 for what Redis could not answer.

Rules of this file:

1. The clients are found through the state of the lifespan, which mounted applications see too: nothing is global.
2. What a visitor is told has nothing of the error in it; that is for the log.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from redis.exceptions import BusyLoadingError, ClusterDownError, TryAgainError

from aioredis_kit.config.registry import ClientRegistry
from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    NotConnectedError,
    PoolExhaustedError,
    QueueFullError,
    TokenRenewalError,
)

try:
    from starlette.responses import JSONResponse, Response
    from starlette.websockets import WebSocket, WebSocketState
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs Starlette: pip install "aioredis_kit[starlette]"') from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.types import ExceptionHandler, Lifespan, StatefulLifespan

    from aioredis_kit.client.client import RedisClient

__all__ = ["UNAVAILABLE", "add_exception_handlers", "redis_client", "redis_lifespan"]

logger = logging.getLogger(__name__)

AppT = TypeVar("AppT")

UNAVAILABLE: Final[tuple[type[Exception], ...]] = (
    ClientClosedError,
    CommandTimeoutError,
    ConnectError,
    ConnectionLostError,
    NotConnectedError,
    PoolExhaustedError,
    QueueFullError,
    TokenRenewalError,
    BusyLoadingError,
    ClusterDownError,  # MASTERDOWN too
    TryAgainError,
)
"""The errors that say that Redis can't be asked now."""

_STATE: Final = "redis_clients"
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_TRY_AGAIN_LATER: Final = 1013


def redis_lifespan(
    lifespan: Lifespan[AppT] | None = None, /, *, registry: ClientRegistry | None = None
) -> StatefulLifespan[AppT]:
    """Return a lifespan that keeps clients for an application: ``Starlette(lifespan=redis_lifespan(mine))``.

    The clients are made and connected when they are first used, and closed after the lifespan that it wraps has ended:
    that is when the server has answered the requests in flight.

    Args:
        lifespan: The application's own lifespan, which is entered within. Its state is kept.
        registry: The clients; ``None`` makes a registry of the application's own. One that several applications share
            is closed with the last of them.

    Raises:
        ConfigurationError: The lifespan is a bare generator function, or the registry is none.
    """
    if inspect.isasyncgenfunction(lifespan) or inspect.isgeneratorfunction(lifespan):
        raise ConfigurationError("the lifespan must return a context manager: decorate it with @asynccontextmanager")
    clients = ClientRegistry() if registry is None else registry
    if not isinstance(clients, ClientRegistry):
        raise ConfigurationError(f"registry must be a ClientRegistry, not a {type(clients).__name__}")

    @asynccontextmanager
    async def with_clients(app: AppT) -> AsyncIterator[dict[str, Any]]:
        async with clients:
            if lifespan is None:
                yield {_STATE: clients}
                return
            async with lifespan(app) as state:
                if state and _STATE in state:
                    raise ConfigurationError(f"there is a {_STATE!r} in the state already: use redis_lifespan once")
                yield {**(state or {}), _STATE: clients}

    return with_clients


def redis_client(connection: HTTPConnection, name: str | None = None) -> RedisClient:
    """Return the client of a name, for a request or a WebSocket of an application with ``redis_lifespan``.

    Args:
        connection: The request or the WebSocket.
        name: The client's name, see ``ClientRegistry.get``.

    Raises:
        ConfigurationError: The application does not run in a ``redis_lifespan``; or the client can't be made.
    """
    clients = connection.scope.get("state", {}).get(_STATE)
    if not isinstance(clients, ClientRegistry):
        raise ConfigurationError(
            "the application has no clients: give lifespan=redis_lifespan(…) to the outermost one (the lifespan of a "
            "mounted one never runs), and in tests enter its lifespan: with TestClient(app) as …"
        )
    return clients.get(name)


def add_exception_handlers(app: Starlette, /, *, retry_after: int = 1) -> None:
    """Answer 503 where Redis can't be asked now (``UNAVAILABLE``), and log the error as a warning.

    The answer is ``{"detail": "Service Unavailable"}``. It has ``Retry-After`` where the method is idempotent: nothing
    should repeat a POST by itself, as commands before the one that failed may have been executed. A WebSocket is closed
    with 1013. What is the application's own fault (``ConfigurationError``, a ``ResponseError``) stays a 500.

    A mounted application has handlers of its own: call it for that, too. What a middleware raises passes by all
    handlers, and in an ``ExceptionGroup``, as a ``TaskGroup`` raises it, Starlette looks for no errors: catch
    ``UNAVAILABLE`` there.

    Args:
        app: The application.
        retry_after: What ``Retry-After`` says, in seconds.

    Raises:
        ConfigurationError: ``retry_after`` is not a number of whole seconds.
    """
    if type(retry_after) is not int or retry_after < 0:
        raise ConfigurationError(f"retry_after must be whole seconds, 0 or more, not {retry_after!r}")

    async def answer(connection: Request | WebSocket, error: Exception) -> Response | None:
        logger.warning("Redis can't be asked, so the answer is 503: %s: %s", type(error).__name__, error)
        if isinstance(connection, WebSocket):
            if WebSocketState.DISCONNECTED not in {connection.client_state, connection.application_state}:
                await connection.close(_TRY_AGAIN_LATER)
            return None
        headers = {"Retry-After": str(retry_after)} if connection.method in _IDEMPOTENT else None
        return JSONResponse({"detail": "Service Unavailable"}, 503, headers)

    for each in UNAVAILABLE:
        app.add_exception_handler(each, cast("ExceptionHandler", answer))
