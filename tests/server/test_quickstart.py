"""The first program that a newcomer runs does what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from aioredis_kit.testing import RedisServer, find_binary
from aioredis_kit.testing.probe import Probe

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = ROOT / "examples" / "quickstart.py"
MOST_SECONDS = 20


def run_quickstart(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    environment.pop("PYTHONASYNCIODEBUG", None)  # it takes ten times as long then
    return subprocess.run(
        [sys.executable, "-W", "error", QUICKSTART, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )


def numbers(pattern: str, output: str) -> list[int]:
    """Return the numbers that a pattern has, ``#`` standing for one."""
    found = re.search(re.escape(pattern).replace(r"\#", r"\s*([\d,]+)"), output)
    assert found, f"{pattern!r} isn't in:\n{output}"
    return [int(number.replace(",", "")) for number in found.groups()]


def check_rates(output: str) -> None:
    commands, rate = numbers("1 connection# commands,# a second", output)
    (writes,) = numbers("in# socket writes", output)
    assert commands == 20_000
    assert writes < commands / 10
    _, rate_redis_py = numbers("50 connections# commands,# a second", output)
    assert rate > rate_redis_py > 0


@pytest.mark.only_long
def test_it_proves_its_point():
    """Rates beside redis-py's, then a server that is killed, the events, and the account of every increment."""
    done = run_quickstart()
    output = done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    check_rates(output)
    events = re.findall(r"^  \d+\.\d\d s  (\w+)", output, re.MULTILINE)
    assert events[:2] == ["error", "reconnecting"]
    assert events[-2:] == ["connect", "ready"]
    succeeded, before, after = numbers("# increments succeeded:# before the kill,# after", output)
    (unexecuted,) = numbers("# failed and were not executed", output)
    (unknown,) = numbers("# ended with an unknown outcome", output)
    (counter,) = numbers("# is the counter", output)
    assert succeeded == before + after
    assert before > 0
    assert after > 0
    assert unexecuted > 0
    assert unknown <= 100
    assert succeeded <= counter <= succeeded + unknown
    assert output.rstrip().endswith("every acknowledged increment is there.")


def test_a_server_at_a_url_is_left_alone():
    """Not killed, and no key is left behind, in its own or another database."""
    with RedisServer() as server:
        pid = server.pid
        done = run_quickstart(f"{server.url}/3")
        assert (done.returncode, done.stderr) == (0, "")
        check_rates(done.stdout)
        assert "not killed" in done.stdout
        assert server.pid == pid
        with Probe(server.address) as probe:
            assert probe.info("keyspace") == {}


def test_lost_increments_are_not_passed_over(tmp_path, is_long):
    """On a server that persists nothing, whatever it was told, the proof fails."""
    if not is_long:
        pytest.skip("takes some seconds: only with --long")
    forgetful = tmp_path / "valkey-server"
    forgetful.write_text(f'#!/bin/sh\nexec "{find_binary().path}" "$@" --appendonly no\n', encoding="utf-8")
    forgetful.chmod(0o755)
    done = run_quickstart(AIOREDIS_KIT_TEST_SERVER=str(forgetful))
    assert "FAILED" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("succeeded", "before", "unknown", "counter", "expected"),
    [
        (10, 5, 2, 10, True),
        (10, 5, 2, 12, True),
        (10, 5, 2, 9, False),  # an acknowledged one is lost
        (10, 5, 2, 13, False),  # one was executed twice
        (10, 10, 2, 10, False),  # it did not carry on
    ],
)
def test_the_proof_can_fail(succeeded, before, unknown, counter, expected):
    spec = importlib.util.spec_from_file_location("quickstart", QUICKSTART)
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    tally = Counter({"succeeded": succeeded, "unknown": unknown})
    assert quickstart.is_proven(tally, before, counter) is expected
