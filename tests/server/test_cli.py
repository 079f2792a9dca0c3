"""The command line against real servers, in this process."""

from __future__ import annotations

import contextlib
import socket

import pytest

from aioredis_kit.cli.bench.rounds import PREFIX
from aioredis_kit.cli.output import ExitCode
from aioredis_kit.testing import RedisServer
from aioredis_kit.testing.probe import Probe
from tests.support.cli import document, invoke

SHORT = ("--seconds", "0.1", "--callers", "2")


@pytest.fixture(scope="module")
def guarded():
    """A server with a password, and with a user who may do next to nothing."""
    config = ["requirepass s3cret-of-ada", "user guest on >s3cret-of-guest +ping +select +get +hello ~*"]
    with RedisServer(config=config) as server:
        yield server


def as_user(server, user):
    return server.url.replace("redis://", "").rpartition("@")[2].join([f"redis://{user}@", ""])


def keys_at(server):
    with Probe(server.address) as probe:
        return probe.call("KEYS", f"{PREFIX}*")


@contextlib.contextmanager
def silent_port():
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_ping_tells_who_answers_and_how_fast(redis_server):
    result = invoke("ping", redis_server.url)
    assert result.exit_code == ExitCode.WELL, result.stderr
    who, answer = result.stdout.splitlines()
    assert f"at {redis_server.address.host}:{redis_server.address.port}, database 0, RESP" in who
    assert answer.startswith("answered in ")
    assert answer.endswith(" ms")
    assert "\x1b" not in result.stdout


def test_several_pings_are_summed_up(redis_server):
    result = invoke("ping", redis_server.url, "--count", "3", "--interval", "0")
    assert result.exit_code == ExitCode.WELL
    *_, last, summary = result.stdout.splitlines()
    assert last.startswith("   3  answered in")
    assert summary.startswith("3 of 3 answered: min ")
    assert summary.count(" ms") == 3


def test_ping_as_json(redis_server):
    result = invoke("ping", redis_server.url, "--json", "--count", "2", "--interval", "0")
    told = document(result)
    assert list(told) == ["target", "server", "sent", "answered", "latency", "pings", "is_interrupted"]
    assert (told["sent"], told["answered"], told["is_interrupted"]) == (2, 2, False)
    assert 0 < told["latency"]["min"] <= told["latency"]["median"] <= told["latency"]["max"] < 5
    assert told["server"]["name"] in {"Valkey", "Redis"}
    assert told["server"]["version"][0].isdigit()


@pytest.mark.parametrize("protocol", [2, 3])
def test_ping_tells_the_protocol_that_is_spoken(redis_server, protocol):
    told = document(invoke("ping", f"{redis_server.url}?protocol={protocol}", "--json"))
    assert told["server"]["protocol"] == protocol


def test_a_name_in_the_environment(redis_server):
    result = invoke("ping", "my-cache", MY_CACHE_URI=redis_server.url)
    assert result.exit_code == ExitCode.WELL
    assert "(from MY_CACHE_URI)" in " ".join(result.stdout.split())
    assert invoke("ping", REDIS_URL=redis_server.url).exit_code == ExitCode.WELL


def test_an_environment_with_nothing_set():
    result = invoke("ping", "cache")
    assert result.exit_code == ExitCode.MISUSED
    assert "CACHE_URI (not set)" in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", [("ping",), ("bench", *SHORT)])
def test_a_port_where_nothing_listens(command):
    with silent_port() as port:
        pass
    result = invoke(*command, f"redis://127.0.0.1:{port}")
    assert result.exit_code == ExitCode.WRONG
    assert result.stdout == ""
    assert f"127.0.0.1:{port} refused the connection" in result.stderr
    assert "try: start the server" in result.stderr
    error = document(invoke(*command, f"redis://127.0.0.1:{port}", "--json"))["error"]
    assert list(error) == ["kind", "message", "remedy"]
    assert error["kind"] == "ConnectError"


