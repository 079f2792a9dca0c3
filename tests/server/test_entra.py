"""Microsoft Entra ID: azure-identity itself, at a token endpoint on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from types import SimpleNamespace

import pytest
from azure.identity import ManagedIdentityCredential as SynchronousCredential
from azure.identity.aio import ManagedIdentityCredential
from redis.auth.token import JWToken
from redis_entraid.cred_provider import create_from_managed_identity
from redis_entraid.identity_provider import ManagedIdentityType

from aioredis_kit import create_client
from aioredis_kit.entra import EntraIdCredentials
from aioredis_kit.exceptions import ConfigurationError, ConnectError, TokenRenewalError
from tests.support.identity import MachineIdentity, TokenEndpoint, jwt
from tests.support.observing import EventRecord


@pytest.fixture
async def endpoint(monkeypatch):
    async with TokenEndpoint() as endpoint:
        endpoint.pretend(monkeypatch)
        yield endpoint


@pytest.fixture
async def server_with_tokens(endpoint, redis_server):
    """A server whose users are whom tokens are issued to."""
    async with create_client(redis_server.url) as admin:

        async def issue(number):
            token = jwt(oid=f"oid-{number}", exp=int(time.time() + endpoint.life))
            await admin.acl_setuser(
                f"oid-{number}", enabled=True, passwords=[f"+{token}"], keys=["*"], commands=["+@all"]
            )
            return token

        endpoint._issue = issue
        yield SimpleNamespace(url=redis_server.url, issue=issue)
        for number in range(1, 4):
            await admin.acl_deluser(f"oid-{number}")


async def test_a_token_is_the_password(endpoint, server_with_tokens):
    """At a real server, from azure-identity's answer to the user that the server knows."""
    provider = EntraIdCredentials.managed_identity()
    async with create_client(server_with_tokens.url, credential_provider=provider, decode_responses=True) as client:
        assert await client.acl_whoami() == "oid-1"


async def test_a_managed_identity(endpoint):
    """The user is the token's oid claim, and its end the token's."""
    credentials = await EntraIdCredentials.managed_identity().get_credentials()
    assert credentials.username == "oid-1"
    assert credentials.password.startswith("ey")
    assert credentials.expires_at == pytest.approx(time.time() + 3600, abs=5)
    ((query, headers),) = endpoint.requests
    assert query["resource"] == "https://redis.azure.com"
    assert headers["X-IDENTITY-HEADER"] == "header-of-the-machine"


async def test_it_is_made_off_the_loop(endpoint, monkeypatch):
    """To import it alone takes a third of a second."""
    threads = []

    class Recorded(ManagedIdentityCredential):
        def __init__(self, **options):
            threads.append(threading.current_thread())
            super().__init__(**options)

    monkeypatch.setattr("azure.identity.aio.ManagedIdentityCredential", Recorded)
    await EntraIdCredentials.managed_identity().get_credentials()
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ({"client_id": "c"}, ("client_id", "c")),
        ({"object_id": "o"}, ("object_id", "o")),
        ({"resource_id": "/r"}, ("resource_id", "/r")),
    ],
    ids=lambda each: "".join(each),
)
async def test_a_user_assigned_identity(endpoint, names, asked):
    await EntraIdCredentials.managed_identity(**names).get_credentials()
    query, _ = endpoint.requests[0]
    assert query.get(asked[0]) == asked[1]


async def test_the_default_chain_finds_it(endpoint):
    credentials = await EntraIdCredentials().get_credentials()
    assert credentials.username == "oid-1"


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
async def test_a_credential_of_the_users_own_is_used_and_not_closed(endpoint, kind):
    own = ManagedIdentityCredential() if kind == "asynchronous" else SynchronousCredential()
    provider = EntraIdCredentials(own, username="me")
    first = await provider.get_credentials()
    assert first.username == "me"
    assert (await provider.get_credentials()).username == "me"
    if kind == "asynchronous":
        await own.close()
    else:
        own.close()


