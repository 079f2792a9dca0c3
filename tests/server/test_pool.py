"""The stock pool that is behind ``connection_pool`` when it is touched: as who, how, and for how long."""

from __future__ import annotations

import asyncio
import gc
import shutil

import pytest
import redis.asyncio
import trustme

from aioredis_kit import ClientState, Credentials, RedisClient, create_client
from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.testing import RedisServer, ScriptedPeer, TLSFiles
from tests.support.observing import outcome, sockets_to, turns, until


async def ask(connection, *words):
    await connection.send_command(*words)
    return await connection.read_response()


async def info_of(connection):
    text = await ask(connection, "CLIENT", "INFO")
    return dict(each.partition("=")[::2] for each in (text.decode() if isinstance(text, bytes) else text).split())


async def test_its_connections_are_the_clients(redis_url):
    """User, database, name, protocol, library and encoding; without retries and maintenance notifications."""
    async with create_client(redis_url, client_name="me", client_info_tag="tag", decode_responses=True) as client:
        await client.set("k", "grüße")
        connection = await client.connection_pool.get_connection()
        assert await ask(connection, "GET", "k") == "grüße"
        info = await info_of(connection)
        assert info["name"] == "me"
        assert info["db"] == str(client.get_connection_kwargs()["db"])
        assert info.get("resp") in {"3", None}
        assert info.get("lib-name", "aioredis_kit(tag)") == "aioredis_kit(tag)"
        assert connection.retry.get_retries() == 0
        assert not connection.maint_notifications_config
        await client.connection_pool.release(connection)
        assert await client.connection_pool.get_connection() is connection


async def test_what_the_client_became_its_connections_become(redis_url):
    async with create_client(redis_url, decode_responses=True) as client:
        pool = client.connection_pool
        connection = await pool.get_connection()
        await pool.release(connection)
        db = client.get_connection_kwargs()["db"]
        await client.select((db + 1) % 16)
        await client.client_setname("other")
        another = await pool.get_connection()
        assert another is not connection
        assert not connection.is_connected
        info = await info_of(another)
        assert (info["db"], info["name"]) == (str((db + 1) % 16), "other")
        await client.select(db)


@pytest.mark.parametrize("kind", ["password", "provider", "function", "redis-py's provider"])
async def test_its_connections_authenticate(kind):
    with RedisServer(acl=["user default off", "user ada on >s3cret ~* +@all"]) as server:
        given = {
            "password": {"username": "ada", "password": "s3cret"},
            "provider": {"credential_provider": lambda: Credentials("ada", "s3cret")},
            "function": {"credential_provider": give},
            "redis-py's provider": {
                "credential_provider": redis.credentials.UsernamePasswordCredentialProvider("ada", "s3cret")
            },
        }[kind]
        async with create_client(host=server.host, port=server.port, **given) as client:
            connection = await client.connection_pool.get_connection()
            assert await ask(connection, "ACL", "WHOAMI") == b"ada"
            # Also for whoever makes a client of redis-py's of it.
            assert await redis.asyncio.Redis(connection_pool=client.connection_pool).acl_whoami() == "ada"


async def give():
    return "ada", "s3cret"


async def test_its_connections_use_the_clients_tls_context(tmp_path, monkeypatch):
    binary = shutil.which("redis-server")
    if binary is None or not RedisServer(binary=binary).has_tls:
        pytest.skip("there is no redis-server with TLS on PATH")
    authority = trustme.CA()
    certificate = authority.issue_cert("redis.example")
    files = TLSFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(files.cert)
    certificate.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.ca)
    with RedisServer(binary=binary, tls=files) as server:
        from aioredis_kit import TLSOptions

        options = TLSOptions(ca_file=str(files.ca), server_hostname="redis.example")
        async with create_client(server.url, tls=options) as client:
            monkeypatch.setattr("ssl.create_default_context", None)  # another one would cost 25 ms each time
            pool = client.connection_pool
            connections = [await pool.get_connection() for _ in range(3)]
            assert [await ask(each, "PING") for each in connections] == [b"PONG"] * 3
            assert len({each.ssl_context.get() for each in connections}) == 1
            monkeypatch.undo()
            authority.cert_pem.write_to_path(files.ca, append=True)  # the next handshake takes note of it
            another = await pool.get_connection()
            assert another.ssl_context.get() is not connections[0].ssl_context.get()


