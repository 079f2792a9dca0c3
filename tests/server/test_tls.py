"""TLS against a server that has it: Debian's redis-server, with certificates made for the test."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import shutil
import socket
import ssl
import struct

import anyio.to_thread
import pytest
import trustme

from aioredis_kit import ClientState, TLSOptions, create_client
from aioredis_kit.exceptions import ConfigurationError, ConnectError, ConnectionLostError, ConnectTimeoutError
from aioredis_kit.testing import FaultProxy, RedisServer, TLSFiles
from aioredis_kit.testing.probe import Probe
from tests.support.observing import EventRecord, job_tasks, outcome, turns, until

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
PAST = {"not_before": NOW - 2 * DAY, "not_after": NOW - DAY}
FUTURE = {"not_before": NOW + DAY, "not_after": NOW + 2 * DAY}


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

    def write(*names, signed_by=authority, **dates):
        folder = tmp_path_factory.mktemp("tls")
        written = TLSFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
        certificate = signed_by.issue_cert(*names, **dates)
        certificate.cert_chain_pems[0].write_to_path(written.cert)
        certificate.private_key_pem.write_to_path(written.key)
        authority.cert_pem.write_to_path(written.ca)
        return written

    return write


@pytest.fixture(scope="module")
def server(binary, files):
    """A server with a certificate for 127.0.0.1 and localhost, which doesn't ask clients for theirs."""
    with RedisServer(binary=binary, tls=files("127.0.0.1", "localhost"), password="s3cret") as server:
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
    place = {"host": server.host, "port": server.port, "password": "s3cret"}
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
    assert "certificate does not verify for 127.0.0.1: no authority that is trusted signed it" in str(error)
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
        assert "certificate does not verify for 127.0.0.1: it is for redis.example.com" in str(error)
        await serves(server.url, tls=TLSOptions(ca_file=ca, server_hostname="redis.example.com"))
        await serves(server.url, tls=TLSOptions(ca_file=ca, check_hostname=False))
        await serves(server.url, ssl_cert_reqs="none")
        await serves(server.url, tls=TLSOptions(verify=False))


@pytest.mark.parametrize("name", ["localhost.", "LocalHost"])
async def test_a_name_in_another_spelling(server, name):
    """The dot at its end says that it is complete; no name in a certificate has one."""
    await serves(server.url, tls=TLSOptions(ca_file=str(server.tls.ca), server_hostname=name))


@pytest.mark.only_long
async def test_a_certificate_for_another_name_that_comes_late(binary, files):
    """To ask for its names takes no more than the time that is left: the error says what failed, with them or not."""
    with RedisServer(binary=binary, tls=files("redis.example.com")) as server:
        async with FaultProxy(server.host, server.port) as proxy:
            proxy.delay(0.8)
            options = {"host": proxy.host, "port": proxy.port, "tls": TLSOptions(ca_file=str(server.tls.ca))}
            error = await outcome(create_client(**options, connect_timeout=2.0).connect())
    assert type(error) is ConnectError
    assert "certificate does not verify for 127.0.0.1: it is for " in str(error)


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


@pytest.mark.pins("P2", "4.11")
async def test_what_is_in_flight_ends_with_its_connection(binary, files):
    """Also where TLS knows no socket any more."""
    with RedisServer(binary=binary, tls=files("127.0.0.1")) as server:
        client = create_client(server.url, ssl_ca_certs=str(server.tls.ca), command_timeout=5)
        await client.connect()
        server.pause()
        call = asyncio.create_task(client.incr("n"))
        await turns()
        server.kill()
        error = await outcome(call)
        assert isinstance(error, ConnectionLostError)
        assert error.maybe_executed
        client.destroy()


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.only_long)])
def run(request):
    """A function that runs a coroutine on a loop of that kind; no job and no unhandled exception may be left."""
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(coroutine):
        unhandled = []
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))

            async def guarded():
                result = await coroutine
                await until(lambda: not job_tasks())
                return result

            result = runner.run(guarded())
        assert not unhandled
        return result

    return run


@contextlib.contextmanager
def serving(binary, files, **settings):
    """A server that is changed once it is up: with some of these settings nobody could tell that it is."""
    with RedisServer(binary=binary, tls=files("127.0.0.1")) as server:
        if settings:
            change(server, **settings)
        yield server


