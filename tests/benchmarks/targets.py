"""What is to be reached, as data. A cell, or a client, that was not measured is not judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from tests.benchmarks.clients import (
    CACHED,
    COREDIS,
    COREDIS_CACHED,
    FLOOR,
    GLIDE,
    IOREDIS_AUTO,
    LASTING,
    NODE_CACHED,
    NODE_REDIS,
    OURS,
    PLAIN,
    PLAIN_FLOOR,
    REDIS_PY,
    UNCACHED_VIEW,
)
from tests.benchmarks.figures import HOOK_TIMES
from tests.benchmarks.summary import median_of, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aioredis_kit.cli.bench.figures import Round
    from tests.benchmarks.figures import Figure
    from tests.benchmarks.measure import Results


@dataclass(frozen=True, slots=True)
class Target:
    """What one client does, divided by what another one does in the same cell.

    Attributes:
        cells: Patterns of cells' names.
        other: None holds the first one's own figure against the limit.
        metric: ``throughput`` or ``cpu``, which is per command.
    """

    cells: tuple[str, ...]
    other: str | None
    limit: float
    metric: str = "throughput"
    is_maximum: bool = False
    client: str = OURS


@dataclass(frozen=True, slots=True)
class FigureTarget:
    """The most that a figure may be, by the beginning of its name, for this client."""

    what: str
    limit: float


def _small(callers: int, loop: str = "*") -> tuple[str, ...]:
    """Return the patterns of the cells with small values in a closed loop."""
    loops = ("asyncio", "uvloop") if loop == "*" else (loop,)
    return tuple(f"{workload}-64B-{callers}-{one}" for workload in ("get", "set", "hgetall", "mixed") for one in loops)


_MANY: Final = (*_small(100), *_small(1000))
_MANY_ON_ASYNCIO: Final = (*_small(100, "asyncio"), *_small(1000, "asyncio"))
_MANY_ON_UVLOOP: Final = (*_small(100, "uvloop"), *_small(1000, "uvloop"))
_ALONE: Final = _small(1)
_SMALL_WRITES: Final = tuple(name for name in _MANY if name.startswith("set"))
_SET_TO_GET: Final = 0.85
_PIPELINES: Final = ("pipeline-64B-*",)
_HITS: Final = ("hits-64B-1-*",)

TARGETS: Final = (
    Target(_small(100), FLOOR, 0.80),
    Target(_small(1000), FLOOR, 0.75),
    Target(_MANY_ON_ASYNCIO, REDIS_PY, 11),
    Target(_MANY_ON_UVLOOP, REDIS_PY, 14),
    Target(_MANY, COREDIS, 10),
    Target(_MANY_ON_UVLOOP, GLIDE, 3.5),
    Target(_MANY_ON_UVLOOP, NODE_REDIS, 2),
    Target(_MANY_ON_UVLOOP, IOREDIS_AUTO, 1.1),
    Target(_small(10), REDIS_PY, 4),
    Target(_ALONE, REDIS_PY, 1.0, "cpu", is_maximum=True),
    Target(_ALONE, REDIS_PY, 0.9),
    Target(_ALONE, COREDIS, 1.5),
    Target(_ALONE, GLIDE, 1.5),
    Target(_PIPELINES, REDIS_PY, 3),
    Target(("get-16KiB-100-*",), REDIS_PY, 5),
    Target(("get-64KiB-100-*",), REDIS_PY, 3),
    Target(("get-1MiB-100-*",), REDIS_PY, 1.2),
    Target(("fan-in-*", "fan-out-*"), REDIS_PY, 5),
    Target(("blocking-*",), REDIS_PY, 1),
    Target(("*-tls",), PLAIN, 0.80),
    Target(("*-tls",), REDIS_PY, 12),
    Target(_HITS, UNCACHED_VIEW, 30, client=CACHED),
    Target(_HITS, COREDIS_CACHED, 30, client=CACHED),
    Target(_HITS, NODE_CACHED, 1.2, client=CACHED),
    Target(("hits-64B-100-*",), None, 1e6, client=CACHED),
    # What a cache costs: so many times the commands without one, at most.
    Target(("misses-64B-1-*",), CACHED, 1.2, is_maximum=True),
    Target(("misses-64B-100-*",), CACHED, 1.6, is_maximum=True),
    Target(("misses-*",), LASTING, 1.2, is_maximum=True),
    Target(("write-read-64B-1-*",), CACHED, 1.25, is_maximum=True),
    Target(("write-read-64B-100-*",), CACHED, 1.6, is_maximum=True),
)
FIGURE_TARGETS: Final = (
    FigureTarget("resident growth", 5_000_000),
    FigureTarget("traced memory per command", 1024),
    FigureTarget("first 100 commands under TLS ÷", 5),
    FigureTarget(f"{HOOK_TIMES}OpenTelemetry, metrics alone", 1.15),
    FigureTarget(f"{HOOK_TIMES}Prometheus with durations", 1.15),
    FigureTarget(f"{HOOK_TIMES}OpenTelemetry, metrics and traces, parent not sampled", 1.2),
    FigureTarget(f"{HOOK_TIMES}OpenTelemetry, traces, no parent", 1.2),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, held against one target.

    Attributes:
        floor: What the floor program reached in its place; a target beyond it can't be met.
    """

    what: str
    measured: float
    limit: float
    is_maximum: bool
    unit: str
    floor: float | None = None

    @property
    def is_met(self) -> bool:
        return self.measured <= self.limit if self.is_maximum else self.measured >= self.limit


