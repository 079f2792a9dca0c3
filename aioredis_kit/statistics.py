"""What a client has done and is doing, as numbers: taken in one moment, by whoever asks.

Counters only grow while a client is open, and begin anew when it is opened again; gauges say what is. Nothing here
holds a key, a value or a secret, so all of it can be shown. ``Statistics.after`` lets counters go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aioredis_kit.cache.statistics import CacheStatistics


def _counter(start: float = 0) -> Any:
    """Return the field of a counter."""
    return field(default=start, metadata={"is_counter": True})


DURATION_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Into what durations are sorted, in seconds: up to each of these, and longer."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How long commands of one name took, from the write to the reply. Counters.

    Attributes:
        counts: How many took no longer than each of ``DURATION_BOUNDS``, but longer than the one before; and how many
            took longer than all.
        total: How long all took together, in seconds.
    """

    counts: tuple[int, ...]
    total: float

    def plus(self, other: Durations) -> Durations:
        """Return the sum."""
        return Durations(
            tuple(one + another for one, another in zip(self.counts, other.counts, strict=True)),
            self.total + other.total,
        )


def merged(durations: Iterable[Mapping[str, Durations]]) -> dict[str, Durations]:
    """Return the sums of several clients' durations."""
    found: dict[str, Durations] = {}
    for each in durations:
        for name, value in each.items():
            found[name] = found[name].plus(value) if name in found else value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStatistics:
    """What became of commands. Counters.

    The client's own commands, such as pings and handshakes, don't count. Of a pipeline each command that was answered
    counts; if it ended otherwise that counts once.

    Attributes:
        answered: How many were answered while somebody waited, error replies included.
        errors: How many error replies came: those within transactions, and those that nobody waited for, included.
        timed_out: How many ended by their deadlines.
        cancelled: How many ended as their callers were cancelled.
        lost: How many ended with their connection, unanswered.
        unsent: How many ended with an error before they were ever sent: no connection, a full queue, the client's end.
        maybe_executed: How many of those that timed out, were cancelled or lost had been sent: nobody knows whether
            they were executed.
        retried: How many times one was sent again, because its connection was lost or the server had done nothing.
        dropped_replies: How many replies came when their callers had gone.
    """

    answered: int = _counter()
    errors: int = _counter()
    timed_out: int = _counter()
    cancelled: int = _counter()
    lost: int = _counter()
    unsent: int = _counter()
    maybe_executed: int = _counter()
    retried: int = _counter()
    dropped_replies: int = _counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """What waits now. Gauges, about all shared and dedicated connections together.

    Attributes:
        waiting: How many commands wait to be sent.
        oldest: For how long the oldest of these has waited, in seconds. Of one without a time-out only a bound is
            known: for how long the queue has not been empty.
        in_flight: How many commands were sent and are not answered yet, abandoned ones included.
        oldest_in_flight: How long ago the oldest of these was sent, in seconds. Not on leases, where it may block.
        bytes_in_flight: Their size, in bytes. What was written at once counts until the last of it is answered.
        abandoned: How many of those in flight nobody waits for any more.
        waiting_for_lease: How many users wait for a dedicated connection.
    """

    waiting: int = 0
    oldest: float = 0.0
    in_flight: int = 0
    oldest_in_flight: float = 0.0
    bytes_in_flight: int = 0
    abandoned: int = 0
    waiting_for_lease: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatistics:
    """The connections of one lane by what they are doing now. Gauges.

    Attributes:
        ready: How many are in use: open, and on the dedicated lane lent to somebody.
        idle: How many are open and lent to nobody. Only on the dedicated lane.
        connecting: How many are being opened, or brought back into their first state.
        waiting: How many wait before the next attempt to connect.
    """

    ready: int = 0
    idle: int = 0
    connecting: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatistics:
    """The connections: gauges by lane, and counters.

    Attributes:
        shared: Those that carry everybody's commands.
        dedicated: Those that one user has alone: blocking commands, sessions, watching transactions.
        push: The one that carries messages, if there are subscriptions.
        opened: How many became ready.
        reconnects: How many of these took the place of a shared or push connection that was lost.
        losses: How many ended otherwise than on purpose.
        failures: How many attempts to connect failed.
        latest_loss: Why the latest was lost, in words; empty: none was.
        lease_timeouts: How many times no dedicated connection could be had in time.
    """

    shared: LaneStatistics = field(default_factory=LaneStatistics)
    dedicated: LaneStatistics = field(default_factory=LaneStatistics)
    push: LaneStatistics = field(default_factory=LaneStatistics)
    opened: int = _counter()
    reconnects: int = _counter()
    losses: int = _counter()
    failures: int = _counter()
    latest_loss: str = ""
    lease_timeouts: int = _counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStatistics:
    """The times from pings to their answers, in seconds. A ping waits behind what was sent before.

    Attributes:
        pings: How many were answered: a counter.
        total: How long these took together: a counter.
        latest: How long the latest took; ``None``: none was answered yet.
        longest: How long the slowest took.
    """

    pings: int = _counter()
    total: float = _counter(0.0)
    latest: float | None = None
    longest: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LagStatistics:
    """How late the event loop was, in seconds. It is watched while commands with a time-out are under way.

    Attributes:
        delays: How many times it was late by more than 20 ms: a counter.
        total: How late it was, together: a counter.
        longest: How late it was at worst.
    """

    delays: int = _counter()
    total: float = _counter(0.0)
    longest: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a client has done since it was last opened, and what it is doing.

    Attributes:
        commands: What became of commands.
        queue: What waits.
        connections: The connections.
        latency: How long pings took.
        loop_lag: How late the event loop was.
        socket_writes: How many times it wrote to a socket: many commands share one write.
        bytes_written: How much, in bytes.
        bytes_read: How many bytes it read.
        pushes: How many pushes came: messages, confirmations of subscriptions, invalidations.
        gaps: How many times the push connection was lost while there were subscriptions.
        orphaned_replies: How many replies came to blocking commands whose callers had gone.
        unknown_outcomes: How many blocking commands ended without anybody knowing what they had done.
        renewals: How many tokens took the place of an older one.
        failed_renewals: How many times that was tried in vain.
        reauthentications: How many times an open connection authenticated with a newer token.
        token_expires_at: When the present token ends, in seconds since the epoch, if there is one.
        durations: How long commands took, by name, if a hook wants that: see ``CommandHook.wants_durations``. Of a
            command with a sub-command the name is its first word; a pipeline is one, ``PIPELINE``.
        cache: What its cache has done, if it has one.
    """

    commands: CommandStatistics = field(default_factory=CommandStatistics)
    queue: QueueStatistics = field(default_factory=QueueStatistics)
    connections: ConnectionStatistics = field(default_factory=ConnectionStatistics)
    latency: LatencyStatistics = field(default_factory=LatencyStatistics)
    loop_lag: LagStatistics = field(default_factory=LagStatistics)
    socket_writes: int = _counter()
    bytes_written: int = _counter()
    bytes_read: int = _counter()
    pushes: int = _counter()
    gaps: int = _counter()
    orphaned_replies: int = _counter()
    unknown_outcomes: int = _counter()
    renewals: int = _counter()
    failed_renewals: int = _counter()
    reauthentications: int = _counter()
    token_expires_at: float | None = None
    durations: Mapping[str, Durations] = field(default_factory=dict)
    cache: CacheStatistics | None = None

    def after(self, earlier: Statistics) -> Statistics:
        """Return the same, with counters that go on from earlier ones. Those of the cache go on by themselves."""
        return _after(self, earlier)  # type: ignore[no-any-return]  # of its own class


def _after(now: Any, earlier: Any) -> Any:
    changes: dict[str, Any] = {}
    for each in fields(now):
        value = getattr(now, each.name)
        if each.metadata.get("is_counter"):
            changes[each.name] = value + getattr(earlier, each.name)
        elif each.name == "durations":
            changes[each.name] = merged((getattr(earlier, each.name), value))
        elif is_dataclass(value) and each.name != "cache":
            changes[each.name] = _after(value, getattr(earlier, each.name))
    return replace(now, **changes) if changes else now
