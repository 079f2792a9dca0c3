"""Methods that have a shorter way than redis-py's take what redis-py's take."""

import inspect

import pytest
from redis.asyncio import Redis

from aioredis_kit import RedisClient


@pytest.mark.parametrize("name", ["get", "set", "hgetall"])
def test_parameters_are_redis_pys(name):
    def parameters(kind):
        return [
            (each.name, each.kind, each.default) for each in inspect.signature(getattr(kind, name)).parameters.values()
        ]

    assert parameters(RedisClient) == parameters(Redis)
