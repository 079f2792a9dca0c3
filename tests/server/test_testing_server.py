"""`RedisServer` is a real server that obeys, and leaves nothing behind."""

import contextlib
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aioredis_kit.testing import RedisServer, ServerStartError, TLSFiles
from aioredis_kit.testing import server as server_module
from aioredis_kit.testing.probe import ErrorReply, Probe, ServerAddress

DEBIAN = shutil.which("redis-server")
BINARIES = [pytest.param(None, id="default")]
if DEBIAN is not None:
    BINARIES.append(pytest.param(DEBIAN, id="redis-server"))


@pytest.fixture(params=BINARIES)
def binary(request):
    """Each of the servers at hand."""
    return request.param


def eventually(condition, timeout=5.0):
    """Wait until *condition* holds, or fail."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.005)


def ask(server, *words):
    """Return a server's reply to one command."""
    with Probe(server.address) as probe:
        return probe.call(*words)


def listens(port):
    """Return whether anybody listens on a port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_start_and_stop(binary):
    """A server answers when start() returns, and is gone without a trace when stop() does."""
    server = RedisServer(binary=binary)
    server.start()
    folder, port, pid = server.folder, server.port, server.pid
    assert ask(server, "PING") == b"PONG"
    assert server.url == f"redis://127.0.0.1:{port}"
    assert server.is_running
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()
    server.stop()
    server.stop()
    assert not server.is_running
    assert not folder.exists()
    assert not listens(port)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "eady to accept connections" in server.log


def test_version_and_flavour(binary):
    """What the binary says of itself is what the running server says."""
    with RedisServer(binary=binary) as server, Probe(server.address) as probe:
        assert probe.flavour() == server.flavour
        assert probe.version() == server.version
        assert server.version >= (7, 0, 0)


def test_cycles_leave_nothing(binary, is_long):
    """Starting and stopping again and again leaves no descriptor, child or folder."""
    descriptors = Path("/dev/fd")
    gc.collect()
    before, folders, pids = len(list(descriptors.iterdir())), [], []
    for _ in range(200 if is_long else 10):
        with RedisServer(binary=binary) as server:
            folders.append(server.folder)
            pids += [server.pid, server._lifeline._watcher.pid]
    assert len(list(descriptors.iterdir())) == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("password", ["s3cret", 'sp ace "quote" \\ é'])
def test_password(binary, password):
    """The password is needed, in the URL and not on the command line."""
    with RedisServer(binary=binary, password=password) as server:
        assert ServerAddress.from_url(server.url).password == password
        assert ask(server, "PING") == b"PONG"
        bare = ServerAddress(host=server.host, port=server.port)
        with Probe(bare) as probe, pytest.raises(ErrorReply, match="NOAUTH"):
            probe.call("PING")
        arguments = subprocess.run(["ps", "-o", "args=", "-p", str(server.pid)], capture_output=True, check=True).stdout
        assert password.encode() not in arguments


def test_acl(binary):
    """ACL lines make users, also where the default user is switched off."""
    acl = ["user default off", "user app on >s3cret ~app:* +@all"]
    with RedisServer(binary=binary, acl=acl) as server:
        app = ServerAddress(host=server.host, port=server.port, username="app", password="s3cret")
        with Probe(app) as probe:
            assert probe.call("SET", "app:1", "x") == b"OK"
            with pytest.raises(ErrorReply, match="NOPERM"):
                probe.call("SET", "other", "x")


@pytest.mark.parametrize(
    ("persistence", "end", "survives"),
    [
        ("none", RedisServer.kill, False),
        ("aof", RedisServer.kill, True),
        ("aof-everysec", RedisServer.restart, True),
        ("rdb", RedisServer.restart, True),
        ("rdb", RedisServer.kill, False),
    ],
)
def test_persistence(binary, persistence, end, survives):
    """What is promised to survive does, at the same address."""
    with RedisServer(binary=binary, persistence=persistence) as server:
        port, pid = server.port, server.pid
        assert ask(server, "SET", "k", "v") == b"OK"
        end(server)
        if not server.is_running:
            with pytest.raises(RuntimeError, match="no process"):
                _ = server.pid
            assert not listens(port)
            server.start()
        assert server.port == port
        assert server.pid != pid
        assert ask(server, "GET", "k") == (b"v" if survives else None)


def test_pause(binary):
    """A paused server accepts and doesn't answer; resumed, it answers what came meanwhile."""
    with RedisServer(binary=binary) as server, Probe(server.address, timeout=0.1) as probe:
        server.pause()
        server.pause()
        assert server.is_running
        with pytest.raises(TimeoutError):
            probe.call("SET", "k", "v")
        server.resume()
        server.resume()
        eventually(lambda: ask(server, "GET", "k") == b"v")


@pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill, RedisServer.restart])
def test_end_while_paused(end):
    """A paused server can be ended in every way, without waiting for a time limit."""
    with RedisServer() as server:
        server.pause()
        started = time.monotonic()
        end(server)
        assert time.monotonic() - started < 3


def test_unexpected_end():
    """A server that ends by itself is noticed, and can be started again."""
    with RedisServer(persistence="aof") as server:
        with contextlib.suppress(ConnectionResetError):
            ask(server, "SHUTDOWN", "NOSAVE")
        eventually(lambda: not server.is_running)
        server.start()
        assert ask(server, "PING") == b"PONG"