async def test_what_is_asked_for():
    """Claims, tenant and scope; and when to renew, if it says so."""
    calls = []

    async def get_token_info(*scopes, options=None):
        calls.append((scopes, options))
        return SimpleNamespace(token=jwt(oid="me"), expires_on=2_000_000_000, refresh_on=1_900_000_000)

    credential = SimpleNamespace(get_token_info=get_token_info)
    options = {"scope": "https://redis.azure.us/.default", "claims": "{}", "tenant_id": "t"}
    credentials = await EntraIdCredentials(credential, **options).get_credentials()
    assert (credentials.username, credentials.expires_at, credentials.refresh_on) == ("me", 2e9, 1.9e9)
    assert calls == [(("https://redis.azure.us/.default",), {"claims": "{}", "tenant_id": "t"})]


async def test_an_older_kind_of_credential():
    calls = []

    def get_token(*scopes, **options):
        calls.append((scopes, options))
        return SimpleNamespace(token=jwt(oid="me"), expires_on=2_000_000_000)

    credentials = await EntraIdCredentials(SimpleNamespace(get_token=get_token), claims="{}").get_credentials()
    assert (credentials.username, credentials.expires_at, credentials.refresh_on) == ("me", 2e9, None)
    assert calls == [(("https://redis.azure.com/.default",), {"claims": "{}"})]


@pytest.mark.parametrize(
    "token", [jwt(sub="x"), jwt(oid=5), "garbage", "a.!.c", ""], ids=["no oid", "5", "no parts", "no base64", "none"]
)
async def test_a_token_without_a_user(token):
    credential = SimpleNamespace(get_token=lambda *_, **__: SimpleNamespace(token=token, expires_on=2_000_000_000))
    with pytest.raises(ConfigurationError, match="no oid claim, which is the user's name: give username="):
        await EntraIdCredentials(credential).get_credentials()


def test_bad_options():
    with pytest.raises(ConfigurationError, match=r"must be one of azure-identity's, or have get_token\(\), not 'str'"):
        EntraIdCredentials("secret")
    with pytest.raises(ConfigurationError, match="client_id and object_id name one identity each"):
        EntraIdCredentials.managed_identity(client_id="c", object_id="o")
    with pytest.raises(ConfigurationError, match="ratio must be a number"):
        EntraIdCredentials(SimpleNamespace(get_token=print), ratio=2)


@pytest.mark.parametrize("missing", ["azure-identity", "aiohttp"])
def test_without_azure_identity(monkeypatch, missing):
    """Named with the extra that brings it; a credential that is given needs none."""

    def find(module):
        if module == "azure.identity" and missing == "azure-identity":
            raise ModuleNotFoundError("No module named 'azure'")  # as importlib does
        return None if module == missing else True

    monkeypatch.setattr("aioredis_kit.entra.provider.find_spec", find)
    with pytest.raises(ConfigurationError, match=rf"{missing} is not installed: install aioredis_kit\[entra\]"):
        EntraIdCredentials()
    assert EntraIdCredentials(SimpleNamespace(get_token=print))


@pytest.mark.pins("P7")
async def test_nothing_shows_a_secret():
    provider = EntraIdCredentials.service_principal("tenant", "client", "s3cret")
    assert "s3cret" not in f"{provider!r} {vars(provider)}"


@pytest.mark.shows_secrets("cause", reason="azure-identity's errors quote what the endpoint answers")
@pytest.mark.pins("P2", "P7")
@pytest.mark.parametrize(
    "answer",
    [(500, {}, "s3cret"), (400, {}, "{}"), (200, {}, "garbage s3cret"), (200, {}, '{"access_token": "s3cret"}')],
    ids=["500", "400", "garbage", "half"],
)
async def test_an_endpoint_that_fails(endpoint, redis_url, answer):
    """A failed attempt to connect; the strategy decides when the next one is."""
    endpoint.answers = [answer] * 20
    provider = EntraIdCredentials(ManagedIdentityCredential(retry_total=0))
    client = create_client(redis_url, credential_provider=provider, reconnect_strategy=False)
    events = EventRecord(client)
    with pytest.raises(ConnectError) as caught:
        await client.connect()
    assert "s3cret" not in f"{caught.value}"
    assert "the credential provider raised" in str(caught.value)
    assert events.names == ["terminated", "error"]
    await provider._credential.close()


