"""Tokens that live for seconds, under full load: nobody notices that they are renewed.

The service lets each token be a user of the server's own, and at its end removes that user, which closes all connections
that still are that user, as Azure does with those whose token has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from aioredis_kit import Credentials, KitError, create_client
from aioredis_kit.entra import EntraIdCredentials
from tests.support.identity import TokenEndpoint, jwt
from tests.support.observing import EventRecord, until

CALLERS = 100
LIFE = 4.0


class TokenService:
    """Issues tokens, and ends them.

    Attributes:
        issued: How many there were.
        killed: How many connections were still using one when it ended.
    """

    def __init__(self, admin, life):
        self.issued = 0
        self.killed = 0
        self._admin = admin
        self._life = life
        self._ending = set()

    async def __call__(self):
        """The provider, in the simplest form."""
        user = f"token{self.issued + 1}"
        password = await self.issue(user, f"s3cret-{user}")
        return Credentials(user, password, expires_at=time.time() + self._life)

    async def issue_jwt(self, number):
        """What a token endpoint issues."""
        user = f"oid{number}"
        return await self.issue(user, jwt(oid=user, exp=time.time() + self._life))

    async def issue(self, user, password):
        """Let a token be valid for a while."""
        self.issued += 1
        await self._admin.acl_setuser(
            user, enabled=True, passwords=[f"+{password}"], keys=["*"], channels=["*"], commands=["+@all"]
        )
        self._ending.add(asyncio.create_task(self._end(user)))
        return password

    async def _end(self, user):
        await asyncio.sleep(self._life)
        self.killed += sum(each["user"] == user for each in await self._admin.client_list())
        await self._admin.acl_deluser(user)

    async def stop(self):
        """Leave the rest as it is."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)


class Load:
    """All that a client does at once, and what came of it.

    Attributes:
        outcomes: How commands and transactions ended.
        popped: The elements that a blocking pop got.
        received: The messages of a subscription.
        gaps: How many of them were announced as missing.
    """

    def __init__(self, client):
        self.outcomes = Counter()
        self.popped = []
        self.received = []
        self.gaps = 0
        self._client = client
        self._is_over = False
        self._tasks = []

    def start(self):
        """Begin: callers, a subscription, a session that watches, and a blocked pop."""
        works = [self._call(number) for number in range(CALLERS)]
        works += [self._pop(), self._watch(), self._receive()]
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self, unblock):
        """End all, the pop by an element."""
        self._is_over = True
        await unblock()
        *working, receiving = self._tasks
        await asyncio.gather(*working)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)

    async def _call(self, number):
        while not self._is_over:
            try:
                await self._client.incr(f"counter:{number}")
            except KitError as error:
                self.outcomes[type(error).__name__] += 1
            else:
                self.outcomes["ok"] += 1

    async def _pop(self):
        while not self._is_over:
            if (element := await self._client.blpop("queue", timeout=30)) is not None:
                self.popped.append(element[1])

    async def _watch(self):
        async with self._client.dedicated() as session:
            while not self._is_over:
                async with session.pipeline() as pipe:
                    await pipe.watch("watched")
                    await asyncio.sleep(0.05)  # so that renewals fall between WATCH and EXEC
                    pipe.multi()
                    await pipe.incr("watched").execute()
                self.outcomes["transactions"] += 1

    async def _receive(self):
        async with self._client.subscribe("news") as messages:
            async for message in messages:
                self.gaps += message.is_gap
                self.received.append(message.data)


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
                events, load = EventRecord(client), Load(client)
                load.start()
                await until(lambda: load.outcomes["ok"] and load.outcomes["transactions"])
                before = {each["id"] for each in await admin.client_list()}
                began, sent, pushed = time.monotonic(), 0, 0
                while time.monotonic() - began < seconds:
                    sent += await admin.publish("news", sent)
                    await admin.rpush("queue", pushed)
                    pushed += 1
                    await asyncio.sleep(0.01)  # the pace of messages and elements
                await until(lambda: len(load.popped) == pushed and len(load.received) == sent)
                await load.stop(lambda: admin.rpush("queue", "end"))
                lost = before - {each["id"] for each in await admin.client_list()}
                authentications = (await admin.info("commandstats"))["cmdstat_auth"]["calls"]
                counters = await client.mget([f"counter:{number}" for number in range(CALLERS)])
        await service.stop()
    happened = Counter(events.names)
    print(
        f"{kind}: {service.issued} tokens, {dict(load.outcomes)}, {dict(happened)}, {len(load.received)} messages, "
        f"{len(load.popped)} elements, {service.killed} connections killed, {len(lost)} lost"
    )
    assert set(load.outcomes) == {"ok", "transactions"}
    assert sum(map(int, counters)) == load.outcomes["ok"]
    assert load.popped[:pushed] == [str(number) for number in range(pushed)]
    assert load.received == [str(number) for number in range(sent)]
    assert (load.gaps, len(lost), service.killed) == (0, 0, 0)
    assert happened["reconnecting"] == happened["error"] == 0
    renewals = service.issued - 1
    assert renewals >= seconds / life
    assert happened["credentials-renewed"] == renewals
    # Three shared connections, the push connection, and two leases; three where a pop ends while it is interrupted.
    assert renewals * 6 <= happened["reauthenticated"] <= renewals * 7
    assert authentications == happened["reauthenticated"]
