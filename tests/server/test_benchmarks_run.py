"""The benchmark command runs and reports what it promises. Its figures are no test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.cells import CELLS, STORY
from tests.benchmarks.clients import LOOPS, PEERS
from tests.benchmarks.drivers import closed_loop, open_loop
from tests.benchmarks.measure import find_tls_binary
from tests.benchmarks.targets import TARGETS
from tests.benchmarks.workers import why_not
from tests.benchmarks.workloads import Job

_ROOT = Path(__file__).parents[2]
_IN_PROCESS = ("floor", "aioredis_kit", "redis-py")
_TINY = ("--rounds", "2", "--seconds", "0.02", "--commands", "2000", "--in-flight", "50")


def test_each_target_speaks_about_cells_and_clients_that_are_there() -> None:
    """A pattern with a slip of the pen would judge nothing, and nobody would notice."""
    for target in TARGETS:
        assert {target.client, target.other or target.client} <= PEERS.keys()
        for pattern in target.cells:
            cells = [cell for cell in CELLS if fnmatchcase(cell.name, pattern)]
            assert any(PEERS[target.client].takes(cell) for cell in cells), pattern


def test_each_cell_of_the_story_has_somebody_to_compare() -> None:
    """And a name of its own."""
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    for cell in STORY:
        assert sum(peer.takes(cell) for peer in PEERS.values()) >= 2, cell.name


class _Stalling:
    """A client that holds up the event loop once."""

    def __init__(self, after: int) -> None:
        self._before = after

    async def get(self, key: str) -> bytes:
        self._before -= 1
        if self._before == 0:
            time.sleep(0.05)  # noqa: ASYNC251 - the stall that is to be seen
        return b""


async def test_a_stall_is_seen_by_all_commands_that_were_due_meanwhile() -> None:
    """In an open loop; in a closed one by those alone that were under way."""
    open_round = await open_loop(Job(_Stalling(10), None, 64), "get", rate=2000.0, seconds=0.1)
    assert open_round.commands == len(open_round.latencies)
    assert sum(latency > 0.005 for latency in open_round.latencies) > 40
    closed_round = await closed_loop(Job(_Stalling(10), None, 64), "get", callers=1, seconds=0.1)
    assert sum(latency > 0.005 for latency in closed_round.latencies) < 10


def _run(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return the command's JSON and its Markdown, once --check has exited by the targets."""
    file = folder / "report.json"
    command = [sys.executable, "-m", "tests.benchmarks", *_TINY, *arguments, "--check", "--json", str(file)]
    # asyncio's debug mode notes where each future was made, which is most of what a bare one then holds.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
    ended = subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert file.exists(), ended.stderr
    report = json.loads(file.read_text(encoding="utf-8"))
    assert ended.returncode == int(not all(target["is_met"] for target in report["targets"]))
    assert ended.stdout.count(" met |") + ended.stdout.count(" MISSED |") == len(report["targets"])
    for target in report["targets"]:
        room = target["limit"] - target["measured"]
        assert target["is_met"] is (room >= 0 if target["is_maximum"] else room <= 0)
    return report, ended.stdout


def _measured(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["cell"], one["client"]) for one in report["cells"]}


@pytest.mark.only_long
def test_every_client_that_is_here_runs_every_cell_it_can(tmp_path: Path) -> None:
    """With all rounds; who is not here is named with a reason, and a target for each that is."""
    names = ["get-64B-1-asyncio", "mixed-64B-100-asyncio", "pipeline-64B-1-asyncio"]
    report, markdown = _run(tmp_path, "--cells", *names)
    cells = [cell for cell in CELLS if cell.name in names]
    taking_part = [client for client in PEERS if any(PEERS[client].takes(cell) for cell in cells)]
    here = [client for client in taking_part if why_not(client) is None]
    assert _measured(report) == {(cell.name, client) for cell in cells for client in here if PEERS[client].takes(cell)}
    for one in report["cells"]:
        assert len(one["rounds"]) == 2
        assert one["throughput"] > 0
        assert one["cpu"] > 0
        assert one["latencies"] or one["client"] == "redis-benchmark"
    assert report["skipped"].keys() == set(taking_part) - set(here)
    assert all(f"Not measured: {client}: " in markdown for client in report["skipped"])
    others = {target["what"].rpartition("÷ ")[2] for target in report["targets"]}
    assert {"floor's", "redis-py's"} <= others
    assert "| `mixed-64B-100-asyncio` | redis-py |" in markdown


