"""``aioredis-kit doctor`` against servers that are well and ill, and against ports that are something else."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import shutil
import socket
import sys
import threading
import time

import anyio.to_thread
import pytest
import trustme

from aioredis_kit.cli.doctor.findings import Severity
from aioredis_kit.testing import RedisServer, ScriptedPeer, TLSFiles, resp
from aioredis_kit.testing.probe import Probe
from tests.support.cli import COLUMNS, document, interrupt, invoke, run_on_a_terminal, started
from tests.support.readme import blocks

PASSWORD = "s3cret-of-ada"
OTHER = "s3cret-of-bob"
ACL = (
    f"user nobody on >{PASSWORD} -@all",
    f"user reader on >{PASSWORD} ~cache:* +get +pttl +ping",
    f"user listener on >{PASSWORD} &* +subscribe +unsubscribe",
    f"user auditor on >{PASSWORD} ~* &* +@all -client|unblock -set",
)
STEPS = ["name", "socket", "handshake", "server", "rights", "latency", "features", "options"]


@pytest.fixture(scope="module")
def server():
    """A server with a password, and users with few rights."""
    with RedisServer(password=PASSWORD, acl=ACL) as server:
        yield server


def url_of(server, user="", password=PASSWORD):
    """Return the URL for a user."""
    return f"redis://{user}:{password}@{server.host}:{server.port}"


def examined(*arguments, **variables):
    """Run it with and without ``--json``; both must agree. Return the document, and the text."""
    result = invoke("doctor", *arguments, "--json", **variables)
    found = document(result)
    text = invoke("doctor", *arguments, **variables)
    assert text.exit_code == result.exit_code == (1 if found["verdict"] == "error" else 0)
    assert text.stderr == ""
    shown = re.sub(r"\s+", " ", text.stdout)
    for code, finding in troubles(found).items():
        if code not in {"just_started", "latency_spikes", "this_process_late"}:  # of one moment
            assert re.sub(r"\d+", "", finding["what"]) in re.sub(r"\d+", "", shown)
    check_layout(text.stdout)
    return found, text.stdout


def check_layout(text):
    """No line is too long, and nothing is there but text."""
    assert "\x1b" not in text
    assert all(len(line) <= COLUMNS for line in text.splitlines() if "/" not in line), "a path is never cut"


def troubles(found):
    """Return what is not well, by code."""
    every = [finding for step in found["steps"] for finding in step["findings"]]
    assert all(each["advice"] or each["severity"] in {"well", "note"} for each in every)
    return {each["code"]: each for each in every if each["severity"] != "well"}


def error(found):
    """Return the only error."""
    (only,) = (each for each in troubles(found).values() if each["severity"] == "error")
    return only


def reached(found):
    """Return the steps that were reached."""
    return [step["step"] for step in found["steps"] if step["verdict"] != "not_reached"]


def test_a_healthy_server(server):
    found, text = examined(url_of(server))
    assert found["verdict"] in {"note", "well"}
    assert troubles(found).keys() <= {"just_started", "this_process_late"}
    assert reached(found) == [step["step"] for step in found["steps"]] == STEPS
    measured = found["measured"]
    assert measured["addresses"] == [server.host]
    assert sys.platform != "linux" or 0 < measured["sockets"][0]["round_trip"] < 1
    assert measured["handshake"]["protocol"] == 3
    assert measured["server"]["mode"] == "standalone"
    assert measured["server"]["role"] == "master"
    assert abs(measured["server"]["clock_ahead"]) < 1
    assert set(measured["rights"]["permissions"].values()) <= {"granted", "unknown"}
    latency = measured["latency"]
    assert latency["pings"] == 100 == sum(bar["count"] for bar in latency["histogram"])
    assert 0 < latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert "all is well" in text.splitlines()[-1]
    assert f"password  ***{' ' * 10}" in text


def test_the_environment_names_the_server(server):
    found, text = examined("cache", CACHE_URI=url_of(server))
    assert found["target"]["sources"] == ["CACHE_URI"]
    assert "(from CACHE_URI)" in text.splitlines()[0]
    assert "from CACHE_URI" in text


def test_a_unix_socket():
    with RedisServer(unix_socket=True) as server:
        found, _ = examined(server.url)
        assert reached(found) == STEPS[1:]
        server.kill()
        assert error(examined(server.url)[0])["code"] in {"socket_refused", "socket_missing"}


@pytest.mark.parametrize("user", ["", "auditor", "unknown"])
def test_a_wrong_password(server, user):
    found, text = examined(url_of(server, user, OTHER))
    assert error(found)["code"] == "password_refused"
    assert f"refuses the credentials of user {user or 'default'}" in error(found)["what"]
    assert "came from the URL" in error(found)["why"]
    assert reached(found) == ["name", "socket", "handshake", "options"]
    assert "not reached: server, rights, latency, features" in text


def test_a_password_that_is_missing_or_needless(server):
    found, _ = examined(f"redis://{server.host}:{server.port}")
    assert error(found)["code"] == "password_missing"
    with RedisServer() as open_server:
        found, _ = examined(url_of(open_server))
        assert troubles(found)["any_password"]["severity"] == "warning"
        found, _ = examined(f"{url_of(open_server)}?protocol=2")
        assert error(found)["code"] == "password_needless"


def test_a_user_without_rights(server):
    found, _ = examined(url_of(server, "nobody"))
    assert error(found)["code"] == "no_rights"
    assert "user nobody may use none" in error(found)["what"]
    assert {"not_told", "no_tracking"} <= troubles(found).keys()


def test_users_with_some_rights(server):
    """What nobody may be asked about is tried where that does no harm."""
    rights = examined(url_of(server, "reader"))[0]["measured"]["rights"]["permissions"]
    assert rights["PING"] == "granted"
    assert rights["GET"] == rights["PTTL"] == "elsewhere"
    assert rights["CLIENT UNBLOCK"] == rights["SUBSCRIBE"] == "refused"
    assert rights["SET"] == "unknown"
    found, _ = examined(url_of(server, "listener"))
    assert found["verdict"] != "error"
    assert found["measured"]["rights"]["permissions"]["SUBSCRIBE"] == "granted"
    found, _ = examined(url_of(server, "auditor"))
    assert {"no_right_client_unblock", "no_right_set"} <= troubles(found).keys()
    assert found["verdict"] == "warning"


def test_it_writes_nothing(server):
    with Probe(server.address) as probe:
        probe.call("FLUSHALL")
        invoke("doctor", url_of(server))
        invoke("doctor", url_of(server, "reader"))
        assert probe.call("DBSIZE") == 0
        assert "cmdstat_set:" not in str(probe.call("INFO", "commandstats"))


def test_memory_that_is_full():
    with RedisServer() as server, Probe(server.address) as probe:
        probe.call("SET", "k", "x" * 1_000_000)
        probe.call("CONFIG", "SET", "maxmemory", "1mb")
        found, text = examined(server.url)
        assert error(found)["code"] == "memory_full"
        assert "noeviction" in error(found)["why"]
        assert "memory is full" in text.splitlines()[-2] + text.splitlines()[-1]
        assert_shown_in_the_readme(text, error(found))
        probe.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "timeout", "20")
        found, _ = examined(server.url)
        assert troubles(found).keys() >= {"idle_timeout"}
        assert found["verdict"] == "warning"


def assert_shown_in_the_readme(text, finding):
    """The README's example is about such a server: the same steps, marks and words, with other numbers."""
    (example,) = (block for block in blocks("text") if "ERROR  " in block)
    marks = [line.split()[:2] for line in text.splitlines() if re.match(r"ok +[a-z]", line)]
    assert marks == [line.split()[:2] for line in example.splitlines() if re.match(r"ok +[a-z]", line)]
    shown = re.sub(r"\s+", " ", example)
    assert finding["what"] in shown
    assert finding["advice"] in shown


