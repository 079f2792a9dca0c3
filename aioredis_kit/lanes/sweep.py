"""The deadlines of an endpoint: one timer for all of them.

A command's deadline costs one comparison. The timer is set for the earliest one; when it fires, the owner looks
at everything that waits and says which deadline is the next. With one time-out for all commands that happens once
in that time, however many there are.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from aioredis_kit.policy.deadlines import RESOLUTION

if TYPE_CHECKING:
    from collections.abc import Callable


class Sweep:
    """Calls back when a deadline has passed.

    Args:
        loop: The client's event loop.
        clock: The client's clock.
        expire: Called with the time and the lag (how late the timer fired, in seconds); ends what is overdue
            and returns the earliest deadline left, infinity if there is none.

    Attributes:
        earliest: No deadline is earlier than this.
    """

    __slots__ = ("_clock", "_expire", "_loop", "_timer", "earliest")

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
        self.earliest = math.inf

    def expect(self, deadline: float) -> None:
        """Take a deadline into account that is earlier than ``earliest``."""
        self.stop()
        self.earliest = deadline
        delay = max(deadline - self._clock(), 0.0)
        self._timer = self._loop.call_later(delay, self._fire)

    def stop(self) -> None:
        """Expect nothing any more."""
        self.earliest = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        now = self._clock()
        due, self.earliest, self._timer = self.earliest, math.inf, None
        deadline = self._expire(now, max(now - due, 0.0))
        if deadline < self.earliest:
            # Not at once again: one look ends all that is due by then.
            self.expect(max(deadline, now + RESOLUTION))
