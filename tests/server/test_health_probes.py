"""``/health/live`` and ``/health/ready``, as an ASGI application of its own and as Starlette's and FastAPI's routes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from aioredis_kit import create_client
from aioredis_kit.integrations.health import HealthApp, health_routes, live, ready
from aioredis_kit.testing import FaultProxy
from tests.support.observing import until


async def fetch(app, path, *, method="GET", **scope):
    """Ask an ASGI application; return the status, the headers and the answer."""
    messages = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
             "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [], "scheme": "http",
             "server": ("kit", 80), "client": ("kit", 1)} | scope  # fmt: skip
    await app(scope, receive, send)
    body = b"".join(each.get("body", b"") for each in messages[1:])
    headers = dict(messages[0]["headers"])
    is_json = headers.get(b"content-type") == b"application/json"
    return messages[0]["status"], headers, json.loads(body) if body and is_json else None


def plain(client):
    return HealthApp(client, timeout=0.2)


def plain_for_each_request(client):
    return HealthApp(lambda scope: client, timeout=0.2)


def starlette(client):
    applications = pytest.importorskip("starlette.applications")
    return applications.Starlette(routes=health_routes(lambda request: client, timeout=0.2))


def mounted(client):
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/health", HealthApp(client, timeout=0.2))])


def fastapi(client):
    app = pytest.importorskip("fastapi").FastAPI()
    app.router.routes.extend(health_routes(client, timeout=0.2))
    return app


@pytest.fixture
async def proxy(redis_server):
    async with FaultProxy.for_url(redis_server.url) as proxy:
        yield proxy


@pytest.mark.parametrize("make_app", [plain, plain_for_each_request, starlette, mounted, fastapi])
async def test_the_two_probes(proxy, make_app):
    """Without its server a process is live and not ready; when its client has ended it is neither."""
    make_app(None)  # to import a framework blocks the loop, which would be told
    async with create_client(proxy.url, reconnect_strategy=0.05) as client:
        app = make_app(client)
        assert (await fetch(app, "/other"))[0] == 404
        status, headers, answer = await fetch(app, "/health/ready")
        assert (status, answer["reasons"], answer["ready"]) == (200, [], True)
        assert answer["latency"] > 0
        assert (headers[b"content-type"], headers[b"cache-control"]) == (b"application/json", b"no-store")
        assert (await fetch(app, "/health/live"))[0] == 200
        assert (await fetch(app, "/health/ready", method="HEAD"))[0] == 200
        proxy.refuse()
        proxy.cut()
        await until(lambda: not client.is_ready)
        status, _, answer = await fetch(app, "/health/ready")
        assert (status, answer["status"], answer["live"]) == (503, "unavailable", True)
        assert answer["reasons"][0]["concern"] == "not connected"
        assert (await fetch(app, "/health/live"))[0] == 200
    for path in ("/health/live", "/health/ready"):
        status, _, answer = await fetch(app, path)
        assert (status, answer["status"]) == (503, "dead")


async def test_only_readiness_opens_a_client(redis_url):
    client = create_client(redis_url)
    assert (await live(client))[0] == 200
    assert not client.is_open
    status, answer = await ready(client, timeout=5)
    assert (status, answer["status"], client.is_ready) == (200, "ok", True)
    await client.close()


async def test_what_is_no_probe(redis_url):
    async with create_client(redis_url) as client:
        assert (await fetch(HealthApp(client), "/health/other"))[0] == 404
        with pytest.raises(RuntimeError, match="HealthApp answers HTTP requests, not 'websocket': mount it"):
            await fetch(HealthApp(client), "/health/live", type="websocket")


def test_only_the_routes_need_starlette():
    """The rest is there without it, and what needs it says so."""
    code = """
import sys
sys.modules["starlette"] = None
from aioredis_kit.integrations.health import HealthApp, health_routes
try:
    health_routes(None)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'health_routes needs Starlette: pip install "aioredis_kit[starlette]"' in done.stdout
