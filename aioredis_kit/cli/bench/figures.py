"""What was measured, and what it comes to: values and arithmetic.

Rules of this file:

1. Two clients are compared round by round, each with the one right after it: a slow moment of the machine is on both.
2. Latencies are those of all rounds together; throughput and CPU are medians of rounds.
"""

from __future__ import annotations

import statistics
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "COMMANDS",
    "OURS",
    "REDIS_PY",
    "Comparison",
    "Figures",
    "Plan",
    "Round",
    "compared",
    "figures_of",
    "plan_of",
]

OURS: Final = "aioredis_kit"
REDIS_PY: Final = "redis-py"
COMMANDS: Final = ("get", "set", "mixed")

_ROUND: Final = 0.5
"""About how long a round is, in seconds: long enough for thousands of commands, short enough for the rounds of two
clients to have the same weather."""
_MOST_ROUNDS: Final = 20
_MOST_BYTES: Final = 64 * 2**20
_TIMED_CALLERS: Final = 16
"""Reading the clock costs what shows at 100 000 commands a second. Of more callers only about so many are timed."""
PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is going to be done.

    Attributes:
        command: One of ``COMMANDS``; ``mixed`` is nine GETs to a SET.
        callers: How many issue commands, each the next one when it has the reply to the last.
        size: The size of values, in bytes.
        clients: Who takes part, in this order.
        rounds: How many rounds each has that count; one before them warms up.
        seconds: How long a round is.
    """

    command: str
    callers: int
    size: int
    clients: tuple[str, ...]
    rounds: int
    seconds: float

    @property
    def steps(self) -> int:
        """How many rounds there are, those that warm up included."""
        return len(self.clients) * (self.rounds + 1)

    @property
    def stride(self) -> int:
        """One caller in so many is timed."""
        return max(1, self.callers // _TIMED_CALLERS)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return {
            "command": self.command,
            "callers": self.callers,
            "size": self.size,
            "rounds": self.rounds,
            "seconds_per_round": self.seconds,
        }


def plan_of(*, command: str, callers: int, size: int, seconds: float, is_alone: bool) -> Plan:
    """Return the plan for what a user asks for.

    Args:
        command: One of ``COMMANDS``.
        callers: How many callers there are.
        size: The size of values, in bytes.
        seconds: How long each client is measured, all rounds together.
        is_alone: Whether redis-py takes no part.

    Raises:
        ConfigurationError: That would store too much.
    """
    if callers * size > _MOST_BYTES:
        raise ConfigurationError(
            f"--callers {callers} with --size {size} would store {callers * size / 2**20:.0f} MiB, a value for each "
            f"caller: at most {_MOST_BYTES // 2**20} MiB are stored, so take fewer callers or smaller values"
        )
    rounds = min(max(round(seconds / _ROUND), 1), _MOST_ROUNDS)
    clients = (OURS,) if is_alone else (OURS, REDIS_PY)
    return Plan(command=command, callers=callers, size=size, clients=clients, rounds=rounds, seconds=seconds / rounds)


@dataclass(frozen=True, slots=True)
class Round:
    """What one client did in one round.

    Attributes:
        commands: How many commands were answered.
        seconds: How long it took.
        cpu_seconds: How long this process computed meanwhile.
        latencies: How long commands took, of a sample, in seconds.
    """

    commands: int
    seconds: float
    cpu_seconds: float
    latencies: array[float] = field(default_factory=lambda: array("d"), repr=False)

    @property
    def throughput(self) -> float:
        """Commands a second."""
        return self.commands / self.seconds

    @property
    def cpu(self) -> float:
        """Seconds of CPU a command."""
        return self.cpu_seconds / self.commands


@dataclass(frozen=True, slots=True)
class Figures:
    """What the rounds of one client come to.

    Attributes:
        commands: How many commands were answered, in all rounds.
        throughput: Commands a second.
        cpu: Seconds of CPU a command.
        percentiles: Latencies in seconds by their names: ``PERCENTILES``.
    """

    commands: int
    throughput: float
    cpu: float
    percentiles: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in JSON. Times are in seconds."""
        return {
            "commands": self.commands,
            "throughput": self.throughput,
            "cpu_per_command": self.cpu,
            "latency": self.percentiles,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two clients compare: the first one's figures by the second one's.

    Attributes:
        throughput: The median of the rounds' ratios.
        lowest: The lowest of them.
        highest: The highest of them.
        cpu: The median of the ratios of CPU a command.
    """

    throughput: float
    lowest: float
    highest: float
    cpu: float

    def as_dict(self) -> dict[str, float]:
        """Return it as it stands in JSON."""
        return {
            "throughput": self.throughput,
            "throughput_lowest": self.lowest,
            "throughput_highest": self.highest,
            "cpu_per_command": self.cpu,
        }


def figures_of(rounds: Sequence[Round]) -> Figures:
    """Return what rounds come to; there must be one."""
    latencies = sorted(latency for each in rounds for latency in each.latencies)
    return Figures(
        commands=sum(each.commands for each in rounds),
        throughput=statistics.median(each.throughput for each in rounds),
        cpu=statistics.median(each.cpu for each in rounds),
        percentiles={name: _percentile(latencies, share) for name, share in PERCENTILES.items()},
    )


def compared(first: Sequence[Round], second: Sequence[Round]) -> Comparison:
    """Return how two clients compare, of which each round of the first was followed by one of the second."""
    pairs = list(zip(first, second, strict=False))  # if it was interrupted, the second has one less
    ratios = [one.throughput / other.throughput for one, other in pairs]
    return Comparison(
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(one.cpu / other.cpu for one, other in pairs),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return the least value that so many are not above."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]
