"""Notes for how long the event loop did not turn, while somebody may want to know.

One timer, that only looks how late it is. It runs while commands with deadlines are under way, so that a time-out can
be told from a loop that was blocked, and for a while after somebody asked how the client is.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from aioredis_kit.statistics import LagStatistics

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

TICK: Final = 0.05
"""How often it looks, in seconds: twenty times a second cost a tenth of a per mille of a processor."""
NOTABLE: Final = 0.02
"""A timer that is less late than this, in seconds, tells of a busy machine at most."""
_MOST_NOTED: Final = 1024
"""So many delays are known one by one, and half of them at least: those of half a minute."""


class LoopWatch:
    """Watches the event loop.

    Args:
        loop: The client's event loop.
        clock: The client's clock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._until = -math.inf
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0
        self._longest = 0.0
        self._total = 0.0
        self._ends: list[float] = [-math.inf]  # of the delays noted, when they ended,
        self._totals: list[float] = [0.0]  # and how long all had lasted by then

    def keep(self, until: float) -> None:
        """Go on watching until then, on the client's clock; infinity is not at all."""
        if self._until < until < math.inf:
            self._until = until
            if self._timer is None:
                self._arm()

    def stop(self) -> None:
        """Watch no more."""
        self._until = -math.inf
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def delayed(self, since: float, now: float) -> float:
        """Return for how many of the seconds since then the loop was delayed. What is not over yet counts."""
        delayed = max(now - max(self._due, since), 0.0)
        first = bisect_right(self._ends, since)  # it may have begun before
        if first < len(self._ends):
            length = self._totals[first] - self._totals[first - 1] if first else 0.0
            delayed += self._totals[-1] - self._totals[first] + min(length, self._ends[first] - since)
        return delayed

    def statistics(self) -> LagStatistics:
        """Return what it has noted."""
        return LagStatistics(delays=self._count, total=self._total, longest=self._longest)

    def _arm(self) -> None:
        self._due = self._clock() + TICK
        self._timer = self._loop.call_later(TICK, self._look)

    def _look(self) -> None:
        now = self._clock()
        late, self._due, self._timer = now - self._due, math.inf, None
        if late > NOTABLE:
            self._note(now, late)
        if now < self._until:
            self._arm()

    def _note(self, now: float, late: float) -> None:
        self._count += 1
        self._total += late
        self._longest = max(self._longest, late)
        self._ends.append(now)
        self._totals.append(self._total)
        if len(self._ends) > _MOST_NOTED:
            del self._ends[: _MOST_NOTED // 2]
            del self._totals[: _MOST_NOTED // 2]
