"""Tokens that live for seconds, under full load: nobody notices that they are renewed."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from aioredis_kit import create_client
from aioredis_kit.entra import EntraIdCredentials
from tests.support.identity import TokenEndpoint
from tests.support.observing import EventRecord, until
from tests.support.token_load import CALLERS, Feed, Load, TokenService

LIFE = 4.0


async def once_all_is_counted(admin, service, events):
    """Return what happened, when no token is just being renewed, and the server counts as many AUTH as the client."""
    async with asyncio.timeout(10):
        while True:
            authentications = (await admin.info("commandstats"))["cmdstat_auth"]["calls"]
            happened = Counter(events.names)
            renewals = happened["credentials-renewed"]
            # Three shared connections, the push connection, and two leases.
            if renewals == service.issued - 1 and renewals * 6 <= happened["reauthenticated"] == authentications:
                return happened


@pytest.mark.pins("P1", "P3")
@pytest.mark.parametrize("kind", ["callable", pytest.param("Entra ID", marks=pytest.mark.only_long)])
async def test_nobody_notices(server, is_long, monkeypatch, kind):
    """Callers, a subscription, a watch and a blocked pop go on; each token is asked for once, and used once a connection."""
    life, seconds = (LIFE, 60.0) if is_long else (0.8, 1.8)
    options = {"connections": 3, "decode_responses": True, "command_timeout": 10}
    monkeypatch.setattr("aioredis_kit.lanes.dedicated.IDLE_LIFE", 3600)  # a connection that is closed was lost
    async with create_client(server.url) as admin:
        service = TokenService(admin, life)
        async with TokenEndpoint(service.issue_jwt, life=life) as endpoint:
            endpoint.pretend(monkeypatch)
            provider = service if kind == "callable" else EntraIdCredentials.managed_identity()
            async with create_client(server.url, credential_provider=provider, **options) as client:
                events, load, feed = EventRecord(client), Load(client), Feed(admin)
                load.start()
                await until(lambda: load.outcomes["ok"] and load.outcomes["transactions"])
                before = {each["id"] for each in await admin.client_list()}
                await feed.go_on_for(seconds)
                await until(lambda: len(load.popped) == feed.pushed and len(load.received) == feed.delivered)
                await load.stop(lambda: admin.rpush("queue", "end"))
                lost = before - {each["id"] for each in await admin.client_list()}
                happened = await once_all_is_counted(admin, service, events)
                counters = await client.mget([f"counter:{number}" for number in range(CALLERS)])
        await service.stop()
    print(
        f"{kind}: {service.issued} tokens, {dict(load.outcomes)}, {dict(happened)}, {len(load.received)} messages, "
        f"{len(load.popped)} elements, {service.killed} connections killed, {len(lost)} lost"
    )
    assert set(load.outcomes) == {"ok", "transactions"}
    assert sum(map(int, counters)) == load.outcomes["ok"]
    assert load.popped[: feed.pushed] == [str(number) for number in range(feed.pushed)]
    assert load.received == [str(number) for number in range(feed.delivered)]
    assert (load.gaps, len(lost), service.killed) == (0, 0, 0)
    assert happened["reconnecting"] == happened["error"] == 0
    assert happened["credentials-renewed"] >= seconds / life - 1
    # Once more where a pop ends while it is interrupted.
    assert happened["reauthenticated"] <= happened["credentials-renewed"] * 7
