"""From rounds to figures.

A ratio between two clients is the median of the ratios of their rounds, each taken within one alternation: a slow minute
of the machine cancels out. A throughput or a CPU time is the median of its rounds. Percentiles are those of the samples
of all rounds together.
"""

from __future__ import annotations

from array import array
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aioredis_kit.cli.bench.figures import Round

PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def median_of(rounds: list[Round], metric: str) -> float:
    """Return the median of a metric: ``throughput``, or ``cpu`` for seconds of CPU a command."""
    return median(getattr(one, metric) for one in rounds)


def ratio(ours: list[Round], theirs: list[Round], metric: str) -> float:
    """Return how many times theirs ours is."""
    return median(getattr(a, metric) / getattr(b, metric) for a, b in zip(ours, theirs, strict=True))


def percentiles(rounds: list[Round]) -> dict[str, float]:
    """Return latencies in seconds; only those that the sample is large enough for."""
    sample = array("d", sorted(chain.from_iterable(one.latencies for one in rounds)))
    return {
        name: sample[int(part * len(sample))] for name, part in PERCENTILES.items() if len(sample) * (1 - part) >= 1
    }
