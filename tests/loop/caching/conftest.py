"""A peer with tracking, and clients with a cache."""

from __future__ import annotations

import pytest

from aioredis_kit import CacheOptions
from aioredis_kit.testing import resp
from tests.support.caching import LASTING


@pytest.fixture
def server(peer):
    """The peer, with tracking and keys that do not end."""
    peer.on("PTTL", resp.integer(-1))
    peer.on("CLIENT CACHING", resp.simple("OK"))
    return peer


@pytest.fixture
async def client(server, make_client):
    return await make_client(client_side_cache=LASTING, reconnect_strategy=0.0, ping_interval=None).connect()


@pytest.fixture
async def expiring(clock, server, make_client):
    return await make_client(client_side_cache=CacheOptions(), ping_interval=None).connect()
