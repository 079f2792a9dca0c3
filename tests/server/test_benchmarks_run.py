"""The benchmark command runs and reports what it promises. Its figures are no test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.tls import find_tls_binary

_ROOT = Path(__file__).parents[2]
_CLIENTS = ("floor", "aioredis_kit", "redis-py")


def _run(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return the command's JSON and its Markdown, once --check has exited by the bounds."""
    file = folder / "report.json"
    command = [sys.executable, "-m", "tests.benchmarks", *arguments, "--check", "--json", str(file)]
    # asyncio's debug mode notes where each future was made, which is most of what a bare one then holds.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    ended = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert file.exists(), ended.stderr
    report = json.loads(file.read_text(encoding="utf-8"))
    assert ended.returncode == int(not all(bound["is_met"] for bound in report["bounds"]))
    assert ended.stdout.count(" met |") + ended.stdout.count(" MISSED |") == len(report["bounds"])
    for bound in report["bounds"]:
        room = bound["limit"] - bound["measured"]
        assert bound["is_met"] is (room >= 0 if bound["is_maximum"] else room <= 0)
    return report, ended.stdout


@pytest.mark.only_long
def test_speed_has_all_rounds_of_each_cell_and_a_verdict_per_bound(tmp_path: Path) -> None:
    """Each client runs each cell, and each bound is held against the cells that it speaks about."""
    cells = "--callers 1 100 --loops asyncio --workloads get set --rounds 2 --seconds 0.02"
    report, markdown = _run(tmp_path, "speed", *cells.split())
    measured = {(one["workload"], one["callers"], one["client"]): one for one in report["speed"]}
    assert set(measured) == {(w, n, c) for w in ("get", "set") for n in (1, 100) for c in _CLIENTS}
    for cell in measured.values():
        assert len(cell["rounds"]) == 2
        assert all(one["commands"] >= cell["callers"] for one in cell["rounds"])
        assert cell["throughput"] > 0
        assert cell["cpu_per_command"] > 0
    # For each workload: one caller's throughput and CPU, 100 callers against two clients. And set to get.
    assert len(report["bounds"]) == 2 * (2 + 2) + 1
    assert "| get | 100 |" in markdown


@pytest.mark.only_long
def test_features_are_measured_beside_redis_py(tmp_path: Path) -> None:
    """Messages with one subscriber, the others with one caller and with ten; the floor program has none of them."""
    cells = "--callers 1 10 --loops asyncio --workloads pipeline pubsub blocking --rounds 1 --seconds 0.02"
    report, _ = _run(tmp_path, "speed", *cells.split())
    measured = {(one["workload"], one["callers"], one["client"]) for one in report["speed"]}
    expected = {("pipeline", 1), ("pipeline", 10), ("pubsub", 1), ("blocking", 1), ("blocking", 10)}
    assert measured == {(*cell, client) for cell in expected for client in ("aioredis_kit", "redis-py")}
    assert len(report["bounds"]) == len(expected)


@pytest.mark.only_long
def test_tls_is_measured_beside_plain_connections(tmp_path: Path) -> None:
    """Each client under TLS, ours and the floor program without it too; and the first commands of a new client."""
    if find_tls_binary() is None:
        pytest.skip("there is no redis-server with TLS on PATH")
    sizes = "--loops asyncio --workloads get --rounds 1 --seconds 0.02"
    report, markdown = _run(tmp_path, "tls", *sizes.split())
    assert {(one["workload"], one["callers"], one["client"]) for one in report["tls"]} == {
        ("get", 100, client) for client in (*_CLIENTS, "without TLS", "floor without TLS")
    }
    assert {(one["client"], len(one["one"]), len(one["hundred"])) for one in report["tls_bursts"]} == {
        ("aioredis_kit", 1, 1),
        ("redis-py", 1, 1),
    }
    assert len(report["bounds"]) == 2 + 1
    assert "TLS, asyncio: thousand commands" in markdown


@pytest.mark.only_long
def test_what_a_cache_gives_and_costs_is_measured(tmp_path: Path) -> None:
    """Hits, misses and a mix with writes, each beside what they are held against; node-redis where it is there."""
    report, markdown = _run(tmp_path, "cache", *["--loops", "asyncio", "--rounds", "1", "--seconds", "0.02"])
    measured = {(one["workload"], one["callers"], one["client"]) for one in report["cache"]}
    ours, cached, lasting = "aioredis_kit", "cached", "cached, key_expiry=False"
    expected = {(workload, n, c) for workload in ("misses", "mix") for n in (1, 100) for c in (ours, cached, lasting)}
    expected |= {("hits", 1, cached), ("hits", 100, cached), ("hits", 1, "cached, view without")}
    optional = {("hits", 1, "coredis, cached"), ("hits", 1, "node-redis, cached")}
    assert measured | optional == expected | optional
    # Hits against others, and a second; what misses cost with and without key_expiry, and the mix.
    coredis = ("hits", 1, "coredis, cached") in measured
    assert len(report["bounds"]) == (2 + coredis) + 1 + 2 * (2 + 1)
    assert ("measured earlier" in markdown) is (("hits", 1, "node-redis, cached") not in measured)


@pytest.mark.only_long
def test_memory_is_measured_at_rest_and_in_flight(tmp_path: Path) -> None:
    """Growth over both shapes of load and the memory of a command in flight are each judged."""
    report, _ = _run(tmp_path, "memory", "--commands", "2000", "--in-flight", "50")
    memory = report["memory"]
    assert (memory["commands"], memory["in_flight"]) == (2000, 50)
    assert 0 < memory["per_command_in_flight"] < 100_000
    assert len(report["bounds"]) == 3
