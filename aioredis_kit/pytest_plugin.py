"""The pytest plugin: a real server, an empty database, a connected client, and faults.

Rules of this file:

1. Loading it starts nothing and imports next to nothing: what a fixture needs, it imports.
2. A server that we didn't start is left as it was (see `aioredis_kit.testing.databases`).
3. A fixture of the same name in a user's conftest or test module wins, as always in pytest, and
   the fixtures that build on it use that one.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from aioredis_kit.testing.fixtures import fixture_on_the_tests_loop, register_async_fixtures
from aioredis_kit.testing.guard import MARKER, OpenClientGuard
from aioredis_kit.testing.plugin_options import ServerOptions, add_options, fails_open_clients, isolation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aioredis_kit import RedisClient
    from aioredis_kit.testing.databases import Databases
    from aioredis_kit.testing.faults import FaultProxy
    from aioredis_kit.testing.fixtures import RedisClientFactory
    from aioredis_kit.testing.servers import ServerForTests
    from aioredis_kit.testing.shared import SharedServer, WorkerNumbers

_DATABASES: pytest.StashKey[dict[int, Databases]] = pytest.StashKey()
_SHARED: pytest.StashKey[SharedServer] = pytest.StashKey()
_NUMBERS: pytest.StashKey[WorkerNumbers] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, see `aioredis_kit.testing.plugin_options`."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the asynchronous fixtures of the runners that are there, and the guard."""
    config.addinivalue_line("markers", f"{MARKER}(reason): the test leaves clients open on purpose")
    isolation(config)  # a wrong one is said now, not by each test
    register_async_fixtures(config.pluginmanager)
    config.stash[_DATABASES] = {}
    if fails_open_clients(config):
        config.pluginmanager.register(OpenClientGuard(), "aioredis_kit_open_client_guard")


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist its number, and which server it shares with the others, if it is to share one."""
    from aioredis_kit.testing.shared import SharedServer, WorkerNumbers  # noqa: PLC0415 -- see rule 1

    stash = node.config.stash
    stash.setdefault(_NUMBERS, WorkerNumbers()).announce(node.gateway.id, node.workerinput)
    if isolation(node.config) != "database":
        return
    if _SHARED not in stash:
        stash[_SHARED] = SharedServer(ServerOptions.of(node.config))
    stash[_SHARED].announce(node.workerinput)


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_testnodedown(node: Any) -> None:
    """Note that a worker of xdist has ended: if it crashed, another one takes its place."""
    node.config.stash[_NUMBERS].give_back(node.gateway.id)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the server that the workers have shared."""
    if _SHARED in config.stash:
        config.stash[_SHARED].close()


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[ServerForTests]:
    """A server, started once a session (under xdist: once a worker, or once for all), or the one at the given URL.

    One that this process has started from a binary is a `RedisServer`: it can be killed, paused and restarted.
    """
    from aioredis_kit.testing.binaries import ServerNotFoundError  # noqa: PLC0415 -- see rule 1
    from aioredis_kit.testing.server import ServerStartError  # noqa: PLC0415
    from aioredis_kit.testing.shared import server_of_worker  # noqa: PLC0415

    options = ServerOptions.of(pytestconfig)
    running = server_of_worker(options, isolation(pytestconfig), _workerinput(pytestconfig))
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running)
        except (ServerNotFoundError, ServerStartError) as exc:
            pytest.fail(str(exc), pytrace=False)
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


# The arguments that these three don't use are those of the fixtures that they ask for: named here, so
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
def redis_client_factory(
    request: pytest.FixtureRequest,
    redis_url: str,  # noqa: ARG001 -- see above
    redis_client_options: dict[str, Any],  # noqa: ARG001 -- see above
) -> RedisClientFactory:
    """A coroutine function that makes connected clients on the test's event loop; all are closed after the test.

    It takes the options of `create_client`, which go before those of `redis_client_options`, and a URL in place of
    `redis_url`. The last client that was made is closed first.
    """
    make: RedisClientFactory = fixture_on_the_tests_loop(request, "redis_client_factory")
    return make


@pytest.fixture
def redis_faults(
    request: pytest.FixtureRequest,
    redis_url: str,  # noqa: ARG001 -- see above
) -> FaultProxy:
    """A fault proxy on the test's event loop; its ``.url`` leads to the database of `redis_url`."""
    proxy: FaultProxy = fixture_on_the_tests_loop(request, "redis_faults")
    return proxy


def _workerinput(config: pytest.Config) -> Mapping[str, Any]:
    """Return what xdist tells this worker; nothing if this process is none."""
    return getattr(config, "workerinput", {})


def _databases(config: pytest.Config, server: ServerForTests) -> Databases:
    from aioredis_kit.testing.databases import Databases  # noqa: PLC0415 -- see rule 1
    from aioredis_kit.testing.shared import is_shared, number_of_worker  # noqa: PLC0415

    known = config.stash[_DATABASES]
    if id(server) not in known:
        worker = _workerinput(config)
        if worker and is_shared(server, worker):
            known[id(server)] = Databases(server, worker=number_of_worker(worker), workers=worker["workercount"])
        else:
            known[id(server)] = Databases(server)
    return known[id(server)]
