"""Passwords that are wrong, at a real server: from the start on, for a while, or suddenly."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import AuthenticationFailedError, ClientClosedError, CommandTimeoutError
from aioredis_kit.testing import RedisServer
from tests.support.observing import EventRecord, outcome


@pytest.fixture(scope="module")
def server():
    with RedisServer(acl=["user ada on >s3cret-right ~* &* +@all"]) as server:
        yield server


@pytest.fixture
async def admin(server):
    async with create_client(server.url, decode_responses=True) as admin:
        yield admin
        await admin.acl_setuser("ada", enabled=True, reset_passwords=True, passwords=["+s3cret-right"])


async def refusals(admin):
    """How often somebody was not let in."""
    return sum(int(each["count"]) for each in await admin.acl_log() if each["reason"] == "auth")


async def close_connections(admin):
    """As an operator does who has changed the password."""
    await admin.execute_command("CLIENT", "KILL", "USER", "ada")


@pytest.mark.pins("5.2", "4.18", "P3", "B12")
@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_wrong_password_is_final_at_once(server, admin, protocol):
    """There is one attempt; what waited was not sent, and is told why."""
    await admin.acl_log_reset()
    await admin.delete("k")
    options = {"username": "ada", "password": "s3cret-wrong", "protocol": protocol}
    client = create_client(host=server.host, port=server.port, **options)
    events = EventRecord(client)
    waiting = asyncio.create_task(client.set("k", 1))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        error = await outcome(client.connect())
    assert isinstance(error, AuthenticationFailedError)
    lost = await outcome(waiting)
    assert isinstance(lost, AuthenticationFailedError)
    assert lost.maybe_executed is False
    assert events.names == ["connect", "terminated", "error"]
    assert isinstance(await outcome(client.get("k")), ClientClosedError)
    assert await refusals(admin) == 1
    assert await admin.exists("k") == 0


@pytest.mark.pins("5.2", "B12")
@pytest.mark.parametrize("wrong", ["password", "user"])
async def test_a_provider_is_asked_again_by_the_strategy(server, admin, wrong):
    """It may know better the next time."""
    await admin.acl_log_reset()
    right = ("ada", "s3cret-right")
    answers = [("ada", "s3cret-wrong") if wrong == "password" else ("nobody", "s3cret-right")] * 2 + [right] * 9
    asked, decided = [], []

    def ask():
        asked.append(answers.pop(0))
        return asked[-1]

    def decide(retries, cause):
        decided.append((retries, type(cause)))
        return 0.01

    options = {"credential_provider": ask, "reconnect_strategy": decide, "decode_responses": True}
    client = create_client(host=server.host, port=server.port, **options)
    events = EventRecord(client)
    waiting = asyncio.create_task(client.acl_whoami())
    async with client:
        assert await waiting == "ada"
        assert len(asked) == 3
        assert decided == [(0, AuthenticationFailedError), (1, AuthenticationFailedError)]
        assert events.names == ["connect", "error", "reconnecting"] * 2 + ["connect", "ready"]
    assert await refusals(admin) == 2


@pytest.mark.pins("4.3", "P3")
async def test_a_password_that_changes_under_an_open_client(server, admin):
    """It has been right: so the client goes on trying, and commands wait by their deadlines, until it is right again."""
    options = {"username": "ada", "password": "s3cret-right", "connections": 3, "reconnect_strategy": 0.02}
    client = create_client(host=server.host, port=server.port, **options)
    async with client, client.subscribe("news") as messages:
        events = EventRecord(client)
        await client.set("k", 1)
        await admin.acl_setuser("ada", enabled=True, reset_passwords=True, passwords=["+s3cret-other"])
        assert await client.get("k") == b"1"  # who is in stays in
        await close_connections(admin)
        await events.wait_for("error", 4)
        late = await outcome(client.with_options(command_timeout=0.05).get("k"))
        assert isinstance(late, CommandTimeoutError)
        assert late.maybe_executed is False
        refused = [each for each in events.of("error") if isinstance(each, AuthenticationFailedError)]
        assert refused
        assert not any("s3cret-right" in str(each) for each in refused)
        waiting = asyncio.create_task(client.get("k"))
        assert client.is_open
        await admin.acl_setuser("ada", enabled=True, passwords=["+s3cret-right"])
        assert await waiting == b"1"
        assert (await messages.get(timeout=5)).is_gap
        assert "terminated" not in events.names


async def test_a_provider_follows_a_password_that_changes(server, admin):
    """Asked at each handshake: the connections are back without a refusal."""
    now = SimpleNamespace(password="s3cret-right")
    options = {"credential_provider": lambda: ("ada", now.password), "connections": 3, "reconnect_strategy": 0.0}
    async with create_client(host=server.host, port=server.port, **options) as client:
        events = EventRecord(client)
        await client.set("k", 1)
        await admin.acl_setuser("ada", enabled=True, reset_passwords=True, passwords=["+s3cret-other"])
        now.password = "s3cret-other"
        await close_connections(admin)
        await events.wait_for("ready")
        assert await client.get("k") == b"1"
        assert not [each for each in events.of("error") if isinstance(each, AuthenticationFailedError)]
