"""What the README shows: its table, its plots, and the losing cases. Written by ``--publish``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.benchmarks import plots
from tests.benchmarks.cells import BESIDE_LARGE, HALF_LOAD, READS, Cell, size_name
from tests.benchmarks.clients import (
    COREDIS,
    FLOOR,
    GLIDE,
    IOREDIS,
    IOREDIS_AUTO,
    NODE_REDIS,
    OURS,
    PEERS,
    REDIS_BENCHMARK,
    REDIS_PY,
)
from tests.benchmarks.figures import HOOK_COST, HOOK_TIMES
from tests.benchmarks.report import (
    Report,
    amount,
    environment_line,
    figures_table,
    latency_columns,
    latency_header,
    skipped_lines,
    table,
    thousands,
    to_json,
    to_markdown,
)
from tests.benchmarks.summary import median_of, percentiles, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aioredis_kit.cli.bench.figures import Round
    from tests.benchmarks.figures import Figure
    from tests.benchmarks.targets import Verdict

ROOT: Final = Path(__file__).parents[2]
_RESULTS: Final = "tests/benchmarks/results"
_SECTION: Final = re.compile(r"(?<=^<!-- benchmark -->\n).*?(?=^<!-- /benchmark -->$)", re.MULTILINE | re.DOTALL)
_COLUMNS: Final = {
    OURS: "this client",
    REDIS_PY: "redis-py",
    COREDIS: "coredis",
    GLIDE: "glide",
    NODE_REDIS: "node-redis",
    IOREDIS: "ioredis",
    IOREDIS_AUTO: "ioredis, auto",
    FLOOR: "floor",
    REDIS_BENCHMARK: "server",
}
_NOT_PEERS: Final = frozenset({OURS, FLOOR, REDIS_BENCHMARK})
_LOADS: Final = {
    HALF_LOAD.name: "Half of what redis-py can do",
    BESIDE_LARGE.name: "Beside one caller that reads 10 MB",
}


def publish(report: Report, root: Path) -> None:
    """Write the results, the plots, and the README's section between its marks, beneath the root of the repository."""
    results, readme = root / _RESULTS, root / "README.md"
    results.mkdir(parents=True, exist_ok=True)
    images = dict(_draw(report))
    for old in results.glob("*.svg"):
        old.unlink()
    for name, image in images.items():
        (results / name).write_text(image, encoding="utf-8")
    (results / "results.md").write_text(f"# Results\n\n{to_markdown(report)}\n", encoding="utf-8")
    # A line for each round would make it unreadable, and long.
    content = re.sub(
        r"\[\s+([\d.e+-]+),\s+([\d.e+-]+),\s+([\d.e+-]+)\s+\]", r"[\1, \2, \3]", json.dumps(to_json(report), indent=1)
    )
    (results / "results.json").write_text(content + "\n", encoding="utf-8")
    section = _section(report, list(images))
    readme.write_text(_SECTION.sub(lambda _: section, readme.read_text(encoding="utf-8")), encoding="utf-8")


def _draw(report: Report) -> Iterator[tuple[str, str]]:
    cells = report.measured.cells
    for loop in ("asyncio", "uvloop"):
        series: dict[str, dict[int, float]] = {}
        for cell, by_client in cells.items():
            if cell == Cell("get", cell.callers, loop):
                for client in _COLUMNS:
                    if client in by_client:
                        rate = median_of(by_client[client], "throughput") / 1000
                        series.setdefault(client, {})[cell.callers] = rate
        if series:
            yield f"throughput-{loop}.svg", plots.lines(f"Thousand GETs of 64 bytes a second, {loop}", series)
    rows = list(_ratio_rows(report))
    if rows:
        yield "ratios.svg", plots.ratios("Commands a second, this client ÷ others", rows)
    groups = {
        f"{_LOADS[cell.load.name]}, {cell.loop}": {
            client: found for client in PEERS if client in by_client and (found := percentiles(by_client[client]))
        }
        for cell, by_client in cells.items()
        if cell.load
    }
    if groups:
        yield "latencies.svg", plots.latencies("Latency of small GETs, open loop", groups)


def _ratio_rows(report: Report) -> Iterator[tuple[str, float, str, float]]:
    for cell, by_client in report.measured.cells.items():
        if not cell.load and {OURS, REDIS_PY} <= by_client.keys():
            ours = by_client[OURS]
            peers = [client for client in by_client if client in _COLUMNS and client not in _NOT_PEERS]
            best = max(peers, key=lambda client: median_of(by_client[client], "throughput"))
            to_redis_py, to_best = (ratio(ours, by_client[one], "throughput") for one in (REDIS_PY, best))
            yield describe(cell), to_redis_py, best, to_best


