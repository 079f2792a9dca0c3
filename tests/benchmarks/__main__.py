"""``uv run --group bench python -m tests.benchmarks``: this client beside its peers, on an embedded server.

Markdown goes to stdout, progress to stderr, everything that was measured to ``--json``. The exit code is 0 whatever was
measured, unless ``--check`` is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

from aioredis_kit.testing import RedisServer
from tests.benchmarks import publishing, report
from tests.benchmarks.cells import CELLS, STORY, Cell
from tests.benchmarks.clients import PEERS
from tests.benchmarks.figures import FIGURES, Figure, Sizes
from tests.benchmarks.measure import Plan, measure_cells
from tests.benchmarks.report import Report
from tests.benchmarks.targets import judge

# The quick sizes only show that everything runs.
_SIZES = {"rounds": 9, "seconds": 0.2, "commands": 1_000_000, "in_flight": 10_000}
_QUICK_SIZES = {"rounds": 1, "seconds": 0.03, "commands": 20_000, "in_flight": 1_000}


def main() -> int:
    """Run what was asked for and return the exit code."""
    options = _parse()
    if options.list:
        print("\n".join([*(cell.name for cell in CELLS), *FIGURES]))
        return 0
    cells, figures = _chosen(options.cells)
    plan = Plan(cells, tuple(options.peers), options.rounds, options.seconds)
    with RedisServer(persistence="none") as server:
        where = report.environment(server, plan)
        measured = measure_cells(server, plan)
    found = _measure_figures(figures, Sizes(options.rounds, options.commands, options.in_flight))
    done = Report(where, plan, measured, found, judge(measured.cells, found))
    print(report.to_markdown(done))
    if options.json:
        options.json.write_text(json.dumps(report.to_json(done), indent=1) + "\n", encoding="utf-8")
    if options.publish:
        publishing.publish(done, options.publish)
    return int(options.check and not all(verdict.is_met for verdict in done.verdicts))


def _measure_figures(names: tuple[str, ...], sizes: Sizes) -> list[Figure]:
    found: list[Figure] = []
    for name in names:
        began = time.monotonic()
        found += FIGURES[name](sizes)
        print(f"{time.monotonic() - began:4.0f} s  {name}", file=sys.stderr)
    return found


def _chosen(patterns: list[str] | None) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """Return the cells and the figures whose names match; the story and all figures where nothing is said."""
    if patterns is None:
        return STORY, tuple(FIGURES)
    known = [*(cell.name for cell in CELLS), *FIGURES]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            sys.exit(f"--cells {pattern}: nothing is named like that. --list tells all names.")
    names = {name for name in known for pattern in patterns if fnmatchcase(name, pattern)}
    return tuple(cell for cell in CELLS if cell.name in names), tuple(name for name in FIGURES if name in names)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--list", action="store_true", help="tell the names that --cells knows, and do nothing else")
    add("--cells", nargs="+", metavar="NAME", help="names or patterns such as 'get-*-uvloop' (default: the story)")
    add("--peers", nargs="+", choices=PEERS, default=tuple(PEERS), metavar="CLIENT", help=f"of {', '.join(PEERS)}")
    add("--rounds", type=_count, help="per client and cell, after one that warms up")
    add("--seconds", type=_duration, help="length of a round")
    add("--commands", type=_count, help="per measurement of resident memory")
    add("--in-flight", type=_count, help="commands in flight while memory is traced")
    add("--quick", action="store_true", help="small sizes: shows that it runs, measures nothing")
    add("--check", action="store_true", help="exit with 1 if a target is missed")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add(
        "--publish", type=Path, nargs="?", const=publishing.ROOT, metavar="ROOT",
        help="write tests/benchmarks/results and the section of README.md beneath ROOT (default: this repository)",
    )  # fmt: skip
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
