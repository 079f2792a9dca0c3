"""Libraries that were written for redis-py's client run unmodified on ours, in an environment of their own.

Their metadata may cap redis-py below the version that we need: that is overridden, as the README shows.
"""

from __future__ import annotations

import tomllib

import pytest

from tests.support.outside import ROOT, make_outside

_SAME_START = """
import asyncio
import sys
from importlib.metadata import version

import httpx

from aioredis_kit import create_client

assert version("redis").startswith("8."), version("redis")
"""

_LITESTAR = f"""{_SAME_START}
from datetime import timedelta

from litestar import Litestar, get
from litestar.config.response_cache import ResponseCacheConfig
from litestar.stores.redis import RedisStore

calls = []


@get("/slow", cache=60)
async def slow() -> dict[str, int]:
    calls.append(1)
    return {{"calls": len(calls)}}


async def main(url: str) -> None:
    client = create_client(url)
    store = RedisStore(client, namespace="mine", handle_client_shutdown=True)
    async with store:
        await store.set("a", "text")
        await store.set("b", b"bytes", expires_in=timedelta(seconds=100))
        assert await store.get("a") == b"text"
        assert await store.get("b", renew_for=200) == b"bytes"
        assert 100 < await store.expires_in("b") <= 200
        assert await store.expires_in("missing") is None
        assert await store.exists("a")
        await store.delete("a")
        assert await store.get("a") is None
        await client.set("not-its", 1)
        within = store.with_namespace("deep")
        await within.set("c", "v")
        assert await client.exists("mine_deep:c")
        app = Litestar([slow], stores={{"cache": store}}, response_cache_config=ResponseCacheConfig(store="cache"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            answers = [(await http.get("/slow")).json() for _ in range(3)]
        assert answers == [{{"calls": 1}}] * 3, answers
        await store.delete_all()
        assert not [key async for key in client.scan_iter("mine*")]
        assert await client.exists("not-its")
    assert not client.is_open
    print("fine")


asyncio.run(main(sys.argv[1]))
"""

_LIMITER = f"""{_SAME_START}
from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter


async def make_limiter(client):
    if version("fastapi-limiter") < "0.2":  # it asks redis itself
        from fastapi_limiter import FastAPILimiter

        await FastAPILimiter.init(client)
        return RateLimiter(times=3, seconds=60), FastAPILimiter.close
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

    bucket = await RedisBucket.init([Rate(3, Duration.MINUTE)], client, "bucket")
    return RateLimiter(limiter=Limiter(bucket)), client.aclose


async def main(url: str) -> None:
    client = create_client(url)
    limiter, close = await make_limiter(client)
    app = FastAPI()

    @app.get("/", dependencies=[Depends(limiter)])
    async def index():
        return "here"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answers = [(await http.get("/")).status_code for _ in range(3)]
        assert answers == [200, 200, 200], answers
        if version("fastapi-limiter") < "0.2":  # the later one does not load its script again
            await client.script_flush()  # as a restarted server has none
        answers = [(await http.get("/")).status_code for _ in range(2)]
        assert answers == [429, 429], answers
    await close()
    assert not client.is_open
    print("fine")


asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def outside(tmp_path, is_long):
    """An environment in which redis-py is what we need."""
    if not is_long:
        pytest.skip("installs packages into a fresh environment: run with --long")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (ours,) = (each for each in project["dependencies"] if each.startswith("redis["))
    return make_outside(tmp_path, probe="httpx", override=ours)


@pytest.mark.parametrize(
    ("requirement", "program"),
    [
        ("litestar[redis]", _LITESTAR),
        ("fastapi-limiter<0.2", _LIMITER),
        ("fastapi-limiter>=0.2", _LIMITER),
    ],
)
def test_a_library_runs(outside, tmp_path, redis_url, requirement, program):
    outside.install(ROOT, requirement)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = outside.run("-W", "error::ResourceWarning", tmp_path / "program.py", redis_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "fine\n"