def test_a_closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        found, _ = examined(f"redis://127.0.0.1:{sock.getsockname()[1]}")
    assert error(found)["code"] == "socket_refused"
    assert reached(found) == ["name", "socket", "options"]


def test_an_unknown_name():
    found, _ = examined("redis://no-such-host.invalid")
    assert error(found)["code"] == "name_unknown"
    assert "no-such-host.invalid" in error(found)["what"]


def test_name_servers_that_do_not_answer(monkeypatch):
    """Its time is over when it says so, although the look-up goes on."""
    end = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host, *arguments, **options):
        if host == "cache.invalid" and not options.get("flags"):  # else it is whether that is an address
            end.wait(20)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    begin = time.monotonic()
    try:
        result = invoke("doctor", "redis://cache.invalid", "--timeout", "0.5", "--json")
    finally:
        took = time.monotonic() - begin
        end.set()
    assert error(document(result))["code"] == "name_resolution_late"
    assert took < 5


def here(listener):
    """Return the URL of a listening socket."""
    return f"redis://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent():
    """The URL of a port that accepts connections, as the system does by itself, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield here(listener)


@pytest.mark.parametrize(("scheme", "code"), [("redis", "silent"), ("rediss", "tls_silent")])
def test_a_port_that_accepts_and_never_answers(silent, scheme, code):
    begin = time.monotonic()
    result = invoke("doctor", silent.replace("redis", scheme), "--timeout", "0.5", "--json")
    assert time.monotonic() - begin < 3
    assert result.exit_code == 1
    assert error(document(result))["code"] == code
    assert "accepted" in error(document(result))["what"]


@pytest.mark.only_long
def test_it_ends_in_time_by_default(silent):
    begin = time.monotonic()
    assert invoke("doctor", silent).exit_code == 1
    assert time.monotonic() - begin < 11


async def test_a_port_of_another_service():
    async def serve(reader, writer):
        if await reader.read(1000):  # and not the one that only looks whether somebody is there
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        result = await anyio.to_thread.run_sync(lambda: invoke("doctor", url, "--json"))
    assert error(document(result))["code"] == "not_redis"


async def doctor_of(peer, *arguments):
    """Run it in a thread, while the peer answers here."""
    return document(await anyio.to_thread.run_sync(lambda: invoke("doctor", peer.url, "--json", *arguments)))


async def test_a_server_without_resp3():
    unknown = resp.error("ERR unknown command")
    async with ScriptedPeer() as peer:
        for name in ("HELLO", "INFO", "CONFIG", "ACL", "TIME", "GET", "PTTL", "SUBSCRIBE"):
            peer.on(name, unknown)
        found = await doctor_of(peer)
    assert found["measured"]["handshake"]["protocol"] == 2
    assert troubles(found)["resp2"]["severity"] == "warning"
    assert "RESP2" in troubles(found)["no_tracking"]["why"]
    assert found["verdict"] == "warning"


@pytest.mark.parametrize("word", ["LOADING", "MASTERDOWN", "BUSY"])
async def test_a_server_that_does_not_serve_yet(word):
    async with ScriptedPeer() as peer:
        peer.on("PING", resp.error(f"{word} wait"))
        found = await doctor_of(peer, "--timeout", "0.6")
    assert error(found)["code"] == "not_serving"
    assert word in error(found)["why"]


async def test_a_server_that_stops_answering_meanwhile():
    """The time is bounded, and what was seen is told."""
    async with ScriptedPeer() as peer:
        peer.on("INFO", None)
        found = await doctor_of(peer, "--timeout", "0.4")
    assert error(found)["code"] == "time_over"
    assert reached(found)[:3] == ["name", "socket", "handshake"]


@pytest.mark.only_long
def test_clusters_and_replicas():
    """This client is for one server."""
    with RedisServer(config={"cluster-enabled": "yes"}) as server:
        found, _ = examined(server.url)
        assert {"cluster", "cluster_down"} <= troubles(found).keys()
    with RedisServer() as primary, RedisServer(config={"replicaof": f"127.0.0.1 {primary.port}"}) as replica:
        found, _ = examined(replica.url)
        assert found["verdict"] == "warning"
        assert f":{primary.port}" in troubles(found)["replica"]["why"]


# TLS.

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA(organization_name="Ada & Co", organization_unit_name="root")


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """A function that writes a certificate for some names, signed by an authority below the one that is trusted."""
    signer = authority.create_child_ca()

    def write(*names, **dates):
        folder = tmp_path_factory.mktemp("tls")
        written = TLSFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
        certificate = signer.issue_cert(*names, common_name=names[0], **dates)
        written.cert.write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(written.key)
        authority.cert_pem.write_to_path(written.ca)
        return written

    return write


@pytest.fixture(scope="module")
def tls_server(files):
    """A server with TLS and a certificate for 127.0.0.1; and what makes it show another one."""
    binary = shutil.which("redis-server")
    if binary is None or not RedisServer(binary=binary).has_tls:
        pytest.skip("there is no redis-server with TLS on PATH")
    running = RedisServer(binary=binary, tls=files("127.0.0.1"), password=PASSWORD)
    with running as server, Probe(server.address) as probe:  # one connection for all: later ones may not be trusted

        def show(certificate, *more):
            names = ("tls-cert-file", str(certificate.cert), "tls-key-file", str(certificate.key))
            probe.call("CONFIG", "SET", *names, *more)

        yield server, show


def trusting(server):
    return f"{server.url}?ssl_ca_certs={server.tls.ca}"


def test_tls_that_is_well(tls_server, files):
    server, show = tls_server
    show(files("127.0.0.1", "cache.example.com", not_before=NOW - DAY, not_after=NOW + 80 * DAY))
    found, text = examined(trusting(server))
    assert found["verdict"] in {"well", "note"}
    assert "the certificate ends in 80 days" in re.sub(r"\s+", " ", text)
    assert "signed by Ada & Co, root" in re.sub(r"\s+", " ", text)
    own, *others = found["measured"]["tls"]["certificates"]
    assert own["names"] == ["127.0.0.1", "cache.example.com"]
    assert len(others) == 1
    assert found["measured"]["tls"]["version"] == "TLSv1.3"


@pytest.mark.parametrize(
    ("name", "begins", "ends", "code", "words"),
    [
        ("127.0.0.1", -30, -1, "certificate_expired", " hours ago"),
        ("redis.example.com", -30, 30, "certificate_for_another_name", "it is for redis.example.com"),
        ("127.0.0.1", 1, 30, "certificate_not_yet_valid", "it begins"),
    ],
)
def test_certificates_that_are_not_accepted(tls_server, files, name, begins, ends, code, words):
    """What is wrong is named with the certificate's own words, and no check is to be switched off."""
    server, show = tls_server
    show(files(name, not_before=NOW + begins * DAY, not_after=NOW + ends * DAY))
    found, _ = examined(trusting(server))
    assert error(found)["code"] == code
    assert words in error(found)["why"]
    assert "signed by Ada & Co, root" in error(found)["why"]
    assert "verify" not in error(found)["advice"]
    assert reached(found) == ["name", "socket", "tls", "options"]


