"""What was measured, held against the targets: JSON for machines, Markdown for people."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tests.benchmarks.clients import NODE_PEERS, OURS, PEERS
from tests.benchmarks.summary import PERCENTILES, median_of, percentiles, ratio
from tests.benchmarks.workers import node_versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioredis_kit.cli.bench.figures import Round
    from aioredis_kit.testing import RedisServer
    from tests.benchmarks.figures import Figure
    from tests.benchmarks.measure import Measured, Plan
    from tests.benchmarks.targets import Verdict

_PACKAGES = ("aioredis_kit", "redis", "hiredis", "uvloop", "coredis", "valkey-glide")


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    where: dict[str, Any]
    plan: Plan
    measured: Measured
    figures: list[Figure]
    verdicts: list[Verdict]


def environment(server: RedisServer, plan: Plan) -> dict[str, Any]:
    """Return what the figures depend on. Taken beforehand: afterwards the load is our own."""
    packages = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[package] = version(package)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "server": f"{server.flavour} {'.'.join(map(str, server.version))}",
        **packages,
        **(node_versions() if set(NODE_PEERS) & set(plan.taking_part) else {}),
    }


def to_json(report: Report) -> dict[str, Any]:
    """Return everything that was measured, ready for ``json.dump``; of latencies only the percentiles."""
    return {
        "environment": report.where,
        "rounds": report.plan.rounds,
        "seconds": report.plan.seconds,
        "cells": [
            {
                "cell": cell.name,
                **asdict(cell),
                "client": client,
                "throughput": median_of(rounds, "throughput"),
                "cpu": median_of(rounds, "cpu"),
                "latencies": percentiles(rounds),
                "rounds": [[one.commands, one.seconds, one.cpu_seconds] for one in rounds],
            }
            for cell, by_client in report.measured.cells.items()
            for client, rounds in by_client.items()
        ],
        "figures": [asdict(figure) for figure in report.figures],
        "targets": [{**asdict(verdict), "is_met": verdict.is_met} for verdict in report.verdicts],
        "skipped": report.measured.skipped,
    }


def to_markdown(report: Report) -> str:
    """Return where it was measured, all cells, the figures, the targets, and what was left out."""
    parts = [environment_line(report), _cells_table(report)] if report.measured.cells else [environment_line(report)]
    if report.figures:
        parts.append(figures_table(report.figures))
    parts.append(verdicts_table(report.verdicts))
    parts += skipped_lines(report)
    return "\n\n".join(parts)


def skipped_lines(report: Report) -> list[str]:
    """Return what was left out and why, one a line; none if there is nothing."""
    return [f"Not measured: {what}: {reason}." for what, reason in report.measured.skipped.items()]


def environment_line(report: Report) -> str:
    """Return where and how it was measured, in one line."""
    where = ", ".join(f"{name} {value}" for name, value in report.where.items())
    return f"{where}; {report.plan.rounds} rounds of {report.plan.seconds:g} s."


def _cells_table(report: Report) -> str:
    rows = []
    for cell, by_client in report.measured.cells.items():
        for client in sorted(by_client, key=list(PEERS).index):
            rounds = by_client[client]
            ours = f"{ratio(by_client[OURS], rounds, 'throughput'):.2f}" if OURS in by_client else ""
            row = [f"`{cell.name}`", client, thousands(rounds), ours if cell.load is None else ""]
            rows.append([*row, f"{median_of(rounds, 'cpu') * 1e6:.2f}", *latency_columns(rounds)])
    header = ["cell", "client", "thousand a second", f"{OURS} ÷ it", "µs of CPU", *latency_header()]
    return table(header, rows)


def latency_header() -> list[str]:
    """Return the heads of `latency_columns`."""
    return [f"{name}, ms" for name in PERCENTILES]


def latency_columns(rounds: list[Round]) -> list[str]:
    """Return the percentiles in milliseconds, blank where there are none."""
    found = percentiles(rounds)
    return [f"{found[name] * 1000:.2f}" if name in found else "" for name in PERCENTILES]


def thousands(rounds: list[Round]) -> str:
    """Return the throughput in thousands a second, with three digits or more."""
    amount = median_of(rounds, "throughput") / 1000
    return f"{amount:.0f}" if amount >= 100 else f"{amount:.1f}" if amount >= 10 else f"{amount:.2f}"


def figures_table(figures: Iterable[Figure]) -> str:
    """Return the figures, one a line."""
    return table(
        ["figure", "client", ""], [[each.what, each.client, amount(each.value, each.unit)] for each in figures]
    )


def verdicts_table(verdicts: Iterable[Verdict]) -> str:
    """Return what is met and what is missed, and what the floor program reached in its place."""
    rows = [
        [
            verdict.what,
            amount(verdict.measured, verdict.unit),
            ("≤ " if verdict.is_maximum else "≥ ") + amount(verdict.limit, verdict.unit),
            "met" if verdict.is_met else "MISSED",
            "" if verdict.floor is None else amount(verdict.floor, verdict.unit),
        ]
        for verdict in verdicts
    ]
    return table(["target", "measured", "limit", "", "the floor's"], rows)


def amount(value: float, unit: str) -> str:
    """Return a number as it is read best."""
    if unit == "times":
        return f"{value:.3g} times"
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.1f} {unit}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
