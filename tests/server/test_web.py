"""Starlette and FastAPI: the lifespan, the dependency, and 503."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import re
import sys
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, WebSocket
from redis.exceptions import BusyLoadingError, ClusterDownError, ResponseError
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from aioredis_kit import (
    ClientClosedError,
    ClientRegistry,
    ClientState,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    QueueFullError,
    RedisClient,
    create_client,
)
from aioredis_kit.integrations.fastapi import ClientNamed
from aioredis_kit.integrations.starlette import add_exception_handlers, redis_client, redis_lifespan

Cache = Annotated[RedisClient, Depends(ClientNamed("cache"))]


async def count(request):
    """Count visits in Redis."""
    return PlainTextResponse(str(await redis_client(request, "cache").incr("visits")))


COUNTING = Route("/visits", count)


@pytest.fixture
def clients(redis_url):
    clients = ClientRegistry()
    clients.register("cache", redis_url)
    return clients


# -- the lifespan -----------------------------------------------------------------------------------


def test_clients_live_as_long_as_the_application(clients):
    """Twice, on an event loop each; and the application's own lifespan is within theirs, and keeps its state."""
    states = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        cache = clients.get("cache")
        await cache.set("visits", 10)
        yield {"mine": "state"}
        states.append((app is application, await cache.get("visits"), cache.state))
        closed.append(cache)

    async def mine(request):
        return PlainTextResponse(request.state.mine)

    closed = []
    application = Starlette(
        routes=[COUNTING, Route("/mine", mine)], lifespan=redis_lifespan(lifespan, registry=clients)
    )
    for _ in range(2):
        with TestClient(application) as http:
            assert [http.get("/visits").text for _ in range(2)] == ["11", "12"]
            assert http.get("/mine").text == "state"
    assert states == [(True, b"12", ClientState.READY)] * 2
    assert [client.state for client in closed] == [ClientState.CLOSED] * 2


def test_a_lifespan_without_one_to_wrap(redis_url, monkeypatch):
    """The clients are those of the environment."""
    monkeypatch.setenv("CACHE_URI", redis_url)
    with TestClient(Starlette(routes=[COUNTING], lifespan=redis_lifespan())) as http:
        assert http.get("/visits").text == "1"


def test_mounted_applications_have_the_clients_of_the_outermost(clients):
    """Whatever lifespan they have: theirs never runs."""
    api = FastAPI(lifespan=redis_lifespan())

    @api.get("/visits")
    async def read(cache: Cache) -> int:
        return await cache.incr("visits")

    inner = Starlette(routes=[COUNTING])
    outer = Starlette(
        routes=[COUNTING, Mount("/inner", inner), Mount("/api", api)], lifespan=redis_lifespan(registry=clients)
    )
    with TestClient(outer) as http:
        assert [http.get(path).text for path in ("/visits", "/inner/visits", "/api/visits")] == ["1", "2", "3"]


async def test_several_applications(redis_url):
    """Those that share a registry share its clients, to the end of the last; others have their own."""
    shared, own = ClientRegistry(), ClientRegistry()
    for each in (shared, own):
        each.register("cache", redis_url)
    first, second = redis_lifespan(registry=shared)(Starlette()), redis_lifespan(registry=shared)(FastAPI())
    async with redis_lifespan(registry=own)(Starlette()) as state:
        assert state == {"redis_clients": own}
        await first.__aenter__()
        async with second:
            client = await shared.get("cache").connect()
            await first.__aexit__(None, None, None)
            assert client.is_ready
        assert client.state is ClientState.CLOSED
        assert await own.get("cache").ping()


async def test_clients_are_closed_where_the_applications_own_lifespan_fails(clients):
    @contextlib.asynccontextmanager
    async def lifespan(_app):
        made.append(await clients.get("cache").connect())
        raise OSError("no disk")
        yield

    made = []
    with pytest.raises(OSError, match="no disk"):
        async with redis_lifespan(lifespan, registry=clients)(Starlette()):
            pass
    assert made[0].state is ClientState.CLOSED


async def test_a_lifespan_is_wrapped_once():
    with pytest.raises(ConfigurationError, match="use redis_lifespan once"):
        async with redis_lifespan(redis_lifespan())(Starlette()):
            pass


def test_a_lifespan_is_a_context_manager():
    async def lifespan(_app):
        yield

    with pytest.raises(ConfigurationError, match="asynccontextmanager"):
        redis_lifespan(lifespan)


async def test_a_client_is_no_registry(redis_client):
    with pytest.raises(ConfigurationError, match="registry must be a ClientRegistry, not a RedisClient"):
        redis_lifespan(registry=redis_client)


@pytest.mark.parametrize("lifespan", [None, redis_lifespan()])
def test_without_the_lifespan(lifespan):
    """It was not given, or the test client was not entered."""
    with pytest.raises(ConfigurationError, match=r"lifespan=redis_lifespan\(…\).*with TestClient"):
        TestClient(Starlette(routes=[COUNTING], lifespan=lifespan)).get("/visits")


