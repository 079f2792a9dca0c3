"""The deadlines of an endpoint: one timer for all of them.

A command's deadline costs one comparison. The timer is set for the earliest one; when it fires, the owner looks
at everything that waits and says which deadline is the next. With one time-out for all commands that happens once
in that time, however many there are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aioredis_kit.policy.deadlines import RESOLUTION

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Sweep:
    """Calls back when a deadline has passed.

    Args:
        loop: The client's event loop.
        clock: The client's clock.
        expire: Called with the time and the lag (how late the timer fired, in seconds); ends what is overdue
            and returns the earliest deadline left, infinity if there is none.
    """

    __slots__ = ("_clock", "_due", "_expire", "_loop", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        expire: Callable[[float, float], float],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    def expect(self, deadline: float) -> float:
        """Wake at a deadline that is earlier than all before; return it."""
        self.stop()
        self._due = deadline
        self._timer = self._loop.call_later(max(deadline - self._clock(), 0.0), self._fire)
        return deadline

    def stop(self) -> None:
        """Expect nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        now = self._clock()
        self._timer = None
        earliest = self._expire(now, max(now - self._due, 0.0))
        if earliest < math.inf:
            # Not at once again: one look ends all that is due by then.
            self.expect(max(earliest, now + RESOLUTION))
