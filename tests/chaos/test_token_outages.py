"""A token endpoint that fails in every way, and a server that is killed, under full load, with tokens that really end.

As long as the token lives nobody notices. When it has ended the server closes all connections; commands then wait by
their own deadlines, the endpoint is asked at the pace of the backoff, and all goes on by itself once it answers again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import anyio.to_thread
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError
from redis.exceptions import AuthenticationError

from aioredis_kit import create_client
from aioredis_kit.entra import EntraIdCredentials
from aioredis_kit.exceptions import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    TokenRenewalError,
)
from aioredis_kit.testing import RedisServer
from tests.support.identity import REFUSE, MachineIdentity, TokenEndpoint, jwt
from tests.support.observing import EventRecord, until
from tests.support.token_load import CALLERS, Feed, Load, TokenService

pytestmark = pytest.mark.only_long


def body(token, expires_on):
    """What an endpoint answers that thinks that all is well."""
    answer = {"access_token": token, "expires_on": str(int(expires_on)), "token_type": "Bearer", "resource": "r"}
    return 200, {}, json.dumps(answer)


class Outage(NamedTuple):
    """How the endpoint fails, and what is then told to be the cause.

    Attributes:
        answer: What it answers.
        cause: The class of the error that is the cause.
        seconds: For how long at least, where it outlasts the token.
        retries: How often azure-identity tries again by itself.
    """

    answer: object
    cause: type
    seconds: float = 0.0
    retries: int = 0


OUTAGES = {
    "500": Outage(lambda: (500, {}, "s3cret"), HttpResponseError),
    "down": Outage(REFUSE, ServiceRequestError),
    "silent": Outage(lambda: None, TimeoutError),
    "429": Outage(lambda: (429, {"Retry-After": "1"}, ""), HttpResponseError),
    "garbage": Outage(lambda: (200, {}, "garbage s3cret"), ClientAuthenticationError),
    "no oid": Outage(lambda: body(jwt(sub="s3cret"), time.time() + 60), ConfigurationError),
    "ended": Outage(lambda: body(jwt(oid="machine"), time.time() - 1), ConfigurationError),
}
LONG_OUTAGES = OUTAGES | {
    "down for 30 s": Outage(REFUSE, ServiceRequestError, seconds=30.0, retries=3),
    "429 for 10 s, and it waits": Outage(lambda: (429, {"Retry-After": "1"}, ""), HttpResponseError, 10.0, 3),
}


def each_of(outages):
    """Run a test for each outage, and in the short form for the first one."""
    first, *others = (pytest.param(each, id=name) for name, each in outages.items())
    only_long = [pytest.param(*each.values, id=each.id, marks=pytest.mark.only_long) for each in others]
    return pytest.mark.parametrize("outage", [first, *only_long])


def most_requests(seconds):
    """How often a provider is asked at most in a time in which nobody has a token: after 0.05 s, 0.1 s, … 2 s, 2 s."""
    count, rest = 1, 0.05
    while seconds > 0:
        count, seconds, rest = count + 1, seconds - rest, min(2 * rest, 2.0)
    return count


FAILURES = {
    ("ConnectionLostError", True),
    ("ConnectionLostError", False),  # a session whose connection was lost before the command
    ("CommandTimeoutError", False),
    ("CommandTimeoutError", True),
    ("PoolExhaustedError", False),
    ("WatchError", None),
}


class Scene:
    """A server, a token endpoint, and a client with all its work, from the moment on at which all of that goes on.

    Attributes:
        server: The server.
        admin: A client that may do all.
        service: Lets tokens in, and ends them.
        endpoint: Issues tokens.
        identity: Asks it for them, and knows when.
        client: The client.
        events: Its events.
        load: Its work.
        feed: Messages and elements for it.
    """

    def __init__(self, **parts):
        vars(self).update(parts)

    async def connections(self):
        """Those of the client, by id, with their users."""
        return {each["id"]: each["user"] for each in await self.admin.client_list() if each["user"] != "default"}

    async def stat(self, name):
        """A number of the server's INFO."""
        return (await self.admin.info())[name]

    async def refusals(self):
        """How often somebody was not let in."""
        return sum(int(each["count"]) for each in await self.admin.acl_log() if each["reason"] == "auth")

    async def all_goes_on(self):
        """Wait until each kind of work has made progress."""
        load = self.load
        done, transactions, received = load.outcomes["ok"], load.outcomes["transactions"], len(load.received)
        await self.feed.go_on_while(
            lambda: (
                not (
                    load.outcomes["ok"] > done + 10 * CALLERS
                    and load.outcomes["transactions"] > transactions
                    and len(load.received) > received
                )
            )
        )

    def check_failures(self):
        """Nothing failed but by what an outage explains, and nothing came twice or out of order."""
        assert set(self.load.outcomes) <= FAILURES | {"ok", "transactions"}
        elements = [int(each) for each in self.load.popped if each != "end"]
        assert elements == sorted(set(elements))
        assert len(elements) >= self.feed.pushed - self.load.lost_pops
        messages = [int(each) for each in self.load.received]
        assert messages == sorted(set(messages))

    async def end(self):
        """Let the work end, and check what came of it."""
        await self.load.stop(lambda: self.admin.rpush("queue", "end"))
        self.load.check_counters(await self.client.mget([f"counter:{number}" for number in range(CALLERS)]))

    def report(self, what):
        """Print what happened."""
        load, happened = self.load, Counter(self.events.names)
        print(
            f"{what}: {dict(load.outcomes)}; {dict(happened)}; {len(self.identity.asked_at)} asked, "
            f"{len(self.endpoint.requests)} requests, {self.service.issued} tokens, {self.service.killed} killed; "
            f"{len(load.received)} of {self.feed.published} messages, {load.gaps} gaps; "
            f"{len(load.popped)} of {self.feed.pushed} elements, {load.lost_pops} pops unknown"
        )
        return happened