def judge(cells: Results, figures: Iterable[Figure]) -> list[Verdict]:
    """Hold everything that was measured against the targets."""
    return [*_judge_cells(cells), *_judge_writes(cells), *_judge_figures(figures)]


def _judge_cells(results: Results) -> Iterator[Verdict]:
    for target in TARGETS:
        for cell, rounds in results.items():
            if any(fnmatchcase(cell.name, pattern) for pattern in target.cells):
                yield from _hold_against(target, cell.name, rounds)


def _hold_against(target: Target, cell_name: str, rounds: dict[str, list[Round]]) -> Iterator[Verdict]:
    if target.client not in rounds:
        return
    ours = rounds[target.client]
    subject = "" if target.client == OURS else f" of {target.client}"
    what = f"{cell_name}: {_METRIC_NAMES[target.metric]}{subject}"
    if target.other is None:
        yield Verdict(what, median_of(ours, target.metric), target.limit, target.is_maximum, "a second")
    elif target.other in rounds:
        others = rounds[target.other]
        measured = ratio(ours, others, target.metric)
        has_floor = FLOOR in rounds and target.other != FLOOR and target.client == OURS
        floor_base = rounds.get(PLAIN_FLOOR, others) if target.other == PLAIN else others
        floor = ratio(rounds[FLOOR], floor_base, target.metric) if has_floor else None
        yield Verdict(f"{what} ÷ {target.other}'s", measured, target.limit, target.is_maximum, "times", floor)


_METRIC_NAMES: Final = {"throughput": "throughput", "cpu": "CPU a command"}


def _judge_writes(results: Results) -> Iterator[Verdict]:
    """Hold writes against reads where the client and not the round trip decides."""
    for cell, rounds in results.items():
        reads = results.get(replace(cell, workload="get"), {}).get(OURS)
        if cell.workload == "set" and cell.name in _SMALL_WRITES and OURS in rounds and reads:
            what = f"{cell.name}: throughput ÷ get's"
            yield Verdict(what, ratio(rounds[OURS], reads, "throughput"), _SET_TO_GET, is_maximum=False, unit="times")


def _judge_figures(figures: Iterable[Figure]) -> Iterator[Verdict]:
    for figure in figures:
        for target in FIGURE_TARGETS:
            if figure.client == OURS and figure.what.startswith(target.what):
                yield Verdict(figure.what, figure.value, target.limit, is_maximum=True, unit=figure.unit)
