"""What of a client's statistics is shown to those that collect metrics, whichever they are.

Rules of this file:

1. Labels come from fixed sets. No key, value, channel or error text is ever one.
2. What is measured here is read of ``Statistics``: it costs commands nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aioredis_kit.cache.statistics import CacheStatistics
    from aioredis_kit.statistics import Statistics

Values: TypeAlias = "Iterable[tuple[tuple[str, ...], float]]"
"""Numbers by the values of their labels."""

LANES: Final = ("shared", "dedicated", "push")
_STATES: Final = ("ready", "idle", "connecting", "waiting")
_OUTCOMES: Final = ("answered", "timed_out", "cancelled", "lost", "unsent")


class Kind(enum.Enum):
    """What kind of number it is, and what two clients' numbers are together."""

    COUNTER = "only grows; the sum"
    LEVEL = "rises and falls; the sum"
    LARGEST = "rises and falls; the larger one"
    EARLIEST = "an instant; the earlier one"

    def merge(self, one: float, other: float) -> float:
        """Return what the numbers of two clients are together."""
        if self is Kind.LARGEST:
            return max(one, other)
        return min(one, other) if self is Kind.EARLIEST else one + other


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric.

    Attributes:
        name: Its name, with dots.
        kind: What kind of number it is.
        unit: In which unit, as UCUM has it: ``s``, ``By``, ``{command}``.
        meaning: What it says.
        read: Reads it of a client's statistics.
        labels: The names of its labels.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    read: Callable[[Statistics], Values]
    labels: tuple[str, ...] = ()


def number(read: Callable[[Statistics], float | None]) -> Callable[[Statistics], Values]:
    """Return what reads one number, if there is one."""

    def values(statistics: Statistics) -> Values:
        value = read(statistics)
        return () if value is None else [((), value)]

    return values


def of_cache(read: Callable[[CacheStatistics], Values]) -> Callable[[Statistics], Values]:
    """Return what reads numbers of the cache, if there is one."""
    return lambda statistics: () if statistics.cache is None else read(statistics.cache)


def _connections(statistics: Statistics) -> Iterator[tuple[tuple[str, ...], float]]:
    for lane in LANES:
        for state in _STATES if lane == "dedicated" else ("ready", "connecting", "waiting"):
            yield (lane, state), getattr(getattr(statistics.connections, lane), state)


_COMMANDS: Final = (
    Measure(
        "commands",
        Kind.COUNTER,
        "{command}",
        "Commands by how they ended.",
        lambda of: [((outcome,), getattr(of.commands, outcome)) for outcome in _OUTCOMES],
        ("outcome",),
    ),
    Measure("command.errors", Kind.COUNTER, "{error}", "Error replies.", number(lambda of: of.commands.errors)),
    Measure(
        "command.maybe_executed",
        Kind.COUNTER,
        "{command}",
        "Commands that timed out, were cancelled or lost after they had been sent.",
        number(lambda of: of.commands.maybe_executed),
    ),
    Measure("command.retries", Kind.COUNTER, "{retry}", "Commands sent again.", number(lambda of: of.commands.retried)),
    Measure(
        "command.dropped_replies",
        Kind.COUNTER,
        "{reply}",
        "Replies that came when their callers had gone.",
        number(lambda of: of.commands.dropped_replies),
    ),
    Measure(
        "command.orphaned_replies",
        Kind.COUNTER,
        "{reply}",
        "Replies to blocking commands whose callers had gone.",
        number(lambda of: of.orphaned_replies),
    ),
    Measure(
        "command.unknown_outcomes",
        Kind.COUNTER,
        "{command}",
        "Blocking commands that ended without anybody knowing what they had done.",
        number(lambda of: of.unknown_outcomes),
    ),
)

_QUEUE: Final = (
    Measure(
        "queue.commands",
        Kind.LEVEL,
        "{command}",
        "Commands that wait to be sent, or were sent and are not answered yet.",
        lambda of: [(("waiting",), of.queue.waiting), (("in_flight",), of.queue.in_flight)],
        ("state",),
    ),
    Measure(
        "queue.oldest",
        Kind.LARGEST,
        "s",
        "How long ago the oldest of them was made, or sent.",
        lambda of: [(("waiting",), of.queue.oldest), (("in_flight",), of.queue.oldest_in_flight)],
        ("state",),
    ),
    Measure(
        "queue.in_flight",
        Kind.LEVEL,
        "By",
        "Size of the commands in flight.",
        number(lambda of: of.queue.bytes_in_flight),
    ),
    Measure(
        "queue.abandoned",
        Kind.LEVEL,
        "{command}",
        "Commands in flight for which nobody waits any more.",
        number(lambda of: of.queue.abandoned),
    ),
    Measure(
        "queue.lease_waiters",
        Kind.LEVEL,
        "{user}",
        "Users that wait for a dedicated connection.",
        number(lambda of: of.queue.waiting_for_lease),
    ),
)

