"""When to ping, and when a connection counts as dead.

Any byte that is read proves life, whatever it says; so does an error reply to the ping.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Act(enum.Enum):
    """What to do now."""

    WAIT = "wait"
    PING = "ping"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a connection now, and when to look again.

    Attributes:
        act: What to do.
        look_again_at: When, on the client's clock; infinity is never.
    """

    act: Act
    look_again_at: float = math.inf


def judge(now: float, *, last_read: float, pinged_at: float | None, interval: float | None, timeout: float) -> Verdict:
    """Judge a connection.

    Args:
        now: The time.
        last_read: When something was last read.
        pinged_at: When the ping was sent that nothing was read since; ``None``: there is none.
        interval: How long nothing may be read before a ping is due; ``None``: pings are off.
        timeout: How long the server may stay silent after a ping.
    """
    if pinged_at is not None:
        due = pinged_at + timeout
        return Verdict(Act.DROP) if now >= due else Verdict(Act.WAIT, due)
    if interval is None:
        return Verdict(Act.WAIT)
    due = last_read + interval
    return Verdict(Act.PING, now + timeout) if now >= due else Verdict(Act.WAIT, due)
