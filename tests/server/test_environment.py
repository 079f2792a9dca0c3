"""A client that the environment describes reaches its server, as the user that it names."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import create_client_from_env
from aioredis_kit.testing import RedisServer

PASSWORD = "s3cret-of-ada:50%/"


@pytest.fixture(scope="module")
def server():
    with RedisServer(acl=[f"user ada on >{PASSWORD} ~* &* +@all"]) as server:
        yield server


@pytest.mark.parametrize("form", ["connection string", "URL", "host", "general"])
async def test_a_client_from_the_environment(form, server, monkeypatch):
    address = f"{server.host}:{server.port}"
    variables = {
        "connection string": {
            "ConnectionStrings__cache": f"{address},user=ada,password={PASSWORD},abortConnect=false,defaultDatabase=1"
        },
        "URL": {"CACHE_URI": f"redis://ada:s3cret-of-ada%3A50%25%2F@{address}/1"},
        "host": {
            "CACHE_HOST": server.host,
            "CACHE_PORT": str(server.port),
            "CACHE_USERNAME": "ada",
            "CACHE_PASSWORD": PASSWORD,
            "CACHE_SSL": "false",
            "CACHE_DB": "1",
        },
        "general": {"REDIS_URL": f"valkey://ada:s3cret-of-ada%3A50%25%2F@{address}/1?client_name=of-the-url"},
    }
    for name, value in variables[form].items():
        monkeypatch.setenv(name, value)
    async with asyncio.timeout(5), create_client_from_env("cache", client_name="web") as client:
        assert await client.acl_whoami() == "ada"
        info = await client.client_info()
        assert (info["name"], info["db"]) == ("web", 1)
