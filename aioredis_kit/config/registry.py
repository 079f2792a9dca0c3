"""``ClientRegistry``: clients by name, made when they are first used, one for each event loop.

Rules of this file:

1. What belongs to an event loop is in its ``_Home``, which only that loop's thread touches.
2. A registry closes what it has made, and nothing else.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from aioredis_kit.client import witness
from aioredis_kit.client.client import RedisClient
from aioredis_kit.client.create import client_of
from aioredis_kit.config.configuration import create_client_from_env
from aioredis_kit.config.environment import check_name
from aioredis_kit.exceptions import ClientClosedError, ConfigurationError
from aioredis_kit.options import resolve_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["ClientRegistry"]

Factory: TypeAlias = Callable[[], RedisClient]


@dataclass(slots=True)
class _Home:
    """What belongs to one event loop.

    Attributes:
        clients: Its clients, in the order in which they were made, by their names and what made them.
        uses: How many have entered the registry and not left it.
        is_closing: Whether they are being closed.
    """

    clients: dict[tuple[str | None, Factory | None], RedisClient] = field(default_factory=dict)
    uses: int = 0
    is_closing: bool = False


class ClientRegistry:
    """The clients of an application, by name.

    ::

        clients = ClientRegistry()
        clients.register("sessions", "redis://localhost:6379", db=1)

        async with clients:
            await clients.get("sessions").set("ada", "here")  # of this URL
            await clients.get("cache").get("user:1")  # of what the environment says of "cache"

    It may be made when a module is imported, and used on any number of event loops: each has clients of its own.

    Lifecycle: a client is made by the first ``get`` of its name on an event loop, and connects with its first command;
    all of that loop are closed by ``close`` or the end of ``async with``. After that ``get`` makes new ones.

    Args:
        default: Makes the client of a name that was not registered; it is given the name, ``None`` for the client
            without one.
    """

    def __init__(self, default: Callable[[str | None], RedisClient] = create_client_from_env) -> None:
        self._default = default
        self._factories: dict[str | None, Factory] = {}
        self._overrides: dict[str | None, RedisClient | Factory] = {}
        self._homes: dict[asyncio.AbstractEventLoop, _Home] = {}

    def register(self, name: str | None, source: str | Factory | None = None, /, **options: Any) -> None:
        """Say how the client of a name is made, before it is first used.

        Args:
            name: The name; ``None`` is the client without one.
            source: A URL, or a function that returns a new client; ``None``: what the environment says of the name, see
                ``create_client_from_env``.
            options: Options, as ``create_client`` takes them, beside a URL or the environment.

        Raises:
            ConfigurationError: The name is none, registered or in use; an option beside a URL is unknown, has a wrong
                value or contradicts another (beside the environment, ``get`` says so); or the source is something else.
        """
        if name is not None:
            check_name(name)
        if name in self._factories:
            raise ConfigurationError(f"{_named(name)} is registered already; in tests use override")
        if any(used == name for home in list(self._homes.values()) for used, _ in list(home.clients)):
            raise ConfigurationError(f"{_named(name)} is in use already: register it before it is first used")
        if source is None:
            self._factories[name] = partial(create_client_from_env, name, **options)
        elif isinstance(source, str):
            self._factories[name] = partial(client_of, resolve_options(source, options))
        else:
            _check_factory(name, source)
            if options:
                raise ConfigurationError(f"{_named(name)}: options go into the function that makes it")
            self._factories[name] = source

    def get(self, name: str | None = None) -> RedisClient:
        """Return the client of a name on the running event loop. It is always the same one, until it is closed here.

        Args:
            name: The name; ``None`` is the client without one.

        Raises:
            ConfigurationError: The client can't be made: see ``create_client_from_env``.
            ClientClosedError: The clients of this event loop are being closed, and this one was not made before.
            RuntimeError: No event loop is running.
        """
        override = self._overrides.get(name)
        if isinstance(override, RedisClient):
            return override
        home = self._home()
        factory = override or self._factories.get(name)
        client = home.clients.get((name, factory))
        if client is not None:
            return client
        if home.is_closing:
            raise ClientClosedError(f"{_named(name)} is not made any more: this registry is being closed")
        if name is not None:
            check_name(name)
        client = self._default(name) if factory is None else factory()
        if not isinstance(client, RedisClient):
            raise ConfigurationError(f"{_named(name)} was to be a RedisClient, but is a {type(client).__name__}")
        home.clients[name, factory] = client
        if home.uses and witness.present is not None:
            witness.present.owned(client._core)  # noqa: SLF001  # of this package, and nobody else's to know
        return client

    @contextmanager
    def override(self, name: str | None, client: RedisClient | Factory, /) -> Iterator[None]:
        """Let a name stand for another client for as long as the block lasts, on all event loops: for tests.

        Args:
            name: The name; ``None`` is the client without one.
            client: A client, which remains its owner's to close; or a function that returns a new one, which is
                closed with the others. An application that runs on an event loop of its own, as in Starlette's
                ``TestClient``, needs the latter.

        Raises:
            ConfigurationError: It is neither, or the name is none.
        """
        if name is not None:
            check_name(name)
        if not isinstance(client, RedisClient):
            _check_factory(name, client)
        before = self._overrides.get(name)
        self._overrides[name] = client
        try:
            yield
        finally:
            if before is None:
                del self._overrides[name]
            else:
                self._overrides[name] = before

    async def close(self) -> None:
        """Close the clients that were made on this event loop, the latest first; those of others are theirs to close.

        Cancellation:
            The clients that are not closed yet are destroyed.
        """
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            return
        home.is_closing = True
        try:
            with ExitStack() as cancelled:  # or failed: those that are not closed yet
                for client in home.clients.values():
                    cancelled.callback(client.destroy)
                for client in reversed(home.clients.values()):
                    await client.close()
        finally:
            if self._homes.get(loop) is home:
                del self._homes[loop]
                if home.uses:  # closed within a block, or entered meanwhile: those blocks go on
                    self._home().uses = home.uses

    async def __aenter__(self) -> Self:
        """Keep the clients of this event loop until the end of the block. May be entered several times."""
        self._home().uses += 1
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, at the last exit on this event loop."""
        home = self._home()
        home.uses -= 1
        if home.uses <= 0:
            await self.close()

    def _home(self) -> _Home:
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            for each in [each for each in list(self._homes) if each.is_closed()]:
                self._homes.pop(each, None)  # clients that are still open say so themselves
            home = self._homes[loop] = _Home()
        return home


def _named(name: str | None) -> str:
    return "the client without a name" if name is None else f"the client {name!r}"


def _check_factory(name: str | None, factory: object) -> None:
    if not callable(factory):
        raise ConfigurationError(
            f"{_named(name)} can't be made of a {type(factory).__name__}: give a URL, or a function that returns one"
        )
    if inspect.iscoroutinefunction(factory):
        raise ConfigurationError(
            f"{_named(name)} can't be made by a coroutine function: give a plain one; the client connects by itself"
        )