_CONNECTIONS: Final = (
    Measure(
        "connections", Kind.LEVEL, "{connection}", "Connections by lane and state.", _connections, ("lane", "state")
    ),
    Measure(
        "connections.opened",
        Kind.COUNTER,
        "{connection}",
        "Connections that became ready.",
        number(lambda of: of.connections.opened),
    ),
    Measure(
        "connections.reconnects",
        Kind.COUNTER,
        "{connection}",
        "Connections that took the place of one that was lost.",
        number(lambda of: of.connections.reconnects),
    ),
    Measure(
        "connections.losses",
        Kind.COUNTER,
        "{connection}",
        "Connections that ended otherwise than on purpose.",
        number(lambda of: of.connections.losses),
    ),
    Measure(
        "connections.failures",
        Kind.COUNTER,
        "{attempt}",
        "Attempts to connect that failed.",
        number(lambda of: of.connections.failures),
    ),
    Measure(
        "connections.lease_timeouts",
        Kind.COUNTER,
        "{timeout}",
        "Times that no dedicated connection could be had in time.",
        number(lambda of: of.connections.lease_timeouts),
    ),
    Measure(
        "io",
        Kind.COUNTER,
        "By",
        "Bytes written and read.",
        lambda of: [(("transmit",), of.bytes_written), (("receive",), of.bytes_read)],
        ("direction",),
    ),
    Measure("io.writes", Kind.COUNTER, "{write}", "Writes to sockets.", number(lambda of: of.socket_writes)),
    Measure(
        "pushes", Kind.COUNTER, "{push}", "Messages, confirmations and invalidations.", number(lambda of: of.pushes)
    ),
    Measure(
        "pubsub.gaps",
        Kind.COUNTER,
        "{gap}",
        "Times that the connection for messages was lost while there were subscriptions.",
        number(lambda of: of.gaps),
    ),
)

_TIMES: Final = (
    Measure("pings", Kind.COUNTER, "{ping}", "Pings that were answered.", number(lambda of: of.latency.pings)),
    Measure("ping.time", Kind.COUNTER, "s", "How long they took together.", number(lambda of: of.latency.total)),
    Measure("ping.latest", Kind.LARGEST, "s", "How long the latest took.", number(lambda of: of.latency.latest)),
    Measure("ping.longest", Kind.LARGEST, "s", "How long the slowest took.", number(lambda of: of.latency.longest)),
    Measure(
        "loop.delays",
        Kind.COUNTER,
        "{delay}",
        "Times that the event loop was late by more than 20 ms.",
        number(lambda of: of.loop_lag.delays),
    ),
    Measure("loop.delay.time", Kind.COUNTER, "s", "How late it was together.", number(lambda of: of.loop_lag.total)),
    Measure(
        "loop.delay.longest", Kind.LARGEST, "s", "How late it was at worst.", number(lambda of: of.loop_lag.longest)
    ),
)

_CREDENTIALS: Final = (
    Measure(
        "credentials.renewals",
        Kind.COUNTER,
        "{renewal}",
        "Tokens that took the place of an older one, and attempts in vain.",
        lambda of: [(("renewed",), of.renewals), (("failed",), of.failed_renewals)],
        ("outcome",),
    ),
    Measure(
        "credentials.reauthentications",
        Kind.COUNTER,
        "{reauthentication}",
        "Times that an open connection authenticated with a newer token.",
        number(lambda of: of.reauthentications),
    ),
    Measure(
        "credentials.expiry_timestamp",
        Kind.EARLIEST,
        "s",
        "When the present token ends, since the epoch.",
        number(lambda of: of.token_expires_at),
    ),
)

_CACHE: Final = (
    Measure(
        "cache.requests",
        Kind.COUNTER,
        "{request}",
        "Reads by whether the cache answered them.",
        of_cache(lambda of: [(("hit",), of.hits), (("miss",), of.misses)]),
        ("result",),
    ),
    Measure(
        "cache.loads",
        Kind.COUNTER,
        "{load}",
        "Reads sent to the server for the cache.",
        of_cache(lambda of: [(("stored",), of.load_successes), (("failed",), of.load_failures)]),
        ("outcome",),
    ),
    Measure(
        "cache.load.time",
        Kind.COUNTER,
        "s",
        "How long they took together.",
        of_cache(lambda of: [((), of.total_load_time)]),
    ),
    Measure(
        "cache.joined_loads",
        Kind.COUNTER,
        "{request}",
        "Reads that waited for the same command of another caller.",
        of_cache(lambda of: [((), of.joined_loads)]),
    ),
    Measure(
        "cache.evictions",
        Kind.COUNTER,
        "{eviction}",
        "Replies that had to go: for others or as their time was over, or because of a change.",
        of_cache(lambda of: [(("full",), of.evictions), (("invalidation",), of.invalidations)]),
        ("reason",),
    ),
    Measure("cache.items", Kind.LEVEL, "{item}", "Replies that are kept.", of_cache(lambda of: [((), of.entries)])),
    Measure("cache.size", Kind.LEVEL, "By", "Memory that these take.", of_cache(lambda of: [((), of.bytes)])),
)

MEASURES: Final = (*_COMMANDS, *_QUEUE, *_CONNECTIONS, *_TIMES, *_CREDENTIALS, *_CACHE)
"""All of ``Statistics`` but the text of the latest loss."""