def test_a_port_that_never_answers():
    with silent_port() as port:
        result = invoke("ping", f"redis://127.0.0.1:{port}", "--timeout", "0.1")
    assert result.exit_code == ExitCode.WRONG
    assert "did not answer within 0.1 seconds" in " ".join(result.stderr.split())
    assert "TLS on one side only" in " ".join(result.stderr.split())


@pytest.mark.parametrize("command", [("ping",), ("bench", *SHORT)])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_wrong_password_is_not_shown(guarded, command, form):
    result = invoke(*command, as_user(guarded, "guest:s3cret-of-nobody"), *form)
    assert result.exit_code == ExitCode.WRONG
    assert "s3cret" not in result.stdout + result.stderr
    assert "check the user name and the password" in " ".join((result.stdout + result.stderr).split())


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_the_right_password_is_not_shown(guarded, form):
    result = invoke("ping", as_user(guarded, "default:s3cret-of-ada"), *form)
    assert result.exit_code == ExitCode.WELL
    assert "s3cret" not in result.stdout + result.stderr


def test_a_user_who_may_not_ask_who_answers(guarded):
    """INFO is forbidden: HELLO tells."""
    result = invoke("ping", as_user(guarded, "guest:s3cret-of-guest"))
    assert result.exit_code == ExitCode.WELL
    assert " at 127.0.0.1:" in result.stdout


def test_a_user_who_may_not_write(guarded):
    result = invoke("bench", as_user(guarded, "guest:s3cret-of-guest"), *SHORT)
    assert result.exit_code == ExitCode.WRONG
    assert "the server does not let this user do that" in result.stderr
    assert "s3cret" not in result.stderr


@pytest.mark.parametrize("command", ["set", "mixed"])  # get is told as text above
def test_bench_as_json(redis_server, command):
    result = invoke("bench", redis_server.url, *SHORT, "--json", "--command", command)
    assert result.exit_code == ExitCode.WELL
    told = document(result)
    assert list(told) == ["target", "server", "plan", "clients", "ratio", "is_interrupted"]
    assert list(told["clients"]) == ["aioredis_kit", "redis_py"]
    for figures in told["clients"].values():
        assert figures["commands"] > 0
        assert figures["throughput"] > 0
        assert figures["cpu_per_command"] > 0
        assert 0 < figures["latency"]["p50"] <= figures["latency"]["p99"] <= figures["latency"]["p999"]
    assert told["ratio"]["throughput_lowest"] <= told["ratio"]["throughput"] <= told["ratio"]["throughput_highest"]
    assert told["plan"]["command"] == command
    assert keys_at(redis_server) == []


def test_bench_as_text(redis_server):
    result = invoke("bench", redis_server.url, *SHORT)
    assert result.exit_code == ExitCode.WELL
    assert "get, 64 bytes, 2 callers; 1 round of 0.1 s each; asyncio" in result.stdout
    assert "times as many commands a second as redis-py" in " ".join(result.stdout.split())
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_bench_alone_on_uvloop(redis_server):
    pytest.importorskip("uvloop")
    told = document(invoke("bench", redis_server.url, *SHORT, "--json", "--alone", "--uvloop"))
    assert list(told["clients"]) == ["aioredis_kit"]
    assert told["ratio"] is None
    assert told["plan"]["event_loop"] == "uvloop"


def test_bench_counts_what_the_server_counts(redis_server):
    """But for the round that warms up: no command is counted that was not answered, nor twice."""
    with Probe(redis_server.address) as probe:
        probe.call("CONFIG", "RESETSTAT")
        told = document(invoke("bench", redis_server.url, *SHORT, "--json", "--alone"))
        stats = probe.call("INFO", "commandstats")
    text = stats.decode() if isinstance(stats, bytes) else stats
    calls = int(text.partition("cmdstat_get:calls=")[2].partition(",")[0])
    assert calls / 5 <= told["clients"]["aioredis_kit"]["commands"] < calls