@asynccontextmanager
async def scene(server, monkeypatch, *, life, ratio, retries=0, saves=False, **options):
    """Make one."""
    monkeypatch.setattr("aioredis_kit.lanes.dedicated.IDLE_LIFE", 3600)  # a connection that is closed was lost
    identity = MachineIdentity(retries)
    provider = EntraIdCredentials(identity, ratio=ratio, jitter=0.0)
    options = {"connections": 3, "decode_responses": True, "credential_provider": provider} | options
    async with create_client(server.url, decode_responses=True) as admin:
        service = TokenService(admin, life, saves=saves)
        async with TokenEndpoint(service.issue_jwt, life=life) as endpoint:
            endpoint.pretend(monkeypatch)
            async with create_client(server.url, **options) as client:
                load = Load(client)
                load.start()
                await until(lambda: load.outcomes["ok"] and load.outcomes["transactions"])
                yield Scene(
                    server=server,
                    admin=admin,
                    service=service,
                    endpoint=endpoint,
                    identity=identity,
                    client=client,
                    events=EventRecord(client),
                    load=load,
                    feed=Feed(admin),
                )
        await service.stop()


@pytest.mark.shows_secrets("cause", reason="azure-identity's errors quote what the endpoint answers")
@pytest.mark.pins("P1", "P3", "P7")
@each_of(OUTAGES)
async def test_shorter_than_the_tokens_life(server, is_long, monkeypatch, outage):
    """No command fails, no connection is closed. Each failure is told, and then each connection authenticates once."""
    life, failures = (5.0, 4) if is_long else (3.0, 1)
    monkeypatch.setattr("aioredis_kit.lanes.renewal.CREDENTIALS_TIMEOUT", 0.3)
    async with scene(server, monkeypatch, life=life, ratio=0.05) as on:
        events, load, feed = on.events, on.load, on.feed
        before, ends_at, began = await on.connections(), on.endpoint.ends_at, time.monotonic()
        await on.endpoint.fail(outage.answer)
        await feed.go_on_while(lambda: events.names.count("error") < failures)
        await on.endpoint.restore()
        on.service.life = on.endpoint.life = 600.0  # so that there is one renewal and no more
        await feed.go_on_while(lambda: events.names.count("credentials-renewed") == 0)
        seconds = time.monotonic() - began
        async with asyncio.timeout(5):
            while len(set((after := await on.connections()).values())) > 1 or after.keys() < before.keys():
                await feed.go_on_for(0.02)
        if is_long:
            await feed.go_on_while(lambda: on.service.ended == 0)
        await until(lambda: len(load.popped) == feed.pushed and len(load.received) == feed.delivered)
        calls = (await on.admin.info("commandstats"))["cmdstat_auth"]["calls"]
        await on.end()
        refusals = await on.refusals()
    happened = on.report(f"{outage.cause.__name__} for {seconds:.1f} s")
    assert (load.failures, load.gaps, on.service.killed, refusals) == (0, 0, 0, 0)
    assert load.popped[: feed.pushed] == [str(number) for number in range(feed.pushed)]
    assert load.received == [str(number) for number in range(feed.delivered)]
    assert before.keys() <= after.keys()
    assert happened["reconnecting"] == 0
    assert failures <= happened["error"] <= failures + 1
    for error in events.of("error"):
        assert isinstance(error, TokenRenewalError)
        assert isinstance(error.__cause__, outage.cause)
        assert error.expires_at == ends_at
        assert "s3cret" not in str(error)
    # The first when it is time, and each of the others after a pause.
    assert len(on.identity.asked_at) == happened["error"] + 2
    assert len(on.identity.asked_at) - 1 <= 1 + seconds / 0.5
    assert happened["credentials-renewed"] == 1
    # Three shared connections, the push connection, and two leases; three where a pop ends while it is interrupted.
    assert 6 <= calls == happened["reauthenticated"] <= 7


