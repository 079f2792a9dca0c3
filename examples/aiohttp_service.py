"""A web service on aiohttp that counts visits: ``uv run examples/aiohttp_service.py [PORT] [URL of a server]``.

It has one client, for as long as the service runs. While Redis is away a request is answered within the client's
deadline, with 503, and says whether it may be repeated; afterwards all goes on.

Without a URL it starts a server of its own. Ask it: ``curl http://127.0.0.1:8080/home``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aiohttp import web

from aioredis_kit import KitError, RedisClient, create_client
from aioredis_kit.testing import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CLIENT = web.AppKey("client", RedisClient)


def make_app(url: str) -> web.Application:
    async def connected(app: web.Application) -> AsyncIterator[None]:
        # A visitor does not wait for longer than a second; connect() ends the start of a service that has no server.
        async with create_client(url, command_timeout=1.0, client_name="visits") as client:
            app[CLIENT] = client
            yield

    app = web.Application(middlewares=[unavailable])
    app.cleanup_ctx.append(connected)
    app.router.add_get("/{page}", visit)
    return app


async def visit(request: web.Request) -> web.Response:
    page = request.match_info["page"]
    visits = await request.app[CLIENT].incr(f"visits:{page}")
    return web.json_response({"page": page, "visits": visits})


@web.middleware
async def unavailable(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except KitError as error:
        outcome = "unknown" if error.maybe_executed else "not counted"
        return web.json_response({"outcome": outcome}, status=503, headers={"Retry-After": "1"})


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    if len(sys.argv) > 2:
        web.run_app(make_app(sys.argv[2]), host="127.0.0.1", port=port)
        return
    with RedisServer() as server:
        web.run_app(make_app(server.url), host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