def change(server, *, shows=None, **settings):
    """Have a server that can still be asked show another certificate, and the like."""
    if shows is not None:
        settings |= {"tls_cert_file": str(shows.cert), "tls_key_file": str(shows.key)}
    words = [word for name, value in settings.items() for word in (name.replace("_", "-"), value)]
    with Probe(server.address) as probe:
        probe.call("CONFIG", "SET", *words)


async def failure(server, **options):
    """Connect in vain; return the error."""
    tls = TLSOptions(**({"ca_file": str(server.tls.ca)} | options.pop("tls", {})))
    client = create_client(server.url, tls=tls, **options)
    error = await outcome(client.connect())
    assert isinstance(error, ConnectError)
    assert error.address == f"{server.host}:{server.port}"
    assert str(error).startswith(f"{error.address}: ")
    assert not client.is_open
    assert "verify=" not in str(error), "no check is to be switched off"
    return error


@pytest.mark.pins("4.18", "5.2")
@pytest.mark.parametrize("name", ["127.0.0.1", "other.example.com"])
def test_the_names_of_the_certificate_are_told(binary, files, run, name):
    """And the name that was asked for, whether that is the host or not."""
    with serving(binary, files, shows=files("redis.example.com", "*.example.org", "10.1.2.3")) as server:
        error = run(failure(server, tls={} if name == server.host else {"server_hostname": name}))
        assert type(error) is ConnectError
        assert error.attempts == 1
        assert f"does not verify for {name}: it is for redis.example.com, *.example.org, 10.1.2.3;" in str(error)
        assert "tls=TLSOptions(server_hostname=…)" in str(error)


def test_a_client_certificate_is_not_shown_to_a_server_by_another_name(binary, files, run):
    """Its names are looked at without."""
    with serving(binary, files, shows=files("redis.example.com"), tls_auth_clients="yes") as server:
        own = files("client")
        error = run(failure(server, tls={"certificate_file": str(own.cert), "key_file": str(own.key)}))
        assert "it is for redis.example.com;" in str(error)


def test_a_context_of_ones_own_tells_no_names(binary, files, run):
    """It can't be copied, so they can't be looked at; all else is told."""

    async def connect(server):
        client = create_client(server.url, tls=ssl.create_default_context(cafile=server.tls.ca))
        return await outcome(client.connect())

    with serving(binary, files, shows=files("redis.example.com")) as server:
        error = run(connect(server))
        assert "does not verify for 127.0.0.1: it is for another name; if this is the right server" in str(error)


@pytest.mark.pins("4.18", "5.2")
def test_an_expired_certificate(binary, files, run):
    """Somebody has to renew it: final."""
    with serving(binary, files, shows=files("127.0.0.1", **PAST)) as server:
        error = run(failure(server))
        assert type(error) is ConnectError
        assert error.attempts == 1
        assert "does not verify for 127.0.0.1: it has expired" in str(error)


def test_a_certificate_that_is_not_valid_yet(binary, files, run):
    """Waiting does mend it: as the strategy says."""
    answers = iter([0.0, False])
    with serving(binary, files, shows=files("127.0.0.1", **FUTURE)) as server:
        error = run(failure(server, reconnect_strategy=lambda *_: next(answers)))
        assert error.attempts == 2
        assert "does not verify for 127.0.0.1: it is not valid yet; compare the clocks" in str(error)


@pytest.mark.pins("4.18", "5.2")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_client_certificate_that_is_missing(binary, files, run, version):
    """With TLS 1.3 the server says so after the client's handshake is done; and in so many words, so that is final."""
    with serving(binary, files, tls_auth_clients="yes", tls_protocols=version) as server:
        error = run(failure(server, reconnect_strategy=None if version == "TLSv1.3" else False))
        assert type(error) is ConnectError
        assert "demands a client certificate, and none was given" in str(error)
        assert "tls=TLSOptions(certificate_file=…, key_file=…)" in str(error)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (PAST, "it has expired"),
        ({"signed_by": trustme.CA()}, "the server does not trust the authority that signed it"),
    ],
    ids=["expired", "untrusted"],
)
def test_a_client_certificate_that_is_refused(binary, files, run, version, fault, reason):
    """The server's reason; or, if that was lost as it hung up on a client that was writing, that it is refused."""
    own = files("client", **fault)
    with serving(binary, files, tls_auth_clients="yes", tls_protocols=version) as server:
        given = {"certificate_file": str(own.cert), "key_file": str(own.key)}
        text = str(run(failure(server, tls=given, reconnect_strategy=False)))
        refused = f"the server refused the client certificate {own.cert}: {reason}"
        assert refused in text or f"reset by peer during the handshake; {_SUSPICION} {own.cert}" in text
        assert "tls=TLSOptions(certificate_file=…, key_file=…)" in text


