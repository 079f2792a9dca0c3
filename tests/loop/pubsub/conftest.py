"""A peer that is a server of channels, under both protocols, and a client of it."""

from __future__ import annotations

import pytest

from tests.support.broadcaster import Broadcaster


@pytest.fixture(params=[3, 2], ids=["RESP3", "RESP2"])
def protocol(request):
    return request.param


@pytest.fixture
def broadcaster(peer, protocol):
    return Broadcaster(peer, protocol)


@pytest.fixture
async def client(make_client, broadcaster, protocol):
    """A connected client that decodes."""
    options = {"protocol": protocol, "decode_responses": True, "reconnect_strategy": 0.0, "close_timeout": 1.0}
    return await make_client(**options).connect()
