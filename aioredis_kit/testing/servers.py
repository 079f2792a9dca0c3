"""The servers that tests run against, started here or not, in one shape."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from aioredis_kit.testing.binaries import FoundBinary, FoundContainer, FoundServer, FoundURL
from aioredis_kit.testing.probe import Probe, ServerAddress
from aioredis_kit.testing.server import RedisServer, ServerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aioredis_kit.testing.probe import Flavour, Version

__all__ = ["ServerAtURL", "ServerForTests", "open_server"]

_USUAL_DATABASES = 16


class ServerForTests(Protocol):
    """What every server for tests has, whoever started it."""

    @property
    def url(self) -> str:
        """The URL to connect to, with credentials."""

    @property
    def host(self) -> str:
        """The host; empty for a Unix socket."""

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket."""

    @property
    def unix_socket_path(self) -> Path | str | None:
        """The Unix socket, if it listens on one."""

    @property
    def address(self) -> ServerAddress:
        """The address for a blocking connection."""

    @property
    def flavour(self) -> Flavour:
        """Whether it is Redis or Valkey."""

    @property
    def version(self) -> Version:
        """Its version: ``(9, 1, 2)``."""

    @property
    def started_here(self) -> bool:
        """Whether the kit started it; if not, what is in it belongs to somebody."""


class ServerAtURL:
    """A server that runs already.

    Args:
        url: Where it listens.
        started_here: Whether nobody else uses it.

    Raises:
        ValueError: The URL isn't one of a Redis server.
    """

    def __init__(self, url: str, *, started_here: bool = False) -> None:
        self.url = url
        self.address = ServerAddress.from_url(url)
        self.started_here = started_here

    def __repr__(self) -> str:
        where = self.unix_socket_path or f"{self.host}:{self.port}"
        return f"<ServerAtURL {where}>"

    @property
    def host(self) -> str:
        """The host; empty for a Unix socket."""
        return self.address.host

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket."""
        return self.address.port

    @property
    def unix_socket_path(self) -> str | None:
        """The Unix socket, if the URL names one."""
        return self.address.unix_socket_path or None

    @property
    def flavour(self) -> Flavour:
        """Whether it is Redis or Valkey."""
        return self._build[0]

    @property
    def version(self) -> Version:
        """Its version."""
        return self._build[1]

    @cached_property
    def _build(self) -> tuple[Flavour, Version]:
        with Probe(self.address) as probe:
            return probe.flavour(), probe.version()


@contextmanager
def open_server(found: FoundServer, *, databases: int = 0) -> Iterator[ServerForTests]:
    """Run what `find_server` found, for as long as the block lasts.

    Args:
        found: What was found.
        databases: How many databases are wanted; of a binary that is started they are as many, if its default of 16 is
            too few.

    Raises:
        ServerStartError: The binary, or the container, didn't start.
        ValueError: The URL isn't one of a Redis server.
    """
    match found:
        case FoundURL(url=url):
            yield ServerAtURL(url)
        case FoundBinary(path=path):
            config = {"databases": databases} if databases > _USUAL_DATABASES else {}
            with RedisServer(binary=path, config=config) as server:
                yield server
        case FoundContainer():
            with _running(found) as url:
                yield ServerAtURL(url, started_here=True)


@contextmanager
def _running(found: FoundContainer) -> Iterator[str]:
    # With docker 0.8 s, and only needed where there is no binary, or a container is asked for.
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            container = RedisContainer(found.image)
            stack.callback(container.stop)
            container.start()
            url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(container.port)}"
        except Exception as exc:  # whatever docker, requests, redis-py and testcontainers itself may raise
            raise ServerStartError(f"the container {found.image} ({found.origin}) didn't start: {exc}") from exc
        yield url