_SUSPICION = "right after a TLS handshake that may be because the server does not accept the client certificate"


class Resetting(asyncio.Protocol):
    """Resets the connection as soon as something was sent to it."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_connection_that_is_reset_right_after_the_tls_handshake(authority, files, version):
    """With TLS 1.3 a server may not have looked at our certificate before; with TLS 1.2 it has."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.maximum_version = version
    authority.issue_cert("127.0.0.1").configure_cert(context)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Resetting, "127.0.0.1", 0, ssl=context) as listener:
        port = listener.sockets[0].getsockname()[1]
        options = TLSOptions(ca_file=str(files("client").ca))
        error = await outcome(
            create_client(host="127.0.0.1", port=port, tls=options, reconnect_strategy=False).connect()
        )
        assert "reset by peer during the handshake" in str(error)
        is_suspected = "may be because the server demands a client certificate, and none was given" in str(error)
        assert is_suspected is (version is ssl.TLSVersion.TLSv1_3)


@pytest.mark.pins("4.18", "5.2")
def test_a_server_that_speaks_only_older_tls(binary, files, run):
    """Final: TLS 1.1 is never spoken, and an older one only if it is allowed."""
    with serving(binary, files, tls_protocols="TLSv1.1", tls_ciphers="ALL:@SECLEVEL=0") as server:
        error = run(failure(server))
        assert type(error) is ConnectError
        assert error.attempts == 1
        assert "no TLS version that this client accepts, which is TLSv1.2 or newer" in str(error)
        assert "tls=TLSOptions(minimum_version=…)" in str(error)
    with serving(binary, files, tls_protocols="TLSv1.2") as server:
        error = run(failure(server, tls={"minimum_version": "TLSv1.3"}))
        assert "TLSv1.3 or newer" in str(error)
        assert 'tls=TLSOptions(minimum_version="TLSv1.2")' in str(error)


@pytest.mark.pins("5.1")
async def test_a_certificate_that_expires_and_is_renewed(binary, files):
    """A client that was ready does not give up: it says why, and is back with the new certificate."""
    with serving(binary, files) as server:
        options = TLSOptions(ca_file=str(server.tls.ca))
        async with create_client(server.url, tls=options, reconnect_strategy=0.01) as client:
            events = EventRecord(client)
            change(server, shows=files("127.0.0.1", **PAST))
            client._core.route(()).shared.replace_connections("for a test")
            await events.wait_for("error", 2)
            assert "does not verify for 127.0.0.1: it has expired" in str(events.of("error")[1])
            server.kill()
            await anyio.to_thread.run_sync(server.start)  # with the certificate of its configuration file
            assert await client.ping()


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


async def test_certificates_that_are_renewed_on_disk(binary, files, caplog):
    """The next handshake uses them; while they are half written it uses those before, and says so once."""
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
            assert await reconnect() is first
            (said,) = [each for each in caplog.messages if "TLS" in each]
            assert f"certificate_file {own.cert}" in said
            assert "can't be used" in said
            own.cert.write_bytes(other.cert.read_bytes())
            own.key.write_bytes(other.key.read_bytes())
            second = await reconnect()
            assert second is not first
            assert await reconnect() is second


async def test_what_many_issue_in_one_turn_is_one_write(binary, files):
    """Without TLS it is two, so that the server works meanwhile."""
    callers = 20

    async def call(client, number):
        await client.get(f"a{number}")
        await client.get(f"b{number}")

    with serving(binary, files) as server:
        async with create_client(server.url, tls=TLSOptions(ca_file=str(server.tls.ca))) as client:
            server.pause()
            first = client.statistics().socket_writes
            tasks = [asyncio.create_task(client.ping())]
            tasks += [asyncio.create_task(call(client, number)) for number in range(callers)]
            await turns()
            issued = client.statistics().socket_writes
            assert issued == first + 2, "the PING at once, and what was issued while it was in flight"
            server.resume()
            await asyncio.gather(*tasks)
            assert client.statistics().socket_writes == issued + 1


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