@pytest.mark.shows_secrets("cause", reason="azure-identity's errors quote what the endpoint answers")
@pytest.mark.pins("P1", "P2", "P3", "4.3", "4.11")
@each_of(LONG_OUTAGES)
async def test_longer_than_the_tokens_life(server, is_long, monkeypatch, outage):
    """The server closes all connections. Commands wait by their deadlines, and all goes on by itself."""
    life, timeout, rounds = (4.0, 1.0, 3) if is_long else (1.7, 0.4, 1)
    monkeypatch.setattr("aioredis_kit.lanes.renewal.CREDENTIALS_TIMEOUT", 30.0 if outage.retries else 0.3)
    options = {"life": life, "ratio": 0.05, "retries": outage.retries, "command_timeout": timeout}
    late = "CommandTimeoutError", False
    async with scene(server, monkeypatch, **options) as on:
        load, feed = on.load, on.feed
        await on.endpoint.fail(outage.answer)
        await feed.go_on_while(lambda: on.service.ended == 0)
        ended_at = time.monotonic()
        before = await on.stat("total_connections_received")
        await feed.go_on_for(outage.seconds)
        await feed.go_on_while(lambda: load.outcomes[late] < rounds * CALLERS)
        assert await on.stat("total_connections_received") == before
        seconds = time.monotonic() - ended_at
        asked = sum(each >= ended_at for each in on.identity.asked_at)
        on.service.life = on.endpoint.life = 600.0
        await on.endpoint.restore()
        seen = len(load.received)
        await on.all_goes_on()
        back = time.monotonic() - ended_at - seconds
        await until(lambda: len(load.popped) + load.lost_pops >= feed.pushed)
        accepted = await on.stat("total_connections_received") - before
        await on.end()
        refusals = await on.refusals()
    happened = on.report(
        f"{outage.cause.__name__}, {seconds:.1f} s beyond the end ({asked} asked, {accepted} connections), "
        f"back in {back:.1f} s"
    )
    assert asked <= most_requests(seconds)
    on.check_failures()
    assert load.outcomes["ConnectionLostError", True] <= CALLERS + 1
    assert load.outcomes[late] >= rounds * CALLERS
    assert (load.gaps, refusals) == (1, 0)
    assert len(load.received) > seen
    assert on.service.issued == 2
    # Three shared connections, the push connection, and two leases. None was tried before there was a token.
    assert on.service.killed == 6
    assert 6 <= accepted <= 7
    assert (happened["reconnecting"] > 0, happened["connect"], happened["ready"]) == (True, 3, 1)
    errors = on.events.of("error")
    assert {type(error) for error in errors} <= {
        TokenRenewalError,
        ConnectError,
        ConnectTimeoutError,
        ConnectionLostError,
    }
    assert not any("s3cret" in str(error) for error in errors)
    assert any(isinstance(error.__cause__, outage.cause) for error in errors)


@pytest.mark.only_long
@pytest.mark.pins("P1", "P2", "P3", "4.11")
async def test_kills_amid_renewals(monkeypatch, tmp_path, rng):
    """Each renewal is one request, also when all connections of three clients come back at once; none uses an old token."""
    kills, life, ratio = 8, 3.0, 0.3
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\n", encoding="ascii")
    with RedisServer(persistence="aof", config={"aclfile": users}) as server:
        async with scene(server, monkeypatch, life=life, ratio=ratio, saves=True) as on, AsyncExitStack() as others:
            began, refusals = time.monotonic(), 0
            provider = on.client._core.equipment.options.credential_provider
            options = {"connections": 3, "credential_provider": provider}
            clients = [await others.enter_async_context(create_client(server.url, **options)) for _ in range(2)]
            records = [EventRecord(each) for each in (on.client, *clients)]
            for _ in range(kills):
                await on.feed.go_on_for(rng.uniform(0.1, life))
                refusals += await on.refusals()
                server.kill()
                await asyncio.sleep(rng.uniform(0, 0.5))  # so that what is under way is in any state when it comes back
                await anyio.to_thread.run_sync(server.start)
                await on.all_goes_on()
                assert all(await asyncio.gather(*(each.ping() for each in clients)))
            await until(lambda: len(on.load.popped) + on.load.lost_pops >= on.feed.pushed)
            seconds = time.monotonic() - began
            await on.end()
            refusals += await on.refusals()
    happened = on.report(f"{kills} kills in {seconds:.1f} s, {refusals} refusals")
    errors = [error for each in records for error in each.of("error")]
    print(Counter(type(error).__name__ for error in errors))
    on.check_failures()
    assert on.load.outcomes["ConnectionLostError", True] <= kills * (CALLERS + 1)
    assert (refusals, on.service.killed) == (0, 0)
    assert not [error for error in errors if isinstance(error, AuthenticationError | TokenRenewalError)]
    assert len(on.endpoint.requests) == on.service.issued == len(on.identity.asked_at)
    assert happened["credentials-renewed"] <= on.service.issued - 1 <= happened["credentials-renewed"] + 1
    assert on.service.issued - 1 <= seconds / (ratio * (life - 1)) + 1