def test_a_certificate_that_ends_soon(tls_server, files):
    server, show = tls_server
    show(files("127.0.0.1", not_before=NOW - 80 * DAY, not_after=NOW + 5.5 * DAY))
    found, _ = examined(trusting(server))
    assert troubles(found)["certificate_ends_soon"]["severity"] == "warning"


def test_an_unknown_authority(tls_server, files):
    server, show = tls_server
    show(files("127.0.0.1"))
    found, _ = examined(server.url)
    assert error(found)["code"] == "certificate_of_unknown_authority"
    assert "ssl_ca_certs" in error(found)["advice"]


def test_checks_that_are_switched_off(tls_server, files):
    server, show = tls_server
    show(files("redis.example.com"))
    found, _ = examined(f"{server.url}?ssl_cert_reqs=none")
    assert troubles(found)["certificate_unchecked"]["severity"] == "warning"


def test_a_client_certificate_that_is_missing(tls_server, files):
    server, show = tls_server
    show(files("127.0.0.1"), "tls-auth-clients", "yes")
    try:
        found, _ = examined(trusting(server))
        assert error(found)["code"] == "client_certificate_missing"
    finally:
        show(files("127.0.0.1"), "tls-auth-clients", "no")


def test_tls_on_one_side_only(tls_server, server):
    encrypted, _ = tls_server
    found, _ = examined(encrypted.url.replace("rediss://", "redis://"))
    assert error(found)["code"] == "tls_missing"
    result = invoke("doctor", url_of(server).replace("redis://", "rediss://"), "--timeout", "1", "--json")
    assert error(document(result))["code"] == "tls_not_spoken"


