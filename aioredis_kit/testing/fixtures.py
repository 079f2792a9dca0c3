"""The plugin's asynchronous fixtures, on the event loop that the requesting test runs on.

An asynchronous fixture belongs to one runner: pytest-asyncio wants its own decorator, with the
loop fixed in advance; anyio takes plain ones, for its own tests only. So each fixture exists once
for every loop that a test can run on, all made from the same function, and the public one, which
is synchronous, asks for the one of its test's loop. Only documented interfaces of both are used.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, get_args

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aioredis_kit import RedisClient
    from aioredis_kit.testing.faults import FaultProxy

_LoopScope = Literal["function", "class", "module", "package", "session"]


class RedisClientFactory(Protocol):
    """What the fixture ``redis_client_factory`` is."""

    async def __call__(self, url: str | None = None, /, **options: Any) -> RedisClient:
        """Make a client, and connect it.

        Args:
            url: Where to; ``None``: the test's own database.
            options: As for ``create_client``; they go before those of ``redis_client_options``.

        Raises:
            ConfigurationError: An option is none, or is wrong.
            ConnectError: No connection was made.

        Cancellation: the client is not connected, and is closed with the others.
        """


def _client_fixture() -> Callable[..., AsyncIterator[RedisClient]]:
    async def redis_client(redis_url: str, redis_client_options: dict[str, Any]) -> AsyncIterator[RedisClient]:
        from aioredis_kit import create_client  # noqa: PLC0415 -- loading the plugin is to be cheap

        client = await create_client(redis_url, **redis_client_options).connect()
        try:
            yield client
        finally:
            await client.close()

    return redis_client


def _factory_fixture() -> Callable[..., AsyncIterator[RedisClientFactory]]:
    async def redis_client_factory(
        redis_url: str, redis_client_options: dict[str, Any]
    ) -> AsyncIterator[RedisClientFactory]:
        from aioredis_kit import create_client  # noqa: PLC0415 -- as above

        async with AsyncExitStack() as clients:

            async def make(url: str | None = None, /, **options: Any) -> RedisClient:
                client = create_client(url or redis_url, **redis_client_options | options)
                clients.push_async_callback(client.close)
                return await client.connect()

            yield make

    return redis_client_factory


def _faults_fixture() -> Callable[..., AsyncIterator[FaultProxy]]:
    async def redis_faults(redis_url: str) -> AsyncIterator[FaultProxy]:
        from aioredis_kit.testing.faults import FaultProxy  # noqa: PLC0415 -- as above

        async with FaultProxy.for_url(redis_url) as proxy:
            yield proxy

    return redis_faults


_FIXTURES: dict[str, Callable[[], Callable[..., AsyncIterator[Any]]]] = {
    "redis_client": _client_fixture,
    "redis_client_factory": _factory_fixture,
    "redis_faults": _faults_fixture,
}


def register_async_fixtures(plugins: pytest.PytestPluginManager) -> None:
    """Register the fixtures for anyio, and for pytest-asyncio if that is active."""
    for_anyio = ModuleType("aioredis_kit_fixtures_for_anyio")
    for name, make in _FIXTURES.items():
        variant = _variant(name, "anyio")
        setattr(for_anyio, variant, pytest.fixture(make(), name=variant))
    plugins.register(for_anyio)
    # Not by its name as a plugin, which depends on the way in which it was loaded.
    pytest_asyncio = sys.modules.get("pytest_asyncio.plugin")
    if pytest_asyncio is not None and plugins.is_registered(pytest_asyncio):
        plugins.register(_fixtures_for_pytest_asyncio())


def _fixtures_for_pytest_asyncio() -> ModuleType:
    import pytest_asyncio  # noqa: PLC0415 -- may be missing; where it is active, it is loaded

    plugin = ModuleType("aioredis_kit_fixtures_for_pytest_asyncio")
    for name, make in _FIXTURES.items():
        for scope in get_args(_LoopScope):
            variant = _variant(name, scope)
            # A new function each time, because the decorator writes the loop's scope on it.
            fixture = pytest_asyncio.fixture(make(), loop_scope=scope, name=variant)
            setattr(plugin, variant, fixture)
    return plugin


def fixture_on_the_tests_loop(request: pytest.FixtureRequest, name: str) -> Any:
    """Return the value of the fixture *name* on the loop that the requesting test runs on."""
    return request.getfixturevalue(_variant(name, _loop_of(request, name)))


def _loop_of(request: pytest.FixtureRequest, name: str) -> str:
    test = request.node
    is_for_anyio = "anyio_backend" in request.fixturenames
    pytest_asyncio = sys.modules.get("pytest_asyncio")
    if pytest_asyncio is not None and pytest_asyncio.is_async_test(test):
        if is_for_anyio:
            _fail(
                f"{name} can't tell the event loop of a test that is marked for anyio and run by "
                "pytest-asyncio (in its auto mode it runs all): use its strict mode, or one mark"
            )
        marker = test.get_closest_marker("asyncio")
        named = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope")
        return str(named or request.config.getini("asyncio_default_test_loop_scope"))
    if not is_for_anyio:
        _fail(
            f"{name} lives on a test's event loop, and no runner has taken this test: make it "
            "`async def` and mark it with @pytest.mark.asyncio or @pytest.mark.anyio, or use "
            "redis_url in a synchronous test"
        )
    if request.getfixturevalue("anyio_backend_name") != "asyncio":
        _fail(f"{name} needs asyncio: have the fixture anyio_backend return 'asyncio'")
    return "anyio"


def _fail(message: str) -> NoReturn:
    pytest.fail(message, pytrace=False)


def _variant(name: str, loop: str) -> str:
    return f"_{name}_on_{loop}_loop"