# -- the dependency ---------------------------------------------------------------------------------


@pytest.fixture
def api(clients):
    api = FastAPI(lifespan=redis_lifespan(registry=clients))

    @api.get("/visits")
    async def read(cache: Cache) -> int:
        return await cache.incr("visits")

    @api.websocket("/live")
    async def live(websocket: WebSocket, cache: Cache) -> None:
        await websocket.accept()
        await websocket.send_text(str(await cache.incr("visits")))
        await websocket.close()

    return api


def test_a_dependency(api):
    with TestClient(api) as http:
        assert http.get("/visits").json() == 1
        with http.websocket_connect("/live") as websocket:
            assert websocket.receive_text() == "2"
        assert http.get("/openapi.json").json()["paths"]["/visits"]["get"].get("parameters", []) == []


def test_another_client_in_tests(api, clients, redis_url):
    """By the registry, or as FastAPI does it."""
    with TestClient(api) as http:
        assert http.get("/visits").json() == 1
        with clients.override("cache", lambda: create_client(redis_url, client_name="other")):
            assert http.get("/visits").json() == 2
        api.dependency_overrides[ClientNamed("cache")] = lambda: Canned()
        assert http.get("/visits").json() == 42


class Canned:
    """Says what the test wants."""

    async def incr(self, _key):
        return 42


# -- 503 --------------------------------------------------------------------------------------------


def failing_with(error, *, retry_after=1):
    async def fail(_request):
        raise error

    async def fail_live(websocket):
        await websocket.accept()
        raise error

    methods = ["GET", "POST", "DELETE"]
    app = Starlette(routes=[Route("/", fail, methods=methods), WebSocketRoute("/live", fail_live)])
    add_exception_handlers(app, retry_after=retry_after)
    return TestClient(app, raise_server_exceptions=False)


LOST = "10.0.0.7:6379 closed the connection"


@pytest.mark.parametrize(
    "error",
    [
        ClientClosedError("closed"),
        ConnectError("10.0.0.7:6379: refused", address="10.0.0.7:6379"),
        ConnectionLostError(LOST, address="10.0.0.7:6379"),
        QueueFullError("full", limit=1),
        BusyLoadingError("LOADING"),
        ClusterDownError("CLUSTERDOWN"),
    ],
)
def test_what_is_answered_503(error, caplog):
    with caplog.at_level(logging.WARNING):
        answer = failing_with(error, retry_after=7).get("/")
    assert (answer.status_code, answer.json()) == (503, {"detail": "Service Unavailable"})
    assert answer.headers["retry-after"] == "7"
    assert "10.0.0.7" not in answer.text + repr(answer.headers)
    assert [record.getMessage().endswith(f"{type(error).__name__}: {error}") for record in caplog.records] == [True]


@pytest.mark.parametrize("maybe_executed", [True, False])
def test_what_may_have_been_executed_is_not_to_be_repeated_by_itself(maybe_executed):
    """Unless the method says that it may be: the command that failed need not be the request's first."""
    http = failing_with(ConnectionLostError(LOST, maybe_executed=maybe_executed))
    answers = [http.request(method, "/") for method in ("GET", "DELETE", "POST")]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert [answer.headers.get("retry-after") for answer in answers] == ["1", "1", None]


@pytest.mark.parametrize("error", [ConfigurationError("wrong"), ResponseError("ERR wrong"), TimeoutError()])
def test_what_is_the_applications_own_fault(error):
    assert failing_with(error).get("/").status_code == 500


def test_a_websocket_is_closed():
    with (
        failing_with(ConnectionLostError(LOST)).websocket_connect("/live") as websocket,
        pytest.raises(WebSocketDisconnect) as caught,
    ):
        websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (1013, "")


@pytest.mark.parametrize("retry_after", [-1, 0.5, True, "1"])
def test_what_is_no_time(retry_after):
    with pytest.raises(ConfigurationError, match="retry_after must be whole seconds"):
        add_exception_handlers(Starlette(), retry_after=retry_after)


async def test_a_server_that_is_away(unused_tcp_port):
    """Within the deadline, by an application that was never connected."""
    clients = ClientRegistry()
    clients.register("cache", f"redis://127.0.0.1:{unused_tcp_port}", command_timeout=0.05)
    app = Starlette(routes=[COUNTING], lifespan=redis_lifespan(registry=clients))
    add_exception_handlers(app)

    def ask():
        with TestClient(app) as http:
            return http.get("/visits")

    answer = await asyncio.to_thread(ask)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


# -- without the packages ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "absent", "name"),
    [("starlette", "starlette.responses", "Starlette"), ("fastapi", "fastapi.requests", "FastAPI")],
)
def test_an_extra_that_is_not_installed(module, absent, name, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.delitem(sys.modules, f"aioredis_kit.integrations.{module}")
    text = f'aioredis_kit.integrations.{module} needs {name}: pip install "aioredis_kit[{module}]"'
    with pytest.raises(ImportError, match=re.escape(text)):
        importlib.import_module(f"aioredis_kit.integrations.{module}")
