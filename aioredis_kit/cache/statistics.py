"""What a cache has done, as numbers: node-redis's, and some more."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """What a cache has done since it was made, or last cleared.

    Attributes:
        hits: How many reads it answered.
        misses: How many it did not, those that joined another's included.
        joined_loads: How many reads waited for the same command of another caller, instead of sending it again.
        load_successes: How many replies came from the server to be stored.
        load_failures: How many errors came instead.
        total_load_time: How long all loads took together, in seconds.
        evictions: How many replies had to go for others, or because their time was over.
        invalidations: How many replies had to go because of a change of one of their keys, and loads in flight that
            are not stored for that reason.
        entries: How many replies are kept now.
        bytes: How much memory they and their commands take, in bytes.

    Raises:
        ValueError: A number is negative.
    """

    hits: int = 0
    misses: int = 0
    joined_loads: int = 0
    load_successes: int = 0
    load_failures: int = 0
    total_load_time: float = 0.0
    evictions: int = 0
    invalidations: int = 0
    entries: int = 0
    bytes: int = 0

    def __post_init__(self) -> None:
        for name, value in self._numbers().items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, and is {value}")

    @property
    def requests(self) -> int:
        """How many reads there were."""
        return self.hits + self.misses

    @property
    def loads(self) -> int:
        """How many reads were sent to the server, and have ended."""
        return self.load_successes + self.load_failures

    def hit_rate(self) -> float:
        """Return the share of reads that it answered, from 0 to 1; of no reads, 1."""
        return self.hits / self.requests if self.requests else 1.0

    def miss_rate(self) -> float:
        """Return the share of reads that it did not answer, from 0 to 1; of no reads, 0."""
        return self.misses / self.requests if self.requests else 0.0

    def load_failure_rate(self) -> float:
        """Return the share of loads that failed, from 0 to 1; of no loads, 0."""
        return self.load_failures / self.loads if self.loads else 0.0

    def average_load_penalty(self) -> float:
        """Return how long a load took on average, in seconds; of no loads, 0."""
        return self.total_load_time / self.loads if self.loads else 0.0

    def plus(self, other: CacheStatistics) -> Self:
        """Return the sums of both."""
        theirs = other._numbers()
        return type(self)(**{name: value + theirs[name] for name, value in self._numbers().items()})

    def minus(self, other: CacheStatistics) -> Self:
        """Return what came since an earlier look; nothing is less than 0."""
        theirs = other._numbers()
        return type(self)(**{name: max(value - theirs[name], 0) for name, value in self._numbers().items()})

    def _numbers(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}