def test_unix_socket(binary):
    """With a Unix socket the URL names it; TCP works too."""
    with RedisServer(binary=binary, unix_socket=True, password="s3 cret") as server:
        address = ServerAddress.from_url(server.url)
        assert address.unix_socket_path == str(server.unix_socket_path)
        with Probe(address) as probe:
            assert probe.call("PING") == b"PONG"
        assert ask(server, "PING") == b"PONG"


def test_config(binary):
    """Configuration lines are the last word."""
    with RedisServer(binary=binary, config={"save": "77 1", "databases": 3}) as server:
        assert ask(server, "CONFIG", "GET", "save") == [b"save", b"77 1"]
        assert ask(server, "CONFIG", "GET", "databases") == [b"databases", b"3"]


def test_rewritten_configuration(binary):
    """What CONFIG REWRITE wrote holds after a restart."""
    with RedisServer(binary=binary) as server:
        ask(server, "CONFIG", "SET", "maxmemory", "77mb")
        ask(server, "CONFIG", "REWRITE")
        server.kill()
        server.start()
        assert ask(server, "CONFIG", "GET", "maxmemory") == [b"maxmemory", b"80740352"]


def test_loading():
    """A server that still loads counts as started only if that is said to do."""
    config = {"key-load-delay": 2000, "loading-process-events-interval-bytes": 1024}
    with RedisServer(persistence="rdb", config=config) as server:
        pairs = [word for number in range(500) for word in (f"key:{number}", "x" * 50)]
        ask(server, "MSET", *pairs)
        server.restart(wait_loaded=False)
        with Probe(server.address) as probe, pytest.raises(ErrorReply, match="LOADING"):
            probe.call("GET", "key:0")
        server.restart()
        assert ask(server, "DBSIZE") == 500


@pytest.fixture
def tls_files(tmp_path):
    """A certificate for a name that isn't the server's address."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("redis.test")
    files = TLSFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(files.cert)
    certificate.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.ca)
    return files


def test_tls(binary, tls_files):
    """A binary with TLS speaks nothing else when told so; one without says so."""
    server = RedisServer(binary=binary, tls=tls_files, password="s3cret")
    if not server.has_tls:
        with pytest.raises(ServerStartError, match="without TLS"):
            server.start()
        return
    with server:
        assert server.url == f"rediss://:s3cret@127.0.0.1:{server.port}"
        assert ask(server, "PING") == b"PONG"
        bare = ServerAddress(host=server.host, port=server.port, password="s3cret")
        with pytest.raises((OSError, ErrorReply)):
            Probe(bare).close()


def test_broken_configuration(binary):
    """A server that can't start says why, without the password, and leaves nothing."""
    server = RedisServer(binary=binary, acl=["user app on >hunter2 nonsense"])
    with pytest.raises(ServerStartError) as caught:
        server.start()
    assert "FATAL CONFIG FILE ERROR" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not server.is_running
    assert server._lifeline is None


def test_no_answer_in_time():
    """The time limit holds, and ends the process."""
    server = RedisServer()
    with pytest.raises(ServerStartError, match="no answer in time"):
        server.start(timeout=0.001)
    assert not server.is_running


def test_taken_port():
    """A port that was asked for and is taken is an error that names it."""
    with RedisServer() as other:
        server = RedisServer(port=other.port)
        with pytest.raises(ServerStartError, match=f"port {other.port} is taken"):
            server.start()
        assert ask(other, "PING") == b"PONG"


def test_free_port_is_taken_meanwhile(monkeypatch):
    """Where the port was ours to choose, another is chosen."""
    with RedisServer() as other:
        real, ports = server_module._free_port, [other.port]
        monkeypatch.setattr(server_module, "_free_port", lambda: ports.pop() if ports else real())
        with RedisServer() as server:
            assert not ports
            assert server.port != other.port
            assert ask(server, "INFO", "server") != ask(other, "INFO", "server")


def test_out_of_reach_of_a_terminal():
    """Ctrl-C, which goes to the process group, reaches neither the server nor its watcher."""
    with RedisServer() as server:
        assert os.getsid(server.pid) == server.pid
        watcher = server._lifeline._watcher.pid
        assert os.getsid(watcher) == watcher


OWNER = """
import subprocess, sys, time
from aioredis_kit.testing import RedisServer

first, second = RedisServer(), RedisServer(persistence="aof")
first.start()
second.start()
child = subprocess.Popen(["sleep", "60"], close_fds=False)
second.restart()
second.pause()
print(first.port, second.port, child.pid, first.folder, second.folder, flush=True)
sys.stdin.read()
{last_words}
"""


@pytest.mark.parametrize(
    ("end", "last_words"),
    [
        (lambda owner: owner.kill(), ""),
        (lambda owner: owner.send_signal(signal.SIGINT), ""),
        (lambda owner: owner.stdin.close(), "import os; os._exit(0)"),
        (lambda owner: owner.stdin.close(), ""),
    ],
    ids=["kill -9", "ctrl-c", "hard exit", "exit"],
)
def test_owner_ends(end, last_words):
    """A server dies with its owner, however that ends, while the owner's other children live."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(last_words=last_words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        first, second, child, *folders = owner.stdout.readline().split()
        try:
            assert listens(int(first))
            end(owner)
            eventually(lambda: not listens(int(first)) and not listens(int(second)))
            eventually(lambda: not any(Path(folder).exists() for folder in folders))
            os.kill(int(child), 0)
        finally:
            os.kill(int(child), signal.SIGKILL)
            owner.kill()
