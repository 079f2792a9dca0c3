"""Percentiles and a small histogram of durations."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Bar", "histogram", "percentile"]

_EDGES: Final = (0.0, *(step * 10.0**power for power in range(-7, 5) for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
"""Where bars may begin, in seconds: close enough to tell, and round numbers."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        least: From how many seconds on.
        most: Up to how many.
        count: How many samples are within.
    """

    least: float
    most: float
    count: int


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the sample which so many percent of all don't exceed. There is at least one."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def histogram(samples: Sequence[float], most_bars: int = 10) -> list[Bar]:
    """Return bars without a gap between the fastest sample and the slowest; the last one holds all that are slower."""
    if not samples:
        return []
    first, end = bisect_right(_EDGES, min(samples)) - 1, bisect_right(_EDGES, max(samples))
    edges = list(_EDGES[first : end + 1])
    if len(edges) - 1 > most_bars:
        edges = [*edges[:most_bars], edges[-1]]
    return [
        Bar(least, most, sum(least <= each < most for each in samples)) for least, most in itertools.pairwise(edges)
    ]
