"""TLS against a server that has it: Debian's redis-server, with certificates made for the test."""

from __future__ import annotations

import asyncio
import shutil
import ssl

import anyio.to_thread
import pytest
import trustme

from aioredis_kit import ClientState, TLSOptions, create_client
from aioredis_kit.exceptions import ConfigurationError, ConnectError, ConnectTimeoutError
from aioredis_kit.testing import RedisServer, TLSFiles
from tests.support.observing import EventRecord, job_tasks, outcome, until


@pytest.fixture(scope="module")
def binary():
    """The path of a server with TLS."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("there is no redis-server on PATH; the embedded valkey-server has no TLS")
    server = RedisServer(binary=found)
    if not server.has_tls:
        pytest.skip(f"{found} was built without TLS")
    return found


@pytest.fixture(scope="module")
def authority():
    """Who signs."""
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """A function that writes a certificate for some names, with its key and the authority's."""

    def write(*names):
        folder = tmp_path_factory.mktemp("tls")
        written = TLSFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
        certificate = authority.issue_cert(*names)
        certificate.cert_chain_pems[0].write_to_path(written.cert)
        certificate.private_key_pem.write_to_path(written.key)
        authority.cert_pem.write_to_path(written.ca)
        return written

    return write


@pytest.fixture(scope="module")
def server(binary, files):
    """A server with a certificate for 127.0.0.1 and localhost, which doesn't ask clients for theirs."""
    with RedisServer(binary=binary, tls=files("127.0.0.1", "localhost"), password="secret") as server:
        yield server


async def serves(*args, **options):
    """Connect, use the client, close it."""
    async with create_client(*args, **options) as client:
        await client.set("k", b"x" * 300_000)
        assert await client.get("k") == b"x" * 300_000
        assert await asyncio.gather(*(client.echo(str(number)) for number in range(100))) == [
            str(number).encode() for number in range(100)
        ]
    assert not job_tasks()


@pytest.mark.pins("5.3", "P6")
@pytest.mark.parametrize("way", ["url", "redis-py's names", "TLSOptions", "SSLContext", "valkeys", "ca_data"])
async def test_trusted_certificates(server, way):
    """In every way in which an authority can be named."""
    place = {"host": server.host, "port": server.port, "password": "secret"}
    ca = str(server.tls.ca)
    if way == "url":
        await serves(server.url, ssl_ca_certs=ca)
    elif way == "valkeys":
        await serves(server.url.replace("rediss", "valkeys"), ssl_ca_certs=ca)
    elif way == "redis-py's names":
        await serves(**place, ssl=True, ssl_ca_certs=ca, ssl_cert_reqs="required", ssl_check_hostname=True)
    elif way == "TLSOptions":
        await serves(**place, tls=TLSOptions(ca_file=ca, minimum_version="TLSv1.3"))
    elif way == "ca_data":
        await serves(**place, tls=TLSOptions(ca_data=server.tls.ca.read_text()))
    else:
        await serves(**place, tls=ssl.create_default_context(cafile=ca))


@pytest.mark.pins("4.18", "5.2")
@pytest.mark.parametrize("strategy", [None, 0.0])
async def test_an_unknown_authority(server, strategy):
    """Waiting can't mend it: final at first, with the default strategy; one of one's own is asked."""
    answers = iter([0.0, False])
    client = create_client(server.url, reconnect_strategy=None if strategy is None else lambda *_: next(answers))
    events = EventRecord(client)
    error = await outcome(client.connect())
    assert type(error) is ConnectError
    assert "certificate does not verify" in str(error)
    assert client.state is ClientState.TERMINATED
    failures = 1 if strategy is None else 2
    assert error.attempts == failures
    assert events.names == ["error", "reconnecting"] * (failures - 1) + ["terminated", "error"]
    assert isinstance(events.of("error")[0].__cause__, ssl.SSLCertVerificationError)


@pytest.mark.pins("4.18")
async def test_a_certificate_for_another_name(binary, files):
    """Refused, unless the name is given, or its check is switched off by name."""
    with RedisServer(binary=binary, tls=files("redis.example.com")) as server:
        ca = str(server.tls.ca)
        error = await outcome(create_client(server.url, ssl_ca_certs=ca).connect())
        assert "certificate does not verify" in str(error)
        await serves(server.url, tls=TLSOptions(ca_file=ca, server_hostname="redis.example.com"))
        await serves(server.url, tls=TLSOptions(ca_file=ca, check_hostname=False))
        await serves(server.url, ssl_cert_reqs="none")
        await serves(server.url, tls=TLSOptions(verify=False))