@pytest.mark.pins("P2", "B16")
async def test_clients_that_come_together_share_a_failure(endpoint, redis_url):
    """None is left waiting for it, and it is one request."""
    endpoint.answers = [(500, {}, "")]
    options = {"credential_provider": EntraIdCredentials(MachineIdentity()), "reconnect_strategy": False}
    clients = [create_client(redis_url, **options) for _ in range(3)]
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*(each.connect() for each in clients), return_exceptions=True)
    assert [type(each) for each in errors] == [ConnectError] * 3
    assert len(endpoint.requests) == 1


async def test_redis_entraids_own_provider(endpoint, server_with_tokens):
    """Asked in a thread, and its tokens used."""
    provider = create_from_managed_identity(ManagedIdentityType.SYSTEM_ASSIGNED, "https://redis.azure.com")
    try:
        async with create_client(server_with_tokens.url, credential_provider=provider, decode_responses=True) as client:
            assert await client.acl_whoami() == "oid-1"
            events = EventRecord(client)
            await asyncio.to_thread(provider._listener.on_next, JWToken(await server_with_tokens.issue(2)))
            await events.wait_for("reauthenticated")
            assert await client.acl_whoami() == "oid-2"
    finally:
        provider._token_mgr.stop()


@pytest.mark.only_long
async def test_redis_entraids_own_provider_that_has_given_up(endpoint, server_with_tokens):
    """It renews no more, and is asked before the token ends."""
    endpoint.life = 3.0
    provider = create_from_managed_identity(ManagedIdentityType.SYSTEM_ASSIGNED, "https://redis.azure.com")
    try:
        async with create_client(server_with_tokens.url, credential_provider=provider, decode_responses=True) as client:
            first = await client.acl_whoami()
            provider._token_mgr.stop()
            await client.wait_for("reauthenticated", timeout=5)
            assert await client.acl_whoami() != first
    finally:
        provider._token_mgr.stop()


@pytest.mark.shows_secrets("cause", reason="azure-identity's errors quote what the endpoint answers")
@pytest.mark.pins("P7")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((500, {}, "s3cret"), marks=pytest.mark.only_long),
        pytest.param((200, {}, "garbage s3cret"), marks=pytest.mark.only_long),
        (200, {}, json.dumps({"access_token": jwt(sub="s3cret"), "expires_on": "2000000000", "token_type": "Bearer"})),
        pytest.param(
            (200, {}, json.dumps({"access_token": jwt(oid="machine"), "expires_on": "1000000000", "token_type": "B"})),
            marks=pytest.mark.only_long,
        ),
    ],
    ids=["500", "garbage", "no oid", "ended already"],
)
async def test_a_renewal_that_fails_disturbs_nothing(endpoint, server_with_tokens, answer):
    """Commands go on; the event says what is wrong, and the next attempt mends it."""
    provider = EntraIdCredentials(ManagedIdentityCredential(retry_total=0), ratio=0.0, margin=0.0, jitter=0.0)
    async with create_client(server_with_tokens.url, credential_provider=provider, decode_responses=True) as client:
        events = EventRecord(client)
        endpoint.answers = [answer]
        await events.wait_for("error")
        (error,) = events.of("error")
        assert isinstance(error, TokenRenewalError)
        assert error.__cause__ is not None
        assert error.expires_at == pytest.approx(time.time() + 3600, abs=10)
        assert "s3cret" not in str(error)
        assert await client.acl_whoami() == "oid-1"
        await events.wait_for("reauthenticated")
        assert await client.acl_whoami() == "oid-3"
        assert "reconnecting" not in events.names
    await provider._credential.close()


@pytest.mark.only_long
async def test_an_endpoint_that_is_asked_too_often(endpoint, server_with_tokens):
    """azure-identity waits for as long as it is told to, and nobody notices."""
    provider = EntraIdCredentials(ManagedIdentityCredential(retry_total=2), ratio=0.0, margin=0.0, jitter=0.0)
    async with create_client(server_with_tokens.url, credential_provider=provider, decode_responses=True) as client:
        events = EventRecord(client)
        endpoint.answers = [(429, {"Retry-After": "1"}, "")]
        await events.wait_for("reauthenticated")
        assert await client.acl_whoami() == "oid-3"
        assert "error" not in events.names
    await provider._credential.close()
