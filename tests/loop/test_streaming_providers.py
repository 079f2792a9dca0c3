"""Providers of redis-py's that renew their tokens by themselves, and what they do not do."""

from __future__ import annotations

import asyncio
import threading

import pytest
from redis.auth.token import SimpleToken
from redis.credentials import StreamingCredentialProvider

from aioredis_kit import TokenCredentials
from aioredis_kit.exceptions import TokenRenewalError
from aioredis_kit.testing import resp
from tests.support.identity import jwt
from tests.support.observing import EventRecord, turns, until
from tests.support.token_source import authentications
from tests.support.virtual_time import EPOCH


class Streaming(StreamingCredentialProvider):
    """One that tells its only listener, from a thread of its own."""

    def __init__(self):
        self.asked = 0

    def get_credentials(self):
        assert threading.current_thread() is not threading.main_thread()
        self.asked += 1
        return "app", f"token-{self.asked}"

    def on_next(self, callback):
        self.next = callback

    def on_error(self, callback):
        self.error = callback

    def is_streaming(self):
        return True

    async def push(self, number, *, oid=None, ends=None):
        claims = {} if oid is None else {"oid": oid}
        ends = -1 if ends is None else ends * 1000
        await asyncio.to_thread(self.next, SimpleToken(f"token-{number}", ends, 0, claims))


async def test_what_a_streaming_provider_pushes_is_used_by_all_clients(peer, make_client):
    """It is asked in a thread, at each handshake until it has pushed something."""
    peer.on("AUTH", resp.simple("OK"))
    provider = Streaming()
    clients = [make_client(credential_provider=provider, reconnect_strategy=0.0) for _ in range(2)]
    for client in clients:
        await client.connect()
    assert authentications(peer) == [(0, "token-1"), (1, "token-2")]
    events = EventRecord(clients[0])
    await provider.push(9, oid="me", ends=EPOCH * 2)
    await until(lambda: len(authentications(peer)) == 4)
    assert sorted(authentications(peer)[2:]) == [(0, "token-9"), (1, "token-9")]
    assert [each.words[1] for each in peer.commands if each.name == "AUTH"] == [b"me", b"me"]
    await events.wait_for("reauthenticated")
    assert events == [("credentials-renewed", EPOCH * 2), ("reauthenticated",)]
    peer.connections[0].close()
    await until(lambda: len(peer.connections) == 3)
    await until(lambda: clients[0].is_ready)
    assert authentications(peer)[-1] == (2, "token-9")
    assert provider.asked == 2


@pytest.mark.pins("case-76", "B14")
async def test_after_reconnects_one_push_is_one_authentication(peer, make_client):
    """And after the end none."""
    peer.on("AUTH", resp.simple("OK"))
    provider = Streaming()
    client = await make_client(credential_provider=provider, reconnect_strategy=0.0).connect()
    for number in range(3):
        peer.connections[number].close()
        await until(lambda number=number: len(peer.connections) == number + 2 and client.is_ready)
    events = EventRecord(client)
    await provider.push(9, oid="me", ends=EPOCH * 2)
    await events.wait_for("reauthenticated")
    await client.close()
    await provider.push(10, oid="me", ends=EPOCH * 2)
    await turns()
    assert [each.words[-1] for each in peer.commands if each.name == "AUTH"] == [b"token-9"]
    assert events.names == ["credentials-renewed", "reauthenticated", "end"]


async def test_a_streaming_provider_without_a_name_keeps_the_user(peer, make_client):
    peer.on("AUTH", resp.simple("OK"))
    provider = Streaming()
    await make_client(credential_provider=provider).connect()
    await provider.push(9)
    await until(lambda: len(authentications(peer)) == 2)
    assert [each.words for each in peer.commands if each.name == "AUTH"] == [(b"AUTH", b"app", b"token-9")]


@pytest.mark.shows_secrets("cause", reason="what the provider raises has one in its text")
async def test_the_failure_of_a_streaming_provider_is_an_event(peer, make_client):
    provider = Streaming()
    client = await make_client(credential_provider=provider).connect()
    events = EventRecord(client)
    await asyncio.to_thread(provider.error, ValueError("s3cret"))
    await events.wait_for("error")
    (error,) = events.of("error")
    assert isinstance(error, TokenRenewalError)
    assert "ValueError" in str(error)
    assert "s3cret" not in str(error)
    assert client.is_ready


class Entra(Streaming):
    """As redis-entraid: its tokens say when they end, and a renewal of its own that failed was the last one."""

    def __init__(self, clock, life=3600.0):
        super().__init__()
        self.asked_at = []
        self.answers = []
        self._clock = clock
        self._life = life

    def get_credentials(self):
        self.asked_at.append(round(self._clock(), 3))
        answer = self.answers.pop(0) if self.answers else "me"
        if isinstance(answer, Exception):
            raise answer
        return answer, self.token()

    async def get_credentials_async(self):
        raise AssertionError("it would block the loop")

    def token(self):
        self.asked += 1
        return jwt(oid="me", number=self.asked, exp=EPOCH + self._clock() + self._life)


def auths(peer):
    """The connections that authenticated after their handshakes, in order."""
    return [each.connection.number for each in peer.commands if each.name == "AUTH"]


@pytest.fixture
def entra(clock, peer):
    peer.on("AUTH", resp.simple("OK"))
    return Entra(clock)


