"""Tokens: renewed before they end, and used by connections that are open, between their commands."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest
from tenacity import wait_fixed
from tenacity.wait import wait_base

from aioredis_kit import Credentials, TokenCredentials
from aioredis_kit.exceptions import AuthenticationFailedError, ConnectError, TokenRenewalError
from aioredis_kit.testing import resp
from tests.support.blocking import BlockingPeer, accounts, dedicated_lane, start_blocking, words_on
from tests.support.broadcaster import Broadcaster
from tests.support.observing import EventRecord, turns, until
from tests.support.token_source import LIFE, RENEWAL, Source, authentications
from tests.support.virtual_time import EPOCH


@pytest.fixture
def source(clock, peer):
    peer.on("AUTH", resp.simple("OK"))
    return Source(clock)


@pytest.fixture
async def client(make_client, source):
    return await make_client(credential_provider=source.provider, ping_interval=None, reconnect_strategy=0.0).connect()


# -- renewal ----------------------------------------------------------------------------------------


@pytest.mark.pins("case-76")
async def test_a_token_is_renewed_and_used_on_the_open_connection(clock, peer, source, client):
    events = EventRecord(client)
    await asyncio.sleep(RENEWAL + 1)
    assert source.asked_at == [0, RENEWAL]
    assert authentications(peer) == [(0, "token-1"), (0, "token-2")]
    assert events == [("credentials-renewed", EPOCH + RENEWAL + LIFE), ("reauthenticated",)]
    assert await client.get("k") == b"k"
    await asyncio.sleep(10 * RENEWAL)
    assert len(source.asked_at) == 12
    assert len(authentications(peer)) == 12
    assert len(peer.connections) == 1


async def test_on_every_shared_connection_once(clock, peer, source, make_client):
    options = {"credential_provider": source.provider, "connections": 3, "ping_interval": None}
    await make_client(**options).connect()
    await asyncio.sleep(RENEWAL + 1)
    assert source.asked_at == [0, RENEWAL]
    assert sorted(authentications(peer)) == [(number, f"token-{token}") for number in range(3) for token in (1, 2)]


@pytest.mark.pins("P1", "P4")
async def test_in_order_with_the_commands(clock, peer, source, client):
    """Those before it are answered before it, those after it behind it."""
    peer.on("GET", None)
    peer.on("AUTH", None)
    before = asyncio.create_task(client.with_options(command_timeout=None).get("before"))
    await peer.wait_for_command("GET")
    await asyncio.sleep(RENEWAL + 1)
    behind = asyncio.create_task(client.with_options(command_timeout=None).get("behind"))
    await peer.wait_for_command("GET", count=2)
    peer.connections[0].send(resp.bulk("1"), resp.simple("OK"), resp.bulk("2"))
    assert [await before, await behind] == [b"1", b"2"]
    assert [each.name for each in peer.commands if each.name in ("GET", "AUTH")] == ["GET", "AUTH", "GET"]


@pytest.mark.shows_secrets("cause", reason="what the provider raises has one in its text")
@pytest.mark.pins("case-80", "case-81", "P7", "B15")
async def test_a_renewal_that_fails_is_reported_and_tried_again(clock, peer, source, client):
    """The connection goes on; the error says until when, and names no secret.

    Other than in node-redis there is no renewal that is not tried again while the token lives.
    """
    events = EventRecord(client)
    source.answers = [ValueError("s3cret"), ConnectionError("s3cret")]
    await asyncio.sleep(RENEWAL + 10)
    pauses = [later - earlier for earlier, later in itertools.pairwise(source.asked_at[1:])]
    assert len(pauses) == 2
    assert 0.8 <= pauses[0] <= 1.2
    assert 1.6 <= pauses[1] <= 2.4
    assert events.names == ["error", "error", "credentials-renewed", "reauthenticated"]
    for error, cause in zip(events.of("error"), (ValueError, ConnectionError), strict=True):
        assert isinstance(error, TokenRenewalError)
        assert isinstance(error.__cause__, cause)
        assert error.expires_at == EPOCH + LIFE
        assert cause.__name__ in str(error)
        assert "s3cret" not in str(error)
    assert len(peer.connections) == 1
    numbers = client.statistics()
    assert (numbers.renewals, numbers.failed_renewals, numbers.reauthentications) == (1, 2, 1)
    assert EPOCH + RENEWAL + LIFE < numbers.token_expires_at < EPOCH + RENEWAL + LIFE + 5


async def test_a_backoff_of_tenacitys(clock, peer, source, make_client):
    provider = TokenCredentials(source, jitter=0, backoff=wait_fixed(3))
    await make_client(credential_provider=provider, ping_interval=None).connect()
    source.answers = [OSError()] * 2
    await asyncio.sleep(RENEWAL + 7)
    assert source.asked_at == [0, RENEWAL, RENEWAL + 3, RENEWAL + 6]


async def test_a_backoff_that_makes_no_sense(clock, peer, source, make_client):
    """It is reported, and ours takes over."""

    class Nonsense(wait_base):
        def __call__(self, retry_state):
            return float("nan")

    provider = TokenCredentials(source, jitter=0, backoff=Nonsense())
    client = await make_client(credential_provider=provider, ping_interval=None).connect()
    events = EventRecord(client)
    source.answers = [OSError()]
    await asyncio.sleep(RENEWAL + 2)
    assert [str(error).partition(" (")[0] for error in events.of("error")] == [
        "the backoff can't be used",
        "the token could not be renewed",
    ]
    assert len(source.asked_at) == 3


@pytest.mark.parametrize(
    "nonsense",
    [
        Credentials("app", None),
        Credentials("app", "token-\ud800", expires_at=EPOCH + 2 * LIFE),
        Credentials("app", "token-x", expires_at=math.nan),
        Credentials("app", "token-x", expires_at=10**400),
        Credentials("app", "token-x", expires_at=EPOCH * 1000),
        Credentials("app", "token-x", expires_at=EPOCH),
    ],
    ids=["no password", "not to be encoded", "no number", "too large", "milliseconds", "ended"],
)
async def test_a_renewal_that_brings_nonsense_is_one_that_fails(clock, peer, source, client, nonsense):
    source.answers = [nonsense]
    events = EventRecord(client)
    await asyncio.sleep(RENEWAL + 2)
    assert events.names == ["error", "credentials-renewed", "reauthenticated"]
    assert isinstance(events.of("error")[0], TokenRenewalError)
    assert authentications(peer) == [(0, "token-1"), (0, "token-3")]


async def test_credentials_that_never_end_after_a_token(clock, peer, source, client):
    """Open connections need them, as that token ends."""
    source.answers = [Credentials("app", "token-0")]
    await asyncio.sleep(2 * LIFE)
    assert authentications(peer) == [(0, "token-1"), (0, "token-0")]
    assert len(source.asked_at) == 2
    assert len(peer.connections) == 1


@pytest.mark.ordinary_secrets(reason="it has letters that ASCII lacks")
async def test_a_token_that_this_client_can_not_encode(clock, peer, source, make_client):
    """The connection lives on with the old one, until that has all but ended."""
    options = {"credential_provider": source.provider, "encoding": "ascii", "ping_interval": None}
    client = await make_client(**options).connect()
    source.answers = [Credentials("app", "tökén", expires_at=EPOCH + 2 * LIFE)]
    events = EventRecord(client)
    await asyncio.sleep(RENEWAL + 2)
    assert events.names == ["credentials-renewed", "error"]
    (error,) = events.of("error")
    assert (error.__cause__, error.__context__) == (None, None)  # they would show the token
    assert client.is_ready
    await asyncio.sleep(LIFE - RENEWAL - 2)
    assert events.names[2:4] == ["error", "reconnecting"]


@pytest.mark.pins("case-82")
async def test_an_identity_provider_that_is_down_beyond_the_tokens_end(clock, peer, source, client):
    """The connection lives for as long as the server lets it; the next handshake asks again."""
    source.answers = [OSError("down")] * 10_000
    await asyncio.sleep(2 * LIFE)
    asked = len(source.asked_at)
    assert client.is_ready
    assert 10 < asked < 60  # more often towards the end; then not at all
    await asyncio.sleep(LIFE)
    assert len(source.asked_at) == asked
    source.answers = []
    peer.connections[0].close()
    await until(lambda: len(peer.connections) == 2 and client.is_ready)
    assert authentications(peer)[-1] == (1, f"token-{asked + 1}")


@pytest.mark.parametrize("reason", ["it has ended", "the server has refused it"])
async def test_a_token_after_one_that_can_not_be_used_reaches_all_connections(clock, peer, source, make_client, reason):
    """A lost connection needs another token; those that are still open authenticate with that one too."""
    options = {"credential_provider": source.provider, "connections": 3, "ping_interval": None}
    client = await make_client(reconnect_strategy=0.0, **options).connect()
    if reason == "it has ended":
        source.answers = [OSError("down")] * 10_000
        await asyncio.sleep(LIFE + 60)
        source.answers = []
    else:
        peer.on("HELLO", resp.error("WRONGPASS invalid username-password pair"), resp.mapping({}))
    asked = len(source.asked_at)
    peer.connections[0].close()
    await until(lambda: client.is_ready and len(authentications(peer)) >= 6)
    newest = f"token-{asked + 1}"
    assert len(source.asked_at) == asked + 1
    assert sorted(number for number, token in authentications(peer) if token == newest)[:2] == [1, 2]


@pytest.mark.parametrize("failures", [0, 3])
async def test_a_token_that_only_a_new_connection_was_refused_with_is_renewed(clock, peer, source, client, failures):
    """Those that are open still have it, and nobody may ask for another one but they. What fails is tried again."""
    events = EventRecord(client)
    source.answers = [OSError("down")] * failures
    peer.on("HELLO", resp.error("WRONGPASS invalid username-password pair"), resp.mapping({}))
    with pytest.raises(AuthenticationFailedError):
        await client.blpop("k", 1)
    await asyncio.sleep(60)
    newest = f"token-{failures + 2}"
    assert authentications(peer) == [(0, "token-1"), (1, "token-1"), (0, newest)]
    assert len(source.asked_at) == failures + 2
    assert [error.expires_at for error in events.of("error")] == [EPOCH + LIFE] * failures
    await asyncio.sleep(LIFE)
    assert len(source.asked_at) == failures + 3


@pytest.mark.pins("case-76", "B14")
async def test_after_reconnects_there_is_still_one_authentication_for_a_renewal(clock, peer, source, client):
    for number in range(3):
        peer.connections[number].close()
        await until(lambda number=number: len(peer.connections) == number + 2 and client.is_ready)
    await asyncio.sleep(RENEWAL + 1)
    assert source.asked_at == [0, RENEWAL]
    assert authentications(peer) == [*((number, "token-1") for number in range(4)), (3, "token-2")]


@pytest.mark.pins("B15")
async def test_the_shortest_schedule_makes_no_loop(clock, peer, source, make_client):
    provider = TokenCredentials(source, ratio=0.0, margin=0, jitter=0)
    await make_client(credential_provider=provider, ping_interval=None).connect()
    await asyncio.sleep(30)
    assert 55 <= len(source.asked_at) <= 61


@pytest.mark.pins("B15", "P6")
@pytest.mark.parametrize("answer", [None, ValueError("no")], ids=["a token", "a failure"])
async def test_closed_while_a_renewal_is_under_way(clock, peer, source, client, answer):
    """What comes of it is of no interest any more, and nobody is told."""
    events = EventRecord(client)
    source.holds = asyncio.Event()
    source.answers = [answer] if answer else []
    await asyncio.sleep(RENEWAL + 1)
    assert len(source.asked_at) == 2
    await client.close()
    source.holds.set()
    await asyncio.sleep(LIFE)
    assert events.names == ["end"]
    assert len(source.asked_at) == 2


async def test_the_same_token_again_is_asked_for_later_and_used_once(clock, peer, source, client):
    source.answers = [Credentials("app", "token-1", expires_at=EPOCH + LIFE)] * 2
    await asyncio.sleep(RENEWAL + 1)
    assert authentications(peer) == [(0, "token-1")]
    await asyncio.sleep(60)
    assert source.asked_at == [0, RENEWAL, 225, 236.25]  # the ratio of what is left
    assert [token for _, token in authentications(peer)] == ["token-1", f"token-{len(source.asked_at)}"]


async def test_what_ended_already_is_refused(clock, peer, make_client, source):
    source.answers = [Credentials("app", "token-0", expires_at=EPOCH - 1)]
    client = make_client(credential_provider=source, reconnect_strategy=1.0)
    events = EventRecord(client)
    await client.connect()
    (error,) = events.of("error")
    assert isinstance(error, ConnectError)
    assert "have ended already" in str(error)
    assert authentications(peer) == [(0, "token-2")]


# -- connections that can't simply authenticate -----------------------------------------------------


async def test_renewed_during_a_handshake(clock, peer, source, client):
    """The connection becomes ready with the old token, and authenticates at once."""
    held = []
    peer.on("HELLO", lambda received: held.append(received))
    peer.connections[0].close()
    await until(lambda: held)
    await asyncio.sleep(0)
    renewal = client._core.route(())._renewal
    renewal._begin([client._core.route(())])
    await until(lambda: len(source.asked_at) == 2)
    await turns()
    peer.on("HELLO", resp.mapping({}))
    held[0].connection.send(resp.mapping({}))
    await until(lambda: client.is_ready)
    await until(lambda: authentications(peer)[-1] == (1, "token-2"))


@pytest.mark.pins("P1", "case-77")
async def test_a_refused_one_leads_to_another_connection(clock, peer, source, client):
    """What is in flight is answered before. Other than in node-redis, which goes on as the old user."""
    events = EventRecord(client)
    peer.on("GET", None)
    peer.on("AUTH", None)
    reading = asyncio.create_task(client.with_options(command_timeout=None).get("k"))
    await peer.wait_for_command("GET")
    await asyncio.sleep(RENEWAL + 1)
    assert len(peer.connections) == 1
    peer.connections[0].send(resp.bulk("v"), resp.error("WRONGPASS invalid username-password pair"))
    assert await reading == b"v"
    await until(lambda: len(peer.connections) == 2 and client.is_ready)
    assert authentications(peer) == [(0, "token-1"), (0, "token-2"), (1, "token-2")]
    assert "error" in events.names


@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ("ERR unknown command 'AUTH', with args beginning with: 'app' 'token-2'", "unknown command 'AUTH'"),
        ("ERR no such command: AUTH app token-2", ""),
    ],
)
async def test_a_refusal_that_quotes_the_token(clock, peer, source, client, refusal, told):
    events = EventRecord(client)
    peer.on("AUTH", resp.error(refusal), resp.simple("OK"))
    await asyncio.sleep(RENEWAL + 1)
    error = events.of("error")[0]
    assert told in str(error)
    assert "token-2" not in f"{error} {error!r} {error.__cause__} {error.__context__}"


async def test_one_that_is_not_confirmed_is_recycled(clock, peer, source, client):
    """When a tenth of its life is left."""
    peer.on("AUTH", None)
    await asyncio.sleep(LIFE - 25)
    assert len(peer.connections) == 1
    peer.connections[0].send(resp.error("ERR late"))
    await until(lambda: len(peer.connections) == 2 and client.is_ready)
    assert clock() < LIFE


async def test_not_in_the_middle_of_a_transaction(clock, peer, source, client):
    """It would be queued. It goes out behind EXEC."""
    for name, answer in (("MULTI", "OK"), ("EXEC", None)):
        peer.on(name, resp.array() if answer is None else resp.simple(answer))
    peer.on("INCRBY", resp.simple("QUEUED"))
    async with client.dedicated() as session:
        await session.execute_command("MULTI")
        await asyncio.sleep(RENEWAL + 1)
        await session.execute_command("INCRBY", "k", 1)
        await session.execute_command("EXEC")
        await until(lambda: authentications(peer)[-1] == (1, "token-2"))
        names = [each.name for each in peer.connections[1].commands]
        assert names[-4:] == ["MULTI", "INCRBY", "EXEC", "AUTH"]


async def test_idle_ones_of_the_dedicated_lane_too(clock, peer, source, client):
    async with client.dedicated() as session:
        await session.get("k")
        await asyncio.sleep(RENEWAL - 10)
    await asyncio.sleep(11)
    assert (1, "token-2") in authentications(peer)


async def test_a_user_of_the_sessions_own_choice_stays(clock, peer, source, client):
    async with client.dedicated() as session:
        blocking = BlockingPeer(peer)
        await session.execute_command("AUTH", "ada", "s3cret")
        task = await start_blocking(blocking, session.blpop("k", 0))
        await asyncio.sleep(RENEWAL + 1)
        assert not blocking.unblocks
        blocking.give(resp.null())
        assert await task is None
        assert (1, "token-2") not in authentications(peer)
        assert (0, "token-2") in authentications(peer)


@pytest.mark.parametrize("left_behind", [("AUTH", "ada", "s3cret"), ("MULTI",)])
async def test_renewed_before_a_lease_is_reset(clock, peer, source, client, left_behind):
    """The reset authenticates, and ends what the session has left behind: there is nothing to do before it."""
    peer.on("MULTI", resp.simple("OK"))
    peer.on("RESET", resp.simple("RESET"))
    async with client.dedicated() as session:
        await session.execute_command(*left_behind)
        await asyncio.sleep(RENEWAL + 1)
    await asyncio.sleep(1)
    assert words_on(peer.connections[1]) == [" ".join(left_behind), "RESET"]
    assert authentications(peer)[-1] == (1, "token-2")
    assert client.statistics().reauthentications == 1


async def test_renewed_while_a_lease_is_reset(clock, peer, source, client):
    """It authenticates behind that."""
    peer.on("RESET", resp.simple("RESET"))
    held = []
    async with client.dedicated() as session:
        await session.select(1)
        peer.on("PING", held.append)
    await until(lambda: held)
    client._core.route(())._renewal._renew()
    await until(lambda: client.statistics().reauthentications == 1)
    held[0].connection.send(resp.simple("PONG"))
    await until(lambda: client.statistics().reauthentications == 2)
    assert words_on(peer.connections[1])[-2:] == ["RESET", "AUTH app token-2"]
    (lease,) = dedicated_lane(client)._leases
    assert not lease.link.is_outdated


@pytest.mark.pins("P1", "P3")
async def test_a_blocked_one_is_unblocked_and_blocks_again(clock, peer, source, client):
    """For the rest of its time; the caller notices nothing."""
    blocking = BlockingPeer(peer)
    task = await start_blocking(blocking, client.blpop("k", 300))
    await asyncio.sleep(RENEWAL + 1)
    await until(lambda: blocking.waiting)
    words = [each for each in words_on(peer.connections[1]) if each.startswith(("BLPOP", "AUTH"))]
    assert words[:2] == ["BLPOP k 300", "AUTH app token-2"]
    left = float(words[2].removeprefix("BLPOP k "))
    assert left == pytest.approx(300 - RENEWAL, abs=1)
    assert not task.done()
    blocking.give(resp.array(resp.bulk("k"), resp.bulk("v")))
    assert await task == (b"k", b"v")
    assert accounts(client) == (0, 0, 1, 0)


async def test_one_that_would_miss_something_goes_on(clock, peer, source, client):
    """It authenticates when it has returned."""
    blocking = BlockingPeer(peer)
    task = await start_blocking(blocking, client.xread({"s": "$"}, block=0))
    await asyncio.sleep(RENEWAL + 1)
    assert not blocking.unblocks
    assert (1, "token-2") not in authentications(peer)
    blocking.give(resp.null())
    await task
    await until(lambda: (1, "token-2") in authentications(peer))


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_push_connection(clock, peer, source, make_client, protocol):
    """Under RESP2 nothing can be sent on it but subscriptions: it connects anew, and the gap is announced."""
    Broadcaster(peer, protocol)
    options = {"credential_provider": source.provider, "ping_interval": None, "reconnect_strategy": 0.0}
    client = await make_client(protocol=protocol, decode_responses=True, **options).connect()
    async with client.subscribe("news") as messages:
        await asyncio.sleep(RENEWAL + 1)
        await until(lambda: len([1 for _, token in authentications(peer) if token == "token-2"]) == 2)
        if protocol == 3:
            assert len(peer.connections) == 2
            assert await messages.get(timeout=0) is None
        else:
            assert (await messages.get(timeout=1)).is_gap
            assert len(peer.connections) == 3