async def test_over_a_unix_socket():
    with RedisServer(unix_socket=True) as server:
        async with create_client(server.url) as client:
            assert await ask(await client.connection_pool.get_connection(), "PING") == b"PONG"


@pytest.fixture
def lone_server():
    """A server that nobody else in this process is connected to."""
    with RedisServer() as server:
        yield server


@pytest.mark.pins("P6")
@pytest.mark.parametrize("end", ["close", "aclose", "destroy", "collect"])
@pytest.mark.leaves_redis_clients_open(reason="one of the ends is being forgotten")
async def test_nothing_of_it_outlives_the_client(lone_server, end):
    client = create_client(lone_server.url)
    pool = client.connection_pool
    idle, used, own = await pool.get_connection(), await pool.get_connection(), pool.make_connection()
    await own.connect()
    await pool.release(idle)
    waiting = asyncio.ensure_future(ask(used, "BLPOP", "missing", 0))
    await turns()
    await until(lambda: len(sockets_to(lone_server.port)) == 4, "the connections")
    if end == "collect":
        with pytest.warns(ResourceWarning, match="was not closed"):
            del client
            gc.collect()
        await until(lambda: not sockets_to(lone_server.port), "the end of the sockets")
    else:
        if end == "destroy":
            client.destroy()
        await (client.aclose if end == "aclose" else client.close)()
        assert not sockets_to(lone_server.port)
    assert isinstance(await outcome(waiting), redis.ConnectionError)
    assert not pool.is_in_use
    for each in (idle, used, own):
        assert not each.is_connected
        assert isinstance(await outcome(each.send_command("PING")), ClientClosedError)
    await pool.release(used)  # as its user's clean-up does
    if end != "aclose":
        assert isinstance(await outcome(pool.get_connection()), ClientClosedError)
    assert not sockets_to(lone_server.port)


@pytest.mark.pins("P6")
async def test_closing_while_it_shakes_hands():
    async with ScriptedPeer() as peer:
        client = await create_client(peer.url).connect()
        peer.on("HELLO", None)
        connecting = asyncio.ensure_future(client.connection_pool.get_connection())
        await until(lambda: len(peer.connections) == 2, "the connection")
        await client.close()
        assert isinstance(await outcome(connecting), ClientClosedError)
        assert not sockets_to(peer.port)


@pytest.mark.pins("P6")
async def test_destroying_at_any_moment_while_it_connects(lone_server):
    """Whether it is dialling, shaking hands, or has just become ready."""
    endings = set()
    for count in range(40):
        client = await create_client(lone_server.url).connect()
        connecting = asyncio.ensure_future(client.connection_pool.get_connection())
        await turns(count)
        client.destroy()
        found = await outcome(connecting)
        assert isinstance(found, ClientClosedError) or not found.is_connected
        endings.add(type(found))
        await client.close()
        assert not sockets_to(lone_server.port)
    assert len(endings) == 2


async def test_it_serves_the_next_life(lone_server):
    client = create_client(lone_server.url)
    pool = client.connection_pool
    for _ in range(3):
        connection = await pool.get_connection()
        assert client.state is not ClientState.NEW
        assert await ask(connection, "PING") == b"PONG"
        await client.aclose()
        assert not sockets_to(lone_server.port)
    await client.close()
    with pytest.raises(ClientClosedError):
        await pool.get_connection()
    await client.connect()
    assert await ask(await pool.get_connection(), "PING") == b"PONG"
    await client.close()


async def test_a_client_from_a_pool(redis_url):
    """Its options are read; the pool itself stays unused."""
    pool = redis.asyncio.ConnectionPool.from_url(redis_url, decode_responses=True, client_name="me")
    for make in (lambda: RedisClient.from_pool(pool), lambda: create_client(connection_pool=pool)):
        async with make() as client:
            await client.set("k", "v")
            assert await client.get("k") == "v"
            assert await client.client_getname() == "me"
    assert pool.get_connection_count()[0][0] == pool.get_connection_count()[1][0] == 0
    async with create_client(redis_url, decode_responses=True) as client:
        async with create_client(connection_pool=client.connection_pool) as other:
            assert await other.get("k") == "v"
        assert await client.get("k") == "v"


async def test_a_retry_has_no_effect(redis_client, caplog):
    caplog.set_level("INFO")
    retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 3)
    redis_client.set_retry(retry)
    assert redis_client.get_retry() is retry
    assert "set_retry has no effect" in caplog.text
    connection = await redis_client.connection_pool.get_connection()
    assert connection.retry.get_retries() == 0