@pytest.mark.only_long
def test_features_and_open_loops_are_measured_beside_redis_py(tmp_path: Path) -> None:
    """Messages, blocking commands; and latency under half of redis-py's load and beside large replies."""
    peers = ("aioredis_kit", "aioredis_kit, large on a session", "redis-py")
    names = ["fan-in-64B-1-uvloop", "fan-out-64B-1-uvloop", "blocking-64B-10-uvloop"]
    loads = ["get-64B-1000-uvloop-half-load", "get-64B-1000-uvloop-beside-large"]
    if "uvloop" not in LOOPS:
        names, loads = ([name.replace("uvloop", "asyncio") for name in each] for each in (names, loads))
    report, _ = _run(tmp_path, "--cells", *names, *loads, "--peers", *peers)
    expected = {(name, client) for name in names + loads for client in ("aioredis_kit", "redis-py")}
    assert _measured(report) == expected | {(loads[1], "aioredis_kit, large on a session")}
    assert len(report["targets"]) == len(names)


@pytest.mark.only_long
def test_tls_is_measured_beside_plain_connections(tmp_path: Path) -> None:
    """Each client under TLS, ours and the floor program without it too; and the first commands of a new client."""
    if find_tls_binary() is None:
        pytest.skip("there is no redis-server with TLS on PATH")
    report, markdown = _run(tmp_path, "--cells", "get-64B-100-asyncio-tls", "first-under-tls")
    assert {client for _, client in _measured(report)} == {*_IN_PROCESS, "aioredis_kit, no TLS", "floor, no TLS"}
    assert len(report["figures"]) == 3 * 2
    assert len(report["targets"]) == 2 + 1
    assert "| first 100 commands of a new client under TLS | redis-py |" in markdown


@pytest.mark.only_long
def test_what_a_cache_gives_and_costs_is_measured(tmp_path: Path) -> None:
    """Hits, misses and writes before reads, each beside what they are held against."""
    report, _ = _run(tmp_path, "--cells", "hits-64B-*-asyncio", "misses-64B-1-asyncio", "write-read-64B-100-asyncio")
    ours, cached, lasting = "aioredis_kit", "aioredis_kit, cached", "aioredis_kit, cached, key_expiry=False"
    expected = {
        (f"{cell}-asyncio", client)
        for cell in ("misses-64B-1", "write-read-64B-100")
        for client in (ours, cached, lasting)
    }
    assert expected < _measured(report)
    assert {("hits-64B-100-asyncio", cached), ("hits-64B-1-asyncio", f"{cached}, view without")} < _measured(report)
    # Hits against oneself without a cache, and a second; what misses cost with and without key_expiry, and writes.
    others = sum(why_not(client) is None for client in ("coredis, cached", "node-redis, cached"))
    assert len(report["targets"]) == (1 + others) + 1 + 2 + 1


@pytest.mark.only_long
def test_figures_are_taken_and_published(tmp_path: Path) -> None:
    """Memory at rest and in flight, imports, a reconnect; and a README has what was found between its marks."""
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n", encoding="utf-8")
    cells = ["memory", "imports", "reconnect", "telemetry", "get-64B-10-asyncio", "get-64B-1000-asyncio-beside-large"]
    report, _ = _run(tmp_path, "--cells", *cells, "--peers", *_IN_PROCESS, "--publish", str(tmp_path))
    found = {
        (figure["what"].partition(" over ")[0].partition(",")[0], figure["client"]) for figure in report["figures"]
    }
    assert found >= {("resident growth", "aioredis_kit"), ("traced memory per command", "aioredis_kit")}
    assert found >= {("time to import", "redis-py"), ("10", "aioredis_kit")}
    assert found >= {("CPU time a GET of 100 callers: no hook", "aioredis_kit")}
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- benchmark -->\nThousand commands a second")
    assert text.endswith("<!-- /benchmark -->\nafter\n")
    assert "| `get` | 64B | 10 | asyncio |" in text
    results = tmp_path / "tests" / "benchmarks" / "results"
    images = {"throughput-asyncio.svg", "ratios.svg", "latencies.svg"}
    assert {each.name for each in results.iterdir()} == {*images, "results.md", "results.json"}
    assert json.loads((results / "results.json").read_text(encoding="utf-8")) == report
    assert all(f"(tests/benchmarks/results/{image})" in text for image in images)
