"""The pytest plugin: a real server, an empty database, a connected client, and faults.

Rules of this file:

1. Loading it starts nothing and imports next to nothing: what a fixture needs, it imports.
2. A server that we didn't start is left as it was (see `aioredis_kit.testing.databases`).
3. A fixture of the same name in a user's conftest or test module wins, as always in pytest, and
   the fixtures that build on it use that one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from aioredis_kit.testing.fixtures import fixture_on_the_tests_loop, register_async_fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioredis_kit import RedisClient
    from aioredis_kit.testing.databases import Databases
    from aioredis_kit.testing.faults import FaultProxy
    from aioredis_kit.testing.servers import ServerForTests

_DATABASES = pytest.StashKey[dict[int, "Databases"]]()

_OPTIONS = {
    "url": "URL of a running server to test against, instead of starting one",
    "server": "path of the redis-server or valkey-server to start",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--aioredis-kit-url`` and ``--aioredis-kit-server``, and ini options of these names."""
    group = parser.getgroup("aioredis_kit", "the server behind aioredis_kit's fixtures")
    for name, meaning in _OPTIONS.items():
        group.addoption(f"--aioredis-kit-{name}", metavar=name.upper(), help=meaning)
        parser.addini(f"aioredis_kit_{name}", help=meaning, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the asynchronous fixtures of the runners that are there."""
    register_async_fixtures(config.pluginmanager)
    config.stash[_DATABASES] = {}


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[ServerForTests]:
    """A server, started once a session (under xdist: once a worker), or the one at the given URL.

    One that was started here is a `RedisServer`: it can be killed, paused and restarted.
    """
    from aioredis_kit.testing.binaries import ServerNotFoundError, find_server  # noqa: PLC0415
    from aioredis_kit.testing.servers import open_server  # noqa: PLC0415

    url, binary = _server_options(pytestconfig)
    try:
        found = find_server(url=url, binary=binary)
    except ServerNotFoundError as exc:
        pytest.fail(str(exc), pytrace=False)
    with open_server(found) as server:
        yield server


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, redis_server: ServerForTests) -> Iterator[str]:
    """The URL of a database of the test's own: empty at the start, emptied at the end."""
    with _databases(request.config, redis_server).lend() as url:
        yield url


@pytest.fixture
def redis_client_options() -> dict[str, Any]:
    """The options with which `redis_client` is created; override it to have others."""
    return {}


# The arguments that these two don't use are those of the fixtures that they ask for: named here, so
# that pytest knows of them when it collects.
@pytest.fixture
def redis_client(
    request: pytest.FixtureRequest,
    redis_url: str,  # noqa: ARG001 -- see above
    redis_client_options: dict[str, Any],  # noqa: ARG001 -- see above
) -> RedisClient:
    """A client on the test's event loop, connected to `redis_url`, and closed after the test."""
    client: RedisClient = fixture_on_the_tests_loop(request, "redis_client")
    return client


@pytest.fixture
def redis_faults(
    request: pytest.FixtureRequest,
    redis_url: str,  # noqa: ARG001 -- see above
) -> FaultProxy:
    """A fault proxy on the test's event loop; its ``.url`` leads to the database of `redis_url`."""
    proxy: FaultProxy = fixture_on_the_tests_loop(request, "redis_faults")
    return proxy


def _server_options(config: pytest.Config) -> tuple[str | None, str | None]:
    """Return URL and binary as given; the command line goes before variables, these before ini."""
    given = {name: config.getoption(f"aioredis_kit_{name}") for name in _OPTIONS}
    if all(given.values()):
        raise pytest.UsageError("--aioredis-kit-url and --aioredis-kit-server exclude each other")
    variables = (os.environ.get(f"AIOREDIS_KIT_TEST_{name.upper()}") for name in _OPTIONS)
    if not any(given.values()) and not any(variables):
        given = {name: config.getini(f"aioredis_kit_{name}") for name in _OPTIONS}
    return given["url"], given["server"]


def _databases(config: pytest.Config, server: ServerForTests) -> Databases:
    from aioredis_kit.testing.databases import Databases  # noqa: PLC0415 -- see rule 1

    known = config.stash[_DATABASES]
    if id(server) not in known:
        worker = getattr(config, "workerinput", {"workerid": "gw0", "workercount": 1})
        known[id(server)] = Databases(
            server,
            worker=int(worker["workerid"].removeprefix("gw")),
            workers=worker["workercount"],
        )
    return known[id(server)]
