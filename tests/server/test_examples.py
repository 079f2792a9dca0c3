"""The examples run as they are: in processes of their own, where every warning is an error."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from aioredis_kit.testing import RedisServer
from aioredis_kit.testing.probe import Probe, ServerAddress

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
LONGEST = 80
PROOFS = {"quickstart.py"}
"""Not to be copied from: it measures and proves."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONASYNCIODEBUG": "", "PYTHONUNBUFFERED": "1"}


def run(name, url):
    """Run an example to its end, in a database that is somebody's, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, url],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Probe(ServerAddress.from_url(url)) as probe:
        assert probe.call("DBSIZE") == 0  # nothing is left behind
    return done.stdout


@contextmanager
def running(name, *arguments):
    """Run an example for as long as the block lasts; it has ended well by then, or is ended."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, arguments)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended_well(process):
    """Wait until a process has ended; return what it has logged."""
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    return errors


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_short(path):
    if path.suffix == ".py" and path.name not in PROOFS:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.only_long
def test_feature_flags(redis_url):
    """One read goes to the server before the flag is switched; then the switch is seen."""
    output = run("feature_flags.py", redis_url)
    requests, reads, loads = re.search(r"(\d+) requests in .* of (\d+) reads (\d+) went to the server", output).groups()
    assert (requests, reads, loads) == ("1000", "1000", "1")
    assert "switched on by somebody else: served" in output


@pytest.mark.only_long
def test_rate_limiter(redis_url):
    """As many requests as the bucket holds are let through, and again one when the time that was told is over."""
    output = run("rate_limiter.py", redis_url)
    let_through = int(re.search(r"in two processes: (\d+) let through", output)[1])
    assert 5 <= let_through <= 7  # one more for each tenth of a second that the twenty take
    assert "waited as told: let through" in output


@pytest.mark.only_long
def test_distributed_lock(redis_url):
    output = run("distributed_lock.py", redis_url)
    assert "holders 1 to 15, one after the other: the balance is 15\n" in output
    waited = float(re.search(r"the next one waited (\d\.\d) s", output)[1])
    assert 0.2 <= waited <= 1.5
    assert "told that the lock is not its own any more" in output


@pytest.mark.only_long
def test_chat_room(redis_url):
    """What one types both see; a room is left by closing the input."""
    with running("chat_room.py", "Ada", "kitchen", redis_url) as first:
        assert first.stdout.readline() == "* Ada comes in\n"
        with running("chat_room.py", "Grace", "kitchen", redis_url) as second:
            assert first.stdout.readline() == second.stdout.readline() == "* Grace comes in\n"
            first.stdin.write("anybody here?\n")
            first.stdin.flush()
            assert first.stdout.readline() == second.stdout.readline() == "Ada: anybody here?\n"
            second.stdin.close()
            second.stdin = None
            assert first.stdout.readline() == "* Grace leaves\n"
            assert ended_well(second) == ""
        assert ended_well(first) == ""


# The web service: real requests to a real process.


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(port, page):
    """Return status, headers and answer of the service."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.status, exc.headers, json.load(exc)


@contextmanager
def serving(url):
    """Run the service; the block has its process and its port."""
    port = free_port()
    with running("aiohttp_service.py", port, url) as process:
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        yield process, port


@pytest.mark.only_long
def test_aiohttp_service():
    """While the server is away it answers in time, with 503; then it goes on by itself, and it ends when told."""
    with RedisServer(persistence="aof") as server, serving(server.url) as (process, port):
        assert [ask(port, "home")[2]["visits"] for _ in range(3)] == [1, 2, 3]
        assert ask(port, "other")[2] == {"page": "other", "visits": 1}
        server.kill()
        began = time.monotonic()
        status, headers, answer = ask(port, "home")
        assert (status, headers["Retry-After"], answer) == (503, "1", {"outcome": "not counted"})
        assert time.monotonic() - began < 2
        server.start()
        assert ask(port, "home")[2]["visits"] == 4
        process.send_signal(signal.SIGTERM)
        logged = ended_well(process).splitlines()  # each failure to connect, as the service listens to no event
        assert logged
        assert all(line.startswith(f"127.0.0.1:{server.port}") for line in logged)


@pytest.mark.only_long
def test_aiohttp_service_without_a_server_does_not_start():
    """And says so. Its own exception ends it: a platform starts it again."""
    started = subprocess.run(
        [
            sys.executable,
            EXAMPLES / "aiohttp_service.py",
            str(free_port()),
            "redis://127.0.0.1:1?initial_connect_timeout=0.1",
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert started.returncode != 0
    assert "127.0.0.1:1 was not ready within 0.1 seconds" in started.stderr


@pytest.mark.only_long
def test_azure_entra_id_says_what_it_takes():
    """Without a host. With one it would need Azure: tests/server/test_entra.py has what it does, on a local server."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "azure_entra_id.py"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "az login" in done.stderr
