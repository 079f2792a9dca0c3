"""``uv run python -m tests.benchmarks``: measure, print the tables, hold them against the bounds.

Markdown goes to stdout, progress to stderr, everything that was measured to ``--json``. The exit code
is 0 whatever was measured, unless ``--check`` is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from aioredis_kit.testing import RedisServer
from tests.benchmarks import report
from tests.benchmarks.cache import measure_cache
from tests.benchmarks.clients import ADAPTERS, DEFAULT_CLIENTS, LOOPS
from tests.benchmarks.memory import Memory, measure_memory
from tests.benchmarks.speed import WORKLOADS, Plan, Results, measure_speed
from tests.benchmarks.tls import Burst, find_tls_binary, measure_tls, plan_for_tls, servers

# The sizes are those of the acceptance; the quick ones only show that everything runs.
_SIZES = {"rounds": 11, "seconds": 0.1, "commands": 1_000_000, "in_flight": 10_000}
_QUICK_SIZES = {"rounds": 1, "seconds": 0.03, "commands": 20_000, "in_flight": 1_000}


def main() -> int:
    """Run what was asked for and return the exit code."""
    options = _parse()
    results: Results = {}
    tls: Results = {}
    bursts: list[Burst] = []
    cache: Results = {}
    memory: Memory | None = None
    with RedisServer(persistence="none") as server:
        where = report.environment(server)
        if options.what in ("all", "speed"):
            results = measure_speed(server, _plan(options))
        if options.what in ("all", "cache"):
            cache = measure_cache(server, _plan(options))
        if options.what in ("all", "memory"):
            memory = measure_memory(server.url, options.commands, options.in_flight)
    if options.what in ("all", "tls"):
        where, tls, bursts = _measure_tls(options, where)
    verdicts = [*report.judge_speed(results), *report.judge_tls(tls, bursts), *report.judge_cache(cache)]
    verdicts += report.judge_memory(memory) if memory else ()
    print(report.to_markdown(where, results, tls, bursts, cache, verdicts))
    if options.json:
        content = json.dumps(report.to_json(where, results, tls, bursts, cache, memory, verdicts), indent=2)
        options.json.write_text(content + "\n", encoding="utf-8")
    return int(options.check and not all(verdict.is_met for verdict in verdicts))


def _measure_tls(options: argparse.Namespace, where: dict[str, Any]) -> tuple[dict[str, Any], Results, list[Burst]]:
    binary = find_tls_binary()
    if binary is None:
        print("TLS: there is no redis-server with TLS on PATH", file=sys.stderr)
        return where, {}, []
    with servers(binary) as (plain, secured):
        where |= {"TLS server": report.environment(secured)["server"]}
        return where, *measure_tls(plain, secured, plan_for_tls(_plan(options)))


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        clients=tuple(options.clients),
        workloads=tuple(options.workloads),
        callers=tuple(options.callers),
        loops=tuple(options.loops),
        rounds=options.rounds,
        seconds=options.seconds,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Benchmarks on an embedded server.")
    add = parser.add_argument
    add("what", nargs="?", choices=("all", "speed", "memory", "tls", "cache"), default="all")
    add("--quick", action="store_true", help="small sizes: shows that it runs, measures nothing")
    add("--check", action="store_true", help="exit with 1 if a bound is missed")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add("--clients", nargs="+", choices=ADAPTERS, default=DEFAULT_CLIENTS)
    add("--workloads", nargs="+", choices=WORKLOADS, default=tuple(WORKLOADS))
    add("--callers", nargs="+", type=_count, default=(1, 10, 100, 1000))
    add("--loops", nargs="+", choices=LOOPS, default=tuple(LOOPS))
    add("--rounds", type=_count, help="per client and cell, after one that warms up")
    add("--seconds", type=_duration, help="length of a round")
    add("--commands", type=_count, help="per measurement of resident memory")
    add("--in-flight", type=_count, help="commands in flight while memory is traced")
    options = parser.parse_args()
    for name, size in (_QUICK_SIZES if options.quick else _SIZES).items():
        if getattr(options, name) is None:
            setattr(options, name, size)
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0.001 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.001 and 60 seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