async def test_a_token_that_says_when_it_ends_is_kept(clock, peer, make_client, entra):
    """All connections of all clients have it from one request."""
    for _ in range(2):
        await make_client(credential_provider=entra, connections=3, ping_interval=None).connect()
    assert entra.asked_at == [0]


@pytest.mark.shows_secrets("cause", reason="what the provider raises has one in its text")
async def test_one_whose_renewal_failed_is_asked_again(clock, peer, make_client, entra):
    """For redis-entraid never does so by itself: its connections would end with their token."""
    client = await make_client(credential_provider=entra, connections=3, ping_interval=None).connect()
    events = EventRecord(client)
    await asyncio.sleep(2500)
    entra.answers = [OSError("s3cret")]
    await asyncio.to_thread(entra.error, ValueError("s3cret"))
    await asyncio.sleep(10)
    assert [type(error.__cause__) for error in events.of("error")] == [ValueError, OSError]
    assert all(isinstance(error, TokenRenewalError) and "s3cret" not in str(error) for error in events.of("error"))
    assert len(entra.asked_at) == 3  # the first one, and two after pauses
    assert sorted(auths(peer)) == [0, 1, 2]
    assert events.names.count("credentials-renewed") == 1


async def test_one_that_tells_nothing_is_asked_in_time(clock, peer, make_client, entra):
    """Its only listener may be somebody else by now, such as a client of redis-py's with the same provider."""
    await make_client(credential_provider=entra, connections=3, ping_interval=None).connect()
    entra.on_next(print)
    await asyncio.sleep(3600)
    assert len(entra.asked_at) == 2
    assert 0.7 * 3600 < entra.asked_at[1] < 3600 - 60
    assert sorted(auths(peer)) == [0, 1, 2]


async def test_one_that_tells_in_time_is_not_asked(clock, peer, make_client, entra):
    await make_client(credential_provider=entra, ping_interval=None).connect()
    for _ in range(2):
        await asyncio.sleep(0.7 * 3600)
        token = SimpleToken(entra.token(), (EPOCH + clock() + 3600) * 1000, 0, {"oid": "me"})
        await asyncio.to_thread(entra.next, token)
        await asyncio.to_thread(entra.next, token)  # as it does where its cache has the old one
        await asyncio.sleep(1)
    assert entra.asked_at == [0]
    assert auths(peer) == [0] * 2


async def test_one_that_tells_while_it_is_asked(clock, peer, make_client, entra):
    """As redis-entraid does for the first token. It takes the place of none."""
    ask = entra.get_credentials

    def tell_and_return():
        username, token = ask()
        entra.next(SimpleToken(token, (EPOCH + 3600) * 1000, 0, {"oid": username}))
        return username, token

    entra.get_credentials = tell_and_return
    client = make_client(credential_provider=entra, ping_interval=None)
    events = EventRecord(client)
    await client.connect()
    await asyncio.sleep(1)
    assert events.names == ["connect", "ready"]
    assert client.statistics().renewals == 0


class Broken(SimpleToken):
    """A token that can't be read."""

    def get_expires_at_ms(self):
        raise ValueError("s3cret")


@pytest.mark.shows_secrets("cause", reason="what the provider raises has one in its text")
@pytest.mark.parametrize(
    "token",
    [
        SimpleToken("token-7", EPOCH * 1000, 0, {"oid": "me"}),
        SimpleToken(b"token-7", -1, 0, {"oid": "me"}),
        SimpleToken("token-7", -1, 0, {"oid": 7}),
        Broken("token-7", -1, 0, {"oid": "me"}),
    ],
    ids=["ended", "bytes", "user of a number", "broken"],
)
async def test_what_is_told_and_makes_no_sense_is_not_used(clock, peer, make_client, entra, token):
    """It is asked instead."""
    client = await make_client(credential_provider=entra, ping_interval=None).connect()
    events = EventRecord(client)
    await asyncio.sleep(60)
    await asyncio.to_thread(entra.next, token)
    await asyncio.sleep(10)
    assert events.names == ["error", "credentials-renewed", "reauthenticated"]
    assert "s3cret" not in str(events.of("error")[0])
    assert len(entra.asked_at) == 2
    assert not any(b"token-7" in each.words for each in peer.commands)


async def test_a_listener_can_be_awaited(clock, peer, make_client, entra):
    """redis-entraid awaits it where its asynchronous side was used first; an error there would end its renewals."""
    client = await make_client(credential_provider=entra, ping_interval=None).connect()
    events = EventRecord(client)
    await entra.next(SimpleToken(entra.token(), (EPOCH + 3600) * 1000, 0, {"oid": "me"}))
    await entra.error(ValueError())
    await until(lambda: events.names == ["credentials-renewed", "error", "reauthenticated"])


async def test_within_a_schedule_of_ones_own(clock, peer, make_client, entra):
    """It is asked in a thread there as well."""
    await make_client(credential_provider=TokenCredentials(entra, ratio=0.5), ping_interval=None).connect()
    assert entra.asked_at == [0]


@pytest.mark.pins("P5")
async def test_a_flood_of_tokens_is_not_kept(peer, make_client):
    """Of old ones it is known when the connections that have them have to go; of so many there are none."""
    peer.on("AUTH", resp.simple("OK"))
    provider = Streaming()
    client = await make_client(credential_provider=provider).connect()
    for number in range(2, 200):
        await provider.push(number, ends=EPOCH * 2)
    await until(lambda: client.statistics().renewals > 150)
    assert len(client._core.route(())._outgoing) <= 64
