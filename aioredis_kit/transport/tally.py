"""What the connections of an endpoint have done, counted where it costs next to nothing.

Rules of this file:

1. A command that goes well adds to no number of its own. How many were answered follows from what a connection's
   machine has to know anyway; bytes, writes and pushes are counted once a write or read.
2. What is added to here as it happens is seldom: an error, the end of a connection, a caller who goes.
3. A connection adds its numbers to ``ended`` once, at its end; until then whoever asks adds them, in any thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.transport.timings import Timings


@dataclass(slots=True)
class Traffic:
    """What connections have carried. See ``Statistics`` and ``CommandStatistics`` for what each number is."""

    writes: int = 0
    bytes_written: int = 0
    bytes_read: int = 0
    pushes: int = 0
    answered: int = 0
    errors: int = 0
    dropped_replies: int = 0


@dataclass(slots=True)
class Tally:
    """What one endpoint has done in one life of its client.

    Attributes:
        connections: Those that have not ended.
        ended: What all others have carried.
        latest_loss: Why a connection was lost most lately; empty: none was.
        lost_at: When that was, on the client's clock.
        reconnected_at: When another took the place of one that was lost most lately.
        retried: How many commands were sent again because their connection was lost.
        timings: How long commands take, if somebody wants to know.
        reissued: How many were sent again because the server had done nothing: their first replies reach nobody.

    The other attributes are those of ``CommandStatistics``, ``ConnectionStatistics`` and ``LatencyStatistics``.
    """

    timings: Timings | None = None
    connections: set[Connection] = field(default_factory=set)
    ended: Traffic = field(default_factory=Traffic)
    timed_out: int = 0
    cancelled: int = 0
    lost: int = 0
    unsent: int = 0
    maybe_executed: int = 0
    retried: int = 0
    reissued: int = 0
    opened: int = 0
    reconnects: int = 0
    losses: int = 0
    failures: int = 0
    latest_loss: str = ""
    lost_at: float | None = None
    reconnected_at: float | None = None
    lease_timeouts: int = 0
    pings: int = 0
    latest_latency: float | None = None
    total_latency: float = 0.0
    longest_latency: float = 0.0
    _lock: Any = field(default_factory=threading.RLock, repr=False, compare=False)

    def note_end(self, connection: Connection) -> None:
        """Take over the numbers of a connection that has ended."""
        with self._lock:
            self.connections.discard(connection)
            connection.add_to(self.ended)

    def note_latency(self, latency: float) -> None:
        """Count a ping that was answered, after so many seconds."""
        self.pings += 1
        self.latest_latency = latency
        self.total_latency += latency
        self.longest_latency = max(self.longest_latency, latency)

    def traffic(self) -> Traffic:
        """Return what all connections have carried up to now."""
        with self._lock:
            whole = replace(self.ended)
            for connection in tuple(self.connections):  # where they are as many: a new one is no end
                connection.add_to(whole)
            return whole
