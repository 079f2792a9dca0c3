"""Who shares a provider of tokens, and for how long it is asked."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
from anyio.to_thread import current_default_thread_limiter, run_sync

from aioredis_kit import TokenCredentials, create_client
from aioredis_kit.exceptions import ConnectError
from aioredis_kit.testing import ScriptedPeer, resp
from tests.support.observing import EventRecord, outcome, turns, until
from tests.support.token_source import LIFE, RENEWAL, Source, authentications


@pytest.fixture
def source(clock, peer):
    peer.on("AUTH", resp.simple("OK"))
    return Source(clock)


@pytest.fixture
async def client(make_client, source):
    return await make_client(credential_provider=source.provider, ping_interval=None, reconnect_strategy=0.0).connect()


@pytest.mark.pins("case-75", "case-83", "P6")
@pytest.mark.parametrize("is_wrapped", [False, True])
async def test_clients_that_share_a_provider_share_its_tokens(clock, peer, source, make_client, is_wrapped):
    """One request for all; renewal goes on as long as one of them is open, and no longer."""
    provider = source.provider if is_wrapped else source
    clients = [make_client(credential_provider=provider, ping_interval=None) for _ in range(3)]
    await asyncio.gather(*(client.connect() for client in clients))
    assert source.asked_at == [0]
    await clients[0].close()
    await asyncio.sleep(LIFE)
    assert len(source.asked_at) == 2
    assert sorted(authentications(peer)) == [
        (0, "token-1"),
        (1, "token-1"),
        (1, "token-2"),
        (2, "token-1"),
        (2, "token-2"),
    ]
    for client in clients:
        await client.close()
    await asyncio.sleep(10 * LIFE)
    assert len(source.asked_at) == 2


@pytest.mark.pins("case-75")
@pytest.mark.parametrize("pause", [0, RENEWAL - 5, RENEWAL + 5])
async def test_all_users_of_a_provider_leave_and_one_comes_back(clock, peer, source, make_client, pause):
    """The token that was kept is used as long as it lives, and renewed in time; at once where that time has passed."""
    provider = source.provider
    async with make_client(credential_provider=provider, ping_interval=None) as first:
        await first.get("k")
    await asyncio.sleep(pause)
    assert source.asked_at == [0]
    async with make_client(credential_provider=provider, ping_interval=None):
        await asyncio.sleep(max(RENEWAL - pause, 0) + 1)
        assert len(source.asked_at) == 2
        assert authentications(peer) == [(0, "token-1"), (1, "token-1"), (1, "token-2")]
    await asyncio.sleep(2 * LIFE)
    assert len(source.asked_at) == 2


async def test_one_that_was_closed_while_it_renewed_is_opened_again(clock, peer, source, client):
    source.holds = asyncio.Event()
    await asyncio.sleep(RENEWAL + 1)
    await client.close()
    source.holds = None
    await client.connect()
    await until(lambda: authentications(peer)[1:] == [(1, "token-1"), (1, "token-3")])


@pytest.mark.pins("P2", "B16")
async def test_concurrent_first_callers_share_the_failure_as_well(clock, peer, source, make_client):
    source.answers = [ValueError("no")]
    options = {"credential_provider": source, "reconnect_strategy": False}
    clients = [make_client(**options) for _ in range(5)]
    errors = await asyncio.gather(*(client.connect() for client in clients), return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectError] * 5
    assert len(source.asked_at) == 1


@pytest.mark.pins("P6")
async def test_destroyed_as_a_lease_was_given_back(clock, peer, source, client):
    """What has just begun to reset it does not use the provider again."""
    provider = client._core.route(())._renewal
    async with client.dedicated() as session:
        await session.select(1)
    client.destroy()
    await turns()
    assert not provider._users


@pytest.mark.pins("P2", "P6")
async def test_whoever_asks_is_closed(clock, peer, source, make_client):
    """Another one that waits asks anew."""
    source.holds = asyncio.Event()
    first, second = (make_client(credential_provider=source) for _ in range(2))
    connecting = [asyncio.create_task(client.connect()) for client in (first, second)]
    await until(lambda: source.asked_at)
    await first.close()
    await until(lambda: len(source.asked_at) == 2)
    source.holds.set()
    assert await connecting[1] is second
    assert isinstance(await outcome(connecting[0]), Exception)


@pytest.mark.pins("P2")
async def test_a_provider_in_a_thread_while_the_threads_of_others_are_all_in_use(peer, make_client):
    """By those, perhaps, who wait for this client."""
    done = threading.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(int(current_default_thread_limiter().total_tokens)):
            tasks.create_task(run_sync(done.wait))
        await until(lambda: current_default_thread_limiter().available_tokens == 0)
        try:
            client = await make_client(credential_provider=lambda: ("app", "token-1")).connect()
            assert await client.get("k") == b"k"
        finally:
            done.set()
    assert authentications(peer) == [(0, "token-1")]


@pytest.mark.pins("P5")
@pytest.mark.parametrize("is_wrapped", [False, True])
async def test_a_provider_whose_threads_do_not_come_back(clock, peer, make_client, is_wrapped):
    """It is not given ever more of them; when they do come back it is asked again."""
    ended = threading.Event()
    asked = []

    def hang():
        asked.append(clock())
        ended.wait()
        return "app", "token-1"

    provider = TokenCredentials(hang) if is_wrapped else hang
    client = make_client(credential_provider=provider, initial_connect_timeout=None)
    events = EventRecord(client)
    connecting = asyncio.create_task(client.connect())
    try:
        await asyncio.sleep(400)
    finally:
        ended.set()
    assert len(asked) == 10
    assert str(events.of("error")[-1]) == "the credential provider has not come back from 10 earlier calls"
    assert await connecting is client
    assert authentications(peer) == [(0, "token-1")]


async def test_a_provider_that_nobody_has_any_more_is_forgotten(clock, peer):
    """Although clients that are given the same one find each other by it."""
    source = Source(clock)
    async with create_client(peer.url, credential_provider=source) as client:
        await client.get("k")
    reference = weakref.ref(source)
    del client, source
    gc.collect()
    assert reference() is None


async def test_providers_that_are_equal_are_one(clock, peer):
    """Each mention of a method makes an object. Tokens are renewed for as long as there is any of them."""
    peer.on("AUTH", resp.simple("OK"))
    source = Source(clock)
    options = {"ping_interval": None, "reconnect_strategy": 0.0}
    first = await create_client(peer.url, credential_provider=source.get_credentials, **options).connect()
    async with create_client(peer.url, credential_provider=source.get_credentials, **options) as second:
        assert source.asked_at == [0]
        await first.close()
        del first
        gc.collect()
        await asyncio.sleep(LIFE)
        assert len(source.asked_at) == 2
        assert authentications(peer)[-1] == (1, "token-2")
    reference = weakref.ref(source)
    del second, source
    gc.collect()
    assert reference() is None


def test_a_provider_outlives_event_loops():
    """Each has its own tokens, and what was kept for one that is closed is let go of."""
    provider = TokenCredentials(lambda: ("app", "s3cret"))
    for _ in range(3):
        asyncio.run(_use(provider))
    assert len(provider._renewals) == 1


async def _use(provider):
    async with ScriptedPeer() as peer, create_client(peer.url, credential_provider=provider) as client:
        assert await client.ping() is True
