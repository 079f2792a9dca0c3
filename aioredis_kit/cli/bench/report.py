"""Results as text and as JSON."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aioredis_kit.cli.bench.figures import OURS, REDIS_PY, compared, figures_of

if TYPE_CHECKING:
    from aioredis_kit.cli.bench.figures import Comparison, Figures, Plan, Round
    from aioredis_kit.cli.output import Output
    from aioredis_kit.cli.server import Server
    from aioredis_kit.cli.target import Target

__all__ = ["Results", "tell"]


@dataclass(slots=True)
class Results:
    """What has been measured so far.

    Attributes:
        target: The server.
        plan: What was to be done.
        loop: The event loop's kind.
        server: What the server says of itself; ``None``: it was not connected yet.
        rounds: By each client's name, its rounds.
        is_interrupted: Whether Ctrl-C ended it.
    """

    target: Target
    plan: Plan
    loop: str
    server: Server | None = None
    rounds: dict[str, list[Round]] = field(init=False)
    is_interrupted: bool = False

    def __post_init__(self) -> None:
        self.rounds = {name: [] for name in self.plan.clients}

    @property
    def is_complete(self) -> bool:
        """Whether there is something to tell of each client."""
        return all(self.rounds.values())

    @property
    def figures(self) -> dict[str, Figures]:
        """What it comes to, by the clients' names."""
        return {name: figures_of(rounds) for name, rounds in self.rounds.items()}

    @property
    def comparison(self) -> Comparison | None:
        """How ours compares with the other one, if there is one."""
        return compared(self.rounds[OURS], self.rounds[REDIS_PY]) if REDIS_PY in self.rounds else None

    def as_document(self) -> dict[str, Any]:
        """Return it as it stands in JSON. Times are in seconds."""
        comparison = self.comparison
        return {
            "target": self.target.as_dict(),
            "server": None if self.server is None else self.server.as_dict(),
            "plan": self.plan.as_dict() | {"event_loop": self.loop, "python": platform.python_version()},
            "clients": {name.replace("-", "_"): each.as_dict() for name, each in self.figures.items()},
            "ratio": None if comparison is None else comparison.as_dict(),
            "is_interrupted": self.is_interrupted,
        }


def tell(output: Output, results: Results) -> None:
    """Print a table with what it is about."""
    plan = results.plan
    output.say(f"{results.server} at {results.target.address}", "bold")
    output.say(
        f"{plan.command}, {counted(plan.size, 'byte')}, {counted(plan.callers, 'caller')}; "
        f"{counted(plan.rounds, 'round')} of {plan.seconds:.2g} s each; {results.loop}, "
        f"Python {platform.python_version()}"
    )
    output.say()
    output.console.print(_table(results.figures))
    output.say()
    if (comparison := results.comparison) is not None:
        output.say(_verdict(comparison, plan), "bold")
    if results.is_interrupted:
        output.say(f"interrupted after {len(results.rounds[OURS])} of {plan.rounds} rounds", "yellow")


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _table(figures: dict[str, Figures]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for head in ("commands/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs/command"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, each in figures.items():
        latencies = (f"{value * 1000:.2f}" for value in each.percentiles.values())
        table.add_row(name, f"{each.throughput:,.0f}", *latencies, f"{each.cpu * 1e6:.1f}")
    return table


def _verdict(comparison: Comparison, plan: Plan) -> str:
    spread = f" (rounds: {comparison.lowest:.2f} to {comparison.highest:.2f})" if plan.rounds > 1 else ""
    return (
        f"{OURS} answers {comparison.throughput:.2f} times as many commands a second as {REDIS_PY}{spread}, with "
        f"{comparison.cpu:.2f} times the CPU for each"
    )
