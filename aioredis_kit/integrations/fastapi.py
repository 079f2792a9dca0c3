"""FastAPI: the same as for Starlette, and clients as dependencies.

FastAPI reads the annotations here at run time, so they are not postponed.
"""

from dataclasses import dataclass

from aioredis_kit.client.client import RedisClient

try:
    from fastapi.requests import HTTPConnection
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs FastAPI: pip install "aioredis_kit[fastapi]"') from error

from aioredis_kit.integrations.starlette import UNAVAILABLE, add_exception_handlers, redis_client, redis_lifespan

__all__ = ["UNAVAILABLE", "ClientNamed", "add_exception_handlers", "redis_client", "redis_lifespan"]


@dataclass(frozen=True, slots=True)
class ClientNamed:
    """A dependency: the client of a name, of an application with ``redis_lifespan``.

    ::

        Cache = Annotated[RedisClient, Depends(ClientNamed("cache"))]

        @app.get("/users/{user}")
        async def name_of(user: str, cache: Cache) -> str | None:
            return await cache.get(f"user:{user}")

    Two with the same name are equal, so ``app.dependency_overrides[ClientNamed("cache")]`` finds it.

    Attributes:
        name: The client's name, see ``ClientRegistry.get``.
    """

    name: str | None = None

    async def __call__(self, connection: HTTPConnection) -> RedisClient:
        """Return the client.

        Raises:
            ConfigurationError: The application does not run in a ``redis_lifespan``; or the client can't be made.

        Cancellation:
            Safe: it does not wait.
        """
        return redis_client(connection, self.name)
