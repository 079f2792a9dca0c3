"""A token is renewed while connections are blocked: what can't be interrupted goes on, what can loses no time."""

from __future__ import annotations

import asyncio

import pytest

from aioredis_kit import TokenCredentials
from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.testing import resp
from tests.support.blocking import BlockingPeer, accounts, start_blocking, words_on
from tests.support.observing import outcome, until
from tests.support.token_source import LIFE, RENEWAL, Source, authentications

ELEMENT = resp.array(resp.bulk("k"), resp.bulk("v"))


@pytest.fixture
def source(clock, peer):
    peer.on("AUTH", resp.simple("OK"))
    peer.on("RESET", resp.simple("RESET"))
    return Source(clock)


@pytest.fixture
async def client(make_client, source):
    return await make_client(credential_provider=source.provider, ping_interval=None, reconnect_strategy=0.0).connect()


@pytest.fixture
def blocking(peer):
    return BlockingPeer(peer)


def blpops(peer):
    """The times for which elements were waited for, with the connections, in order."""
    words = [(connection.number, word) for connection in peer.connections for word in words_on(connection)]
    return [(number, float(word.rpartition(" ")[2])) for number, word in words if word.startswith("BLPOP")]


@pytest.mark.pins("P1", "P3")
async def test_without_the_right_to_unblock(clock, peer, source, client, blocking):
    """Who was denied what is dangerous lacks it. The connection authenticates when it has returned."""
    peer.on("CLIENT UNBLOCK", resp.error("NOPERM User app has no permissions to run the 'client|unblock' command"))
    task = await start_blocking(blocking, client.blpop("k", 1000))
    await asyncio.sleep(RENEWAL + 5)
    assert authentications(peer) == [(0, "token-1"), (1, "token-1"), (0, "token-2")]
    blocking.give(ELEMENT)
    assert await task == (b"k", b"v")
    await until(lambda: authentications(peer)[-1] == (1, "token-2"))
    assert accounts(client) == (0, 0, 1, 0)
    assert blpops(peer) == [(1, 1000.0)]


@pytest.mark.pins("P1", "P3")
async def test_while_there_is_no_connection_to_unblock_over(clock, peer, source, client, blocking):
    """It is interrupted when its token all but ends; then there is another connection for it."""
    task = await start_blocking(blocking, client.blpop("k", 1000))
    await asyncio.sleep(RENEWAL - 1)
    peer.on("HELLO", None)
    peer.connections[0].close()
    await asyncio.sleep(5)
    assert len(source.asked_at) == 2
    assert blpops(peer) == [(1, 1000.0)]
    peer.on("HELLO", resp.mapping({}))
    await asyncio.sleep(LIFE - 25 - clock())
    assert blpops(peer) == [(1, 1000.0)]
    await asyncio.sleep(5)
    assert blpops(peer)[1:] == [(len(peer.connections) - 1, pytest.approx(1000 - (LIFE - 24), abs=2))]
    blocking.give(ELEMENT)
    assert await task == (b"k", b"v")
    assert accounts(client)[:2] == (0, 0)


async def test_one_that_can_not_be_interrupted_over_several_renewals(clock, peer, source, make_client, blocking):
    """Its connection is replaced when its own token ends, and only that: others have authenticated, or just do."""
    provider = TokenCredentials(source, jitter=0, ratio=0.3)
    client = await make_client(credential_provider=provider, ping_interval=None).connect()
    task = await start_blocking(blocking, client.xread({"s": "$"}, block=0))
    await asyncio.sleep(0.9 * LIFE + 1)
    assert len(source.asked_at) == 4
    assert len(peer.connections) == 2
    blocking.give(resp.null())
    await task
    await client.get("k")
    assert len(peer.connections) == 2
    assert accounts(client)[2:] == (0, 0)


@pytest.mark.pins("P2")
async def test_one_that_is_refused_goes_on_elsewhere_for_the_rest_of_its_time(clock, peer, source, client, blocking):
    """However long it had blocked: that is no time spent on connecting."""
    task = await start_blocking(blocking, client.blpop("k", 300))
    peer.on("AUTH", *[resp.error("WRONGPASS invalid username-password pair")] * 2, resp.simple("OK"))
    await asyncio.sleep(RENEWAL + 5)
    assert [each for _, each in blpops(peer)] == [300.0, pytest.approx(300 - RENEWAL, abs=1)]
    assert len(peer.connections) == 4
    blocking.give(resp.null())
    assert await task is None
    assert accounts(client)[:2] == (0, 0)


@pytest.mark.pins("P1")
@pytest.mark.parametrize("turn", range(20))
async def test_a_session_that_ends_meanwhile(clock, peer, source, client, blocking, turn):
    """Its command is not sent again on a connection that is somebody else's by then."""
    session = await client.dedicated().connect()
    task = await start_blocking(blocking, session.blpop("k", 300))
    await asyncio.sleep(RENEWAL - 1)
    client._core.route(())._renewal._renew()
    for _ in range(turn):
        await asyncio.sleep(0)
    await session.close()
    assert isinstance(await outcome(task), ClientClosedError)
    await asyncio.sleep(5)
    assert not blocking.waiting
    assert accounts(client) == (0, 0, 1, 0)
