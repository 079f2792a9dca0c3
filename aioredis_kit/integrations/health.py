"""Health for probes: ``/health/live`` and ``/health/ready``, for any ASGI application.

The functions return a status and what to answer, for whatever framework. ``HealthApp`` is an ASGI application of its
own, to be mounted; ``health_routes`` gives Starlette's and FastAPI's routes. Only that one needs Starlette.

Rules of this file:

1. Liveness says nothing about the server: who restarts a process because Redis is away restarts all of them at once.
2. Readiness answers in its time, whatever happens. Degraded is ready, and is told in the answer.
3. An answer has no secret in it, but names addresses: probes are not for the public.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from starlette.routing import Route

    from aioredis_kit.client.client import RedisClient

__all__ = ["HealthApp", "health_routes", "live", "ready"]

Source: TypeAlias = "RedisClient | Callable[[Any], RedisClient]"
"""The client, or what returns it: called with the request, of which a bare ``HealthApp`` knows the ASGI scope alone."""

_AVAILABLE: Final = 200
_UNAVAILABLE: Final = 503


async def live(client: RedisClient) -> tuple[int, dict[str, Any]]:
    """Tell whether a client can go on without being made anew. Nothing is sent, opened or waited for.

    Returns:
        200 or 503, and ``Health.as_dict()``.

    Raises:
        RuntimeError: The client is open on another event loop, or in another thread or process.

    Cancellation:
        Safe.
    """
    health = await client.health(timeout=0)
    return _AVAILABLE if health.is_live else _UNAVAILABLE, health.as_dict()


async def ready(client: RedisClient, *, timeout: float = 0.5) -> tuple[int, dict[str, Any]]:
    """Tell whether a command issued now can be expected to be answered in time. Opens a client that is new.

    Args:
        client: The client.
        timeout: For how long to wait at most, in seconds. Less than the probe's own.

    Returns:
        200 or 503, and ``Health.as_dict()``.

    Raises:
        RuntimeError: The client is open on another event loop, or in another thread or process.

    Cancellation:
        Safe.
    """
    health = await client.health(timeout=timeout)
    return _AVAILABLE if health.is_ready else _UNAVAILABLE, health.as_dict()


class HealthApp:
    """An ASGI application with the paths ``/live`` and ``/ready``: ``app.mount("/health", HealthApp(client))``.

    Args:
        client: The client, or what returns it when it is given the ASGI scope.
        timeout: How long readiness waits at most, in seconds.
    """

    def __init__(self, client: Source, *, timeout: float = 0.5) -> None:
        self._client = client
        self._timeout = timeout

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        del receive
        if scope["type"] != "http":
            raise RuntimeError(f"HealthApp answers HTTP requests, not {scope['type']!r}: mount it in an application")
        match scope["path"].rpartition("/")[2]:
            case "live":
                status, answer = await live(_resolve(self._client, scope))
            case "ready":
                status, answer = await ready(_resolve(self._client, scope), timeout=self._timeout)
            case _:
                status, answer = 404, {"detail": "Not Found"}
        body = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def health_routes(client: Source, *, prefix: str = "/health", timeout: float = 0.5) -> list[Route]:
    """Return the routes ``/health/live`` and ``/health/ready`` for Starlette, or for FastAPI's ``app.router.routes``.

    Args:
        client: The client, or what returns it when it is given the request, such as
            ``aioredis_kit.integrations.starlette.redis_client``.
        prefix: What the paths begin with.
        timeout: How long readiness waits at most, in seconds.

    Raises:
        ImportError: Starlette is not installed.
    """
    try:
        from starlette.responses import JSONResponse  # noqa: PLC0415  # the rest of this module does without
        from starlette.routing import Route  # noqa: PLC0415  # as above
    except ModuleNotFoundError as error:
        raise ImportError('health_routes needs Starlette: pip install "aioredis_kit[starlette]"') from error

    def answered(status: int, answer: dict[str, Any]) -> JSONResponse:
        return JSONResponse(answer, status_code=status, headers={"cache-control": "no-store"})

    async def answer_live(request: Any) -> JSONResponse:
        return answered(*await live(_resolve(client, request)))

    async def answer_ready(request: Any) -> JSONResponse:
        return answered(*await ready(_resolve(client, request), timeout=timeout))

    return [Route(f"{prefix}/live", answer_live), Route(f"{prefix}/ready", answer_ready)]


def _resolve(client: Source, request: Any) -> RedisClient:
    return client(request) if callable(client) else client