@pytest.mark.pins("5.3")
async def test_a_server_that_asks_for_certificates(binary, files):
    """With ours it serves; without, the connection ends as any other that fails."""
    with RedisServer(binary=binary, tls=files("127.0.0.1"), config=["tls-auth-clients yes"]) as server:
        ca, own = str(server.tls.ca), files("client")
        await serves(server.url, ssl_ca_certs=ca, ssl_certfile=str(own.cert), ssl_keyfile=str(own.key))
        client = create_client(server.url, ssl_ca_certs=ca, reconnect_strategy=False)
        error = await outcome(client.connect())
        assert isinstance(error, ConnectError)
        assert not isinstance(error, ConnectTimeoutError)
        assert not client.is_open


@pytest.mark.pins("5.2", "P2")
async def test_the_wrong_kind_of_server(server, redis_server):
    """TLS spoken to a server without, and the other way round: an error, no hang."""
    for url in (f"rediss://{redis_server.host}:{redis_server.port}", f"redis://{server.host}:{server.port}"):
        client = create_client(url, reconnect_strategy=False, connect_timeout=1)
        error = await outcome(client.connect())
        assert isinstance(error, ConnectError)
        assert not job_tasks()


@pytest.mark.pins("4.11", "case-35", "5.1")
async def test_a_tls_server_that_dies(binary, files):
    """Lost, and connected again with TLS when it is back."""
    with RedisServer(binary=binary, tls=files("127.0.0.1")) as server:
        client = create_client(server.url, ssl_ca_certs=str(server.tls.ca), reconnect_strategy=0.05)
        async with client:
            events = EventRecord(client)
            assert await client.set("k", 1) is True
            server.kill()
            await events.wait_for("reconnecting")
            waiting = asyncio.create_task(client.set("k", 2))
            await anyio.to_thread.run_sync(server.start)
            assert await waiting is True
            assert client.is_ready


async def test_certificates_that_are_renewed_on_disk(binary, files):
    """The next handshake uses them; while they are half written it uses those before."""
    with RedisServer(binary=binary, tls=files("127.0.0.1"), config=["tls-auth-clients yes"]) as server:
        own, other = files("client"), files("client")
        options = TLSOptions(ca_file=str(server.tls.ca), certificate_file=str(own.cert), key_file=str(own.key))
        async with create_client(server.url, tls=options, reconnect_strategy=0.01) as client:
            context = client._core.equipment.dialler.tls

            async def reconnect():
                before = await client.client_id()
                client._core.route(()).shared.replace_connections("for a test")
                await until(lambda: client.is_ready)
                assert await client.client_id() != before
                return context.context

            first = context.context
            assert await reconnect() is first
            own.cert.write_bytes(b"half of it")
            assert await reconnect() is first
            own.cert.write_bytes(other.cert.read_bytes())
            own.key.write_bytes(other.key.read_bytes())
            second = await reconnect()
            assert second is not first
            assert await reconnect() is second


@pytest.mark.pins("5.2", "P6")
@pytest.mark.parametrize("delay", range(0, 30, 3))
async def test_cancelling_the_tls_handshake(server, delay):
    """At any turn of it: nothing is left."""
    client = create_client(server.url, ssl_ca_certs=str(server.tls.ca))
    connecting = asyncio.create_task(client.connect())
    for _ in range(delay):
        await asyncio.sleep(0)
    if connecting.cancel():
        assert isinstance(await outcome(connecting), asyncio.CancelledError)
    else:
        await client.close()
    assert not client.is_open
    await until(lambda: not job_tasks())


async def test_files_that_can_not_be_read(tmp_path):
    """An error that names the option, before any I/O with a server."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for options in (
        {"ssl_ca_certs": "/no/such/file"},
        {"ssl_ca_certs": str(nonsense)},
        {"ssl_certfile": str(nonsense), "ssl_keyfile": str(nonsense)},
        {"ssl_ca_data": "nonsense"},
        {"ssl_ciphers": "nonsense"},
    ):
        with pytest.raises(ConfigurationError, match="tls"):
            create_client("rediss://localhost", **options)