def describe(cell: Cell) -> str:
    """Return a cell as people say it, short enough for a plot."""
    size = "" if cell.size == 64 else f" {size_name(cell.size)}"
    return f"{cell.workload}{size}, {cell.callers} on {cell.loop}{', TLS' * cell.tls}"


def _section(report: Report, images: list[str]) -> str:
    introduction = (
        "Thousand commands a second, many tasks on one client; values of 64 bytes where nothing else is said, hashes of\n"
        f"10 fields. Medians of {report.plan.rounds} rounds of {report.plan.seconds:g} s in one run, clients side by side,\n"
        f"each in a process of its own: [all figures]({_RESULTS}/results.md), [as JSON]({_RESULTS}/results.json)."
    )
    parts = [
        introduction,
        *(f"![{name.removesuffix('.svg')}]({_RESULTS}/{name})" for name in images),
        _wide_table(report),
        *_variants_table(report),
        *_latency_table(report),
        *_hooks_table(report.figures),
        *_other_figures(report.figures),
        _missed(report.verdicts),
        *skipped_lines(report),
        f"Measured with {environment_line(report)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _wide_table(report: Report) -> str:
    rows = []
    for cell, by_client in report.measured.cells.items():
        if cell.load or cell.workload in READS or OURS not in by_client:
            continue
        row = [thousands(by_client[client]) if client in by_client else "" for client in _COLUMNS]
        times = f"{ratio(by_client[OURS], by_client[REDIS_PY], 'throughput'):.1f}" if REDIS_PY in by_client else ""
        rows.append(
            [
                f"`{cell.workload}`",
                size_name(cell.size),
                str(cell.callers),
                f"{cell.loop}{', TLS' * cell.tls}",
                *row,
                times,
            ]
        )
    header = ["command", "size", "callers", "loop", *_COLUMNS.values(), "÷ redis-py"]
    return table(header, rows) if rows else ""


def _variants_table(report: Report) -> Iterator[str]:
    """Show those cells in full that are about ways to use a client: with a cache, and with TLS."""
    rows = [
        [
            f"`{cell.workload}`{', TLS' * cell.tls}",
            str(cell.callers),
            cell.loop,
            client,
            thousands(rounds),
            _cpu(rounds),
        ]
        for cell, by_client in report.measured.cells.items()
        if cell.workload in READS or cell.tls
        for client, rounds in by_client.items()
    ]
    if rows:
        yield table(["with TLS or a cache", "callers", "loop", "client", "thousand a second", "µs of CPU"], rows)


def _latency_table(report: Report) -> Iterator[str]:
    for cell, by_client in report.measured.cells.items():
        if cell.load:
            rows = [
                [client, thousands(rounds), *latency_columns(rounds), _cpu(rounds)]
                for client, rounds in by_client.items()
            ]
            header = [f"{_LOADS[cell.load.name]} ({cell.loop})", "thousand a second", *latency_header(), "µs of CPU"]
            yield table(header, rows)


def _hooks_table(figures: Iterable[Figure]) -> Iterator[str]:
    """Show in one line each what a way to be observed costs, in the words behind those with which its figures begin."""
    cost, times = (
        {each.what.removeprefix(begin): each for each in figures if each.what.startswith(begin)}
        for begin in (HOOK_COST, HOOK_TIMES)
    )
    rows = [[what, f"{each.value:.1f}", f"{times[what].value:.2f}"] for what, each in cost.items()]
    if rows:
        yield table(["hooks of a client with 100 callers", "µs of CPU a `get`", "÷ none"], rows)


def _other_figures(figures: Iterable[Figure]) -> Iterator[str]:
    others = [each for each in figures if not each.what.startswith((HOOK_COST, HOOK_TIMES))]
    if others:
        yield figures_table(others)


def _cpu(rounds: list[Round]) -> str:
    return f"{median_of(rounds, 'cpu') * 1e6:.1f}"


def _missed(verdicts: list[Verdict]) -> str:
    missed = [each for each in verdicts if not each.is_met]
    head = f"Of {len(verdicts)} targets {len(verdicts) - len(missed)} are met."
    if not missed:
        return head
    lines = [
        f"- `{what}`: {about}: {amount(each.measured, each.unit)}, not {amount(each.limit, each.unit)}"
        for each in missed
        for what, _, about in [each.what.partition(": ")]
    ]
    return f"{head} Missed:\n\n" + "\n".join(lines)
