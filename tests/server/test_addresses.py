"""Where a server may be: names, IPv4, IPv6, Unix sockets, databases; and what it asks of those who come."""

from __future__ import annotations

import asyncio
import socket
import threading

import anyio.to_thread
import pytest

from aioredis_kit import create_client
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    HandshakeError,
)
from aioredis_kit.testing import RedisServer
from tests.support.observing import EventRecord, job_tasks, outcome, until


def has_ipv6():
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.pins("case-7", "case-134")
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_ipv6():
    """A default client on a URL with an IPv6 address becomes ready."""
    with RedisServer(config=["bind 127.0.0.1 ::1"]) as server:
        async with create_client(f"redis://[::1]:{server.port}/1") as client:
            assert await client.ping() is True
            (own,) = [each for each in await client.client_list() if each["id"] == str(await client.client_id())]
            assert own["addr"].startswith("[::1]:")
            assert own["db"] == "1"


@pytest.mark.pins("case-134", "5.2")
async def test_a_name_whose_first_address_does_not_answer(redis_server, monkeypatch):
    """The addresses of a name are tried one after the other."""
    look_up = socket.getaddrinfo

    def two_addresses(host, port, *args, **kwargs):
        if host != "two.example.com":
            return look_up(host, port, *args, **kwargs)
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*stream, ("127.0.0.1", 1)), (*stream, (redis_server.host, redis_server.port))]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    async with create_client(host="two.example.com", port=1) as client:
        assert await client.ping() is True


@pytest.mark.pins("5.2", "case-20")
async def test_a_name_that_does_not_exist():
    """An error that has the name."""
    client = create_client("redis://no-such-host.invalid:1234", reconnect_strategy=False)
    error = await outcome(client.connect())
    assert isinstance(error, ConnectError)
    assert "no-such-host.invalid:1234" in str(error)


@pytest.mark.pins("5.2", "P2", "P6")
@pytest.mark.parametrize("end", ["time-out", "cancelled", "destroyed"])
async def test_a_name_service_that_hangs(monkeypatch, end):
    """The look-up goes on in its thread; nobody waits for it."""
    is_asked, may_answer = threading.Event(), threading.Event()

    def hang(*_, flags=0, **__):
        if flags & socket.AI_NUMERICHOST:  # no question to a name service
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        is_asked.set()
        may_answer.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    client = create_client("redis://slow.example.com", connect_timeout=0.1, reconnect_strategy=False)
    try:
        connecting = asyncio.create_task(client.connect())
        await until(is_asked.is_set)
        if end == "cancelled":
            connecting.cancel()
        elif end == "destroyed":
            client.destroy()
        async with asyncio.timeout(5):
            result = await outcome(connecting)
        expected = {"time-out": ConnectTimeoutError, "cancelled": asyncio.CancelledError}
        assert isinstance(result, expected.get(end, ClientClosedError))
        await client.close()
        assert not job_tasks()
    finally:
        may_answer.set()


@pytest.mark.pins("case-8", "case-9", "5.3")
async def test_unix_sockets(tmp_path):
    """By URL, percent-encoded, with a database; by option; and one on which nobody listens."""
    with RedisServer(unix_socket=True) as server:
        path = str(server.unix_socket_path)
        for options in (
            {"url": f"unix://{path}?db=2"},
            {"url": "unix://" + path.replace("s", "%73") + "?db=2"},
            {"unix_socket_path": path, "db": 2},
        ):
            async with create_client(**options) as client:
                await client.set("k", 1)
                assert path in repr(client)
        async with create_client(f"redis://{server.host}:{server.port}/2") as client:
            assert await client.get("k") == b"1"
    missing = create_client(f"unix://{tmp_path}/missing.sock", reconnect_strategy=False)
    error = await outcome(missing.connect())
    assert isinstance(error, ConnectError)
    assert "missing.sock" in str(error)


@pytest.mark.pins("case-35", "4.10")
async def test_a_server_on_a_unix_socket_that_dies():
    """It is found again at the same path."""
    with RedisServer(unix_socket=True) as server:
        async with create_client(server.url, reconnect_strategy=0.05) as client:
            events = EventRecord(client)
            assert await client.ping() is True
            server.kill()
            await events.wait_for("reconnecting")
            waiting = asyncio.create_task(client.ping())
            await anyio.to_thread.run_sync(server.start)
            assert await waiting is True


@pytest.mark.pins("case-16", "case-17", "case-1", "5.3")
async def test_users_names_and_databases():
    """The connection is who and where it was told to be, with RESP3 and with RESP2; and says so if it may not."""
    acl = ["user ada on >s3cret ~* &* +@all", "user mute on >s3cret ~* +@all -ping", "user default off"]
    with RedisServer(acl=acl) as server:
        place = f"{server.host}:{server.port}"
        for protocol in (None, 2, 3):
            options = {"protocol": protocol, "client_name": "me", "decode_responses": True}
            async with create_client(f"redis://ada:s3cret@{place}/2", **options) as client:
                assert await client.acl_whoami() == "ada"
                assert await client.client_getname() == "me"
                assert (await client.client_info())["db"] == 2
            async with create_client(f"redis://mute:s3cret@{place}", protocol=protocol) as client:
                assert await client.set("k", 1) is True
            for user in ("ada:wr0ng-one", "nobody:s3cret", ""):
                client = create_client(f"redis://{user}@{place}", protocol=protocol)
                error = await outcome(client.connect())
                assert isinstance(error, AuthenticationFailedError), (user, protocol)
            error = await outcome(create_client(f"redis://ada:s3cret@{place}/999", reconnect_strategy=False).connect())
            assert isinstance(error, HandshakeError)
            assert error.step == "SELECT"


@pytest.mark.pins("5.3")
async def test_static_credentials_and_a_provider():
    """Both come to the same."""
    calls = []

    async def provide():
        calls.append(1)
        return "default", "s3cret"

    with RedisServer(password="s3cret") as server:
        async with create_client(host=server.host, port=server.port, credential_provider=provide) as client:
            assert await client.ping() is True
        async with create_client(server.url) as client:
            assert await client.ping() is True
    assert calls == [1]