# How it is told.


def test_configurations_that_are_wrong():
    for arguments in (["redis://localhost?no_such=1"], ["rediss://localhost?ssl_ca_certs=/no/such/file"]):
        result = invoke("doctor", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
    assert invoke("doctor", "redis://localhost", "--timeout", "0").exit_code == 2


def test_no_secret_is_shown(server):
    """Neither the password, nor what the server has of it."""
    for user, password in (("", PASSWORD), ("auditor", PASSWORD), ("", OTHER), ("nobody", PASSWORD)):
        for more in ((), ("--json",)):
            result = invoke("doctor", url_of(server, user, password), *more)
            assert "s3cret" not in result.output
            assert not re.search(r"[0-9a-f]{64}", result.output)


@pytest.mark.only_long
def test_a_terminal_of_80_columns_with_and_without_colours(server):
    """The same words, whether they are coloured or not; each finding's mark is a word."""
    code, coloured = run_on_a_terminal("doctor", url_of(server, "nobody"))
    assert code == 1
    assert "\x1b[1;31mERROR" in coloured
    code, plain = run_on_a_terminal("doctor", url_of(server, "nobody"), NO_COLOR="1")
    assert "\x1b[1;31m" not in plain
    for text in (coloured, plain):
        told = text.rpartition("\x1b[?25h")[2]  # after what turns while one waits
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told).replace("\r", "").splitlines()
        assert any(line.startswith("ERROR  rights") for line in lines)
        assert all(len(line) <= COLUMNS for line in lines)


@pytest.mark.only_long
def test_ctrl_c():
    with socket.create_server(("127.0.0.1", 0)) as listener, started("doctor", here(listener)) as process:
        is_handshaking = False
        while not is_handshaking:
            connection, _ = listener.accept()
            with connection:
                if is_handshaking := bool(connection.recv(1000)):  # and does not only look whether somebody is there
                    code, out, err = interrupt(process)
    assert code == 130
    assert "Traceback" not in out + err
    assert "ok     socket" in out, "what was seen is told"
    assert "interrupted after" in out.splitlines()[-1]


def test_every_severity_has_a_mark():
    from aioredis_kit.cli.doctor.report import _MARKS

    assert _MARKS.keys() == set(Severity)
