"""A web service on FastAPI: ``CACHE_URI="redis://localhost?command_timeout=1" uv run examples/fastapi_service.py``.

``curl -X POST localhost:8000/visits/home`` counts; ``curl localhost:8000/visits/home`` reads; ``/health`` is for the
platform. ``/visits/home/next`` waits for the next visitor, up to two seconds.

While Redis is away, requests wait for it as long as ``command_timeout`` says, then they are answered 503; afterwards
all is as before. On SIGTERM uvicorn takes no more connections and lets the requests in flight end; then the client is
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Annotated

import uvicorn
from fastapi import Depends, FastAPI

from aioredis_kit import ClientRegistry, RedisClient
from aioredis_kit.integrations.fastapi import ClientNamed, add_exception_handlers, redis_lifespan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

clients = ClientRegistry()
clients.register("cache", decode_responses=True)  # and what the environment says of "cache"

Cache = Annotated[RedisClient, Depends(ClientNamed("cache"))]


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    print("using", clients.get("cache"))  # a wrong environment ends the start, not the first request
    yield


app = FastAPI(lifespan=redis_lifespan(lifespan, registry=clients))
add_exception_handlers(app)


@app.post("/visits/{page}")
async def count(page: str, cache: Cache) -> dict[str, int]:
    visits = await cache.incr(f"visits:{page}")
    await cache.publish(f"visits:{page}", "one more")
    return {"visits": visits}


@app.get("/visits/{page}")
async def read(page: str, cache: Cache) -> dict[str, int]:
    return {"visits": int(await cache.get(f"visits:{page}") or 0)}


@app.get("/visits/{page}/next")
async def wait_for_next(page: str, cache: Cache) -> dict[str, bool]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2), cache.subscribe(f"visits:{page}") as messages:
            async for message in messages:
                if not message.is_gap:
                    return {"came": True}
    return {"came": False}


@app.get("/health")
async def health(cache: Cache) -> dict[str, bool]:
    return {"redis": await cache.ping()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), access_log=False)
