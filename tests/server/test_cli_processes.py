"""The command line as a process: what only that shows. Ctrl-C, terminals, pipes, and a missing extra."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest

from aioredis_kit.cli.bench.rounds import PREFIX
from aioredis_kit.cli.output import ExitCode
from aioredis_kit.testing import RedisServer
from aioredis_kit.testing.probe import Probe
from tests.support.cli import interrupt, run, run_on_a_terminal, started


def wait_until(condition, *, timeout=20.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)  # another process does it: it is looked at again


def clients_of(probe):
    return [line for line in probe.call("CLIENT", "LIST").decode().splitlines() if "cmd=client|list" not in line]


@pytest.fixture
def server():
    with RedisServer() as server:
        yield server


def test_ctrl_c_in_the_middle_of_pings(server):
    """What was seen until then is told, without a traceback, and the connection is closed."""
    with (
        started("ping", server.url, "--count", "1000", "--interval", "0.02") as process,
        Probe(server.address) as probe,
    ):
        for line in process.stdout:
            if line.startswith("   3  answered"):
                break
        code, out, err = interrupt(process)
        wait_until(lambda: not clients_of(probe))
    assert code == ExitCode.INTERRUPTED
    assert re.match(r"interrupted: (\d+) of \1 answered: min ", out.splitlines()[-1])
    assert err == ""


@pytest.mark.only_long
def test_ctrl_c_between_two_pings_as_json(server):
    with started("ping", server.url, "--count", "1000", "--interval", "100", "--json") as process:
        with Probe(server.address) as probe:
            wait_until(lambda: any("cmd=ping" in line for line in clients_of(probe)))
        code, out, err = interrupt(process)
    assert code == ExitCode.INTERRUPTED
    assert json.loads(out)["is_interrupted"] is True
    assert err == ""


@pytest.mark.only_long
@pytest.mark.parametrize("command", ["ping", "bench"])
def test_ctrl_c_while_connecting(command):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with started(command, f"redis://127.0.0.1:{port}", "--timeout", "100") as process:
            peer, _ = listening.accept()
            with peer:
                assert peer.recv(65536).startswith(b"*")  # HELLO
                code, out, err = interrupt(process)
                assert peer.recv(1) == b""  # closed
    assert code == ExitCode.INTERRUPTED
    assert "interrupted before" in out + err
    assert "Traceback" not in out + err


@pytest.mark.only_long
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("rounds", [0, 1])
def test_ctrl_c_in_the_middle_of_a_benchmark(server, form, rounds):
    """Its keys are deleted."""
    with started("bench", server.url, "--seconds", "20", *form) as process, Probe(server.address) as probe:
        wait_until(lambda: probe.call("KEYS", f"{PREFIX}*"))
        if rounds:
            time.sleep(4)  # for the first rounds of a second each
        code, out, err = interrupt(process)
        assert probe.call("DBSIZE") == 0
        wait_until(lambda: not clients_of(probe))
    assert code == ExitCode.INTERRUPTED
    assert "Traceback" not in err
    if form:
        told = json.loads(out)
        assert told["is_interrupted"] if rounds else told["error"]["kind"] == "Interrupted"
    else:
        assert "interrupted" in (out if rounds else err)


@pytest.mark.only_long
def test_a_server_that_goes_away_and_comes_back(server):
    """As an application's connection it is made anew; what was not answered counts."""
    arguments = ("--count", "1000", "--interval", "0.05", "--timeout", "0.5")
    with started("ping", server.url, *arguments) as process:
        lines = iter(process.stdout)
        assert any("answered in" in line for line in lines)
        server.kill()
        assert any("no answer" in line for line in lines)
        server.restart()
        assert any("answered in" in line for line in lines)
        code, out, _ = interrupt(process)
    assert code == ExitCode.INTERRUPTED
    answered, sent = map(int, re.search(r"interrupted: (\d+) of (\d+) answered", out).groups())
    assert 0 < answered < sent


@pytest.mark.only_long
def test_a_server_that_is_lost_in_the_middle_of_a_benchmark(server):
    with started("bench", server.url, "--seconds", "20") as process:
        with Probe(server.address) as probe:
            wait_until(lambda: probe.call("KEYS", f"{PREFIX}*"))
        server.kill()
        out, err = process.communicate(timeout=20)
    assert process.returncode == ExitCode.WRONG
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_without_the_extra_it_says_what_to_install(tmp_path):
    """In one line, whichever of the two is missing."""
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')\n")
    code, out, err = run("ping", PYTHONPATH=str(tmp_path))
    assert (code, out) == (ExitCode.MISUSED, "")
    assert err == 'aioredis-kit: the command line needs click and rich: pip install "aioredis_kit[cli]"\n'


@pytest.mark.only_long
def test_what_else_is_missing_is_a_bug(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'other'\", name='other')\n")
    code, _, err = run("ping", PYTHONPATH=str(tmp_path))
    assert code == 1
    assert "No module named 'other'" in err


@pytest.mark.only_long
def test_a_pipe_gets_neither_colours_nor_progress(server):
    """Whatever the environment says."""
    for variables in ({}, {"FORCE_COLOR": "1", "TERM": "xterm-256color"}, {"NO_COLOR": "1"}):
        for arguments in (("ping", server.url), ("bench", server.url, "--seconds", "0.1", "--callers", "2")):
            code, out, err = run(*arguments, **variables)
            assert (code, err) == (0, "")
            assert "\x1b" not in out
            assert "\r" not in out


@pytest.mark.only_long
def test_a_terminal_gets_colours_and_progress(server):
    code, written = run_on_a_terminal("bench", server.url, "--seconds", "0.1", "--callers", "2")
    assert code == ExitCode.WELL
    assert "100%" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is back
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r\n", "\n")
    assert max(len(line.rpartition("\r")[2]) for line in shown.splitlines()) <= 80
    code, written = run_on_a_terminal("ping", server.url)
    assert "\x1b[1m" in written
    code, written = run_on_a_terminal("ping", server.url, NO_COLOR="1")
    assert code == ExitCode.WELL
    assert "\x1b" not in written


@pytest.mark.only_long
def test_output_that_nobody_reads(server):
    """As with ``| head -1``: no traceback."""
    with started("parse", "--all", server.url) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.only_long
def test_an_encoding_that_lacks_characters(server):
    code, out, err = run("bench", server.url, "--seconds", "0.1", "--callers", "2", PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "")
    assert "CPU ?s/command" in out
