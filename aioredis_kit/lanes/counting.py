"""Makes the statistics of an endpoint of what its lanes know. All of it is done when somebody asks, and only then.

Rules of this file:

1. Whoever asks may do so in another thread than the loop's, which goes on meanwhile: what is looked at twice may be
   something else by then, and what is iterated over may change.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

from aioredis_kit.hooks import OTHER, PIPELINE
from aioredis_kit.statistics import (
    CommandStatistics,
    ConnectionStatistics,
    LatencyStatistics,
    QueueStatistics,
    Statistics,
)

if TYPE_CHECKING:
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.lanes.queue import LinkQueue
    from aioredis_kit.policy.commands import Argument, CommandTable
    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.transport.tally import Tally, Traffic

_MOST_ATTEMPTS: Final = 10


def statistics_of(endpoint: Endpoint) -> Statistics:
    """Return what an endpoint has done and is doing, without its tokens and its cache."""
    tally = endpoint.tally
    traffic = tally.traffic()
    return Statistics(
        commands=_commands(tally, traffic),
        queue=_queue(endpoint),
        connections=ConnectionStatistics(
            shared=endpoint.shared.statistics(),
            dedicated=endpoint.dedicated.statistics(),
            push=endpoint.push.statistics(),
            opened=tally.opened,
            reconnects=tally.reconnects,
            losses=tally.losses,
            failures=tally.failures,
            latest_loss=tally.latest_loss,
            lease_timeouts=tally.lease_timeouts,
        ),
        latency=LatencyStatistics(
            pings=tally.pings,
            total=tally.total_latency,
            latest=tally.latest_latency,
            longest=tally.longest_latency,
        ),
        loop_lag=endpoint.watch.statistics(),
        socket_writes=traffic.writes,
        bytes_written=traffic.bytes_written,
        bytes_read=traffic.bytes_read,
        pushes=traffic.pushes,
        gaps=endpoint.push.gaps,
        orphaned_replies=endpoint.dedicated.orphaned_replies,
        unknown_outcomes=endpoint.dedicated.unknown_outcomes,
        durations={} if tally.timings is None else tally.timings.durations(partial(_name_of, endpoint.command_table)),
    )


def _name_of(commands: CommandTable, word: Argument) -> str:
    """Return what commands that begin with a word may be called."""
    traits = commands.classify((word,))
    is_known = traits.is_known or word == PIPELINE or commands.depends_on_arguments(word)
    return traits.name if is_known else OTHER


def _commands(tally: Tally, traffic: Traffic) -> CommandStatistics:
    return CommandStatistics(
        answered=traffic.answered - tally.reissued,
        errors=traffic.errors,
        timed_out=tally.timed_out,
        cancelled=tally.cancelled,
        lost=tally.lost,
        unsent=tally.unsent,
        maybe_executed=tally.maybe_executed,
        retried=tally.retried + tally.reissued,
        dropped_replies=traffic.dropped_replies,
    )


def _queue(endpoint: Endpoint) -> QueueStatistics:
    now = endpoint.clock()
    shared = endpoint.shared.queues
    queues = [*shared, *endpoint.dedicated.queues]
    connections = [connection for queue in queues if (connection := queue.connection) is not None]
    oldest_written = min((_oldest_written(queue.connection) for queue in shared), default=math.inf)
    return QueueStatistics(
        waiting=max(sum(queue.waiting for queue in queues), 0),
        oldest=max(_oldest_waiting(queue, now) for queue in queues),
        in_flight=sum(len(connection.in_flight) for connection in connections),
        oldest_in_flight=max(now - oldest_written, 0.0),
        bytes_in_flight=sum(connection.count_bytes_in_flight() for connection in connections if connection.in_flight),
        abandoned=max(sum(connection.abandoned_in_flight for connection in connections), 0),
        waiting_for_lease=endpoint.dedicated.waiting,
    )


def _oldest_waiting(queue: LinkQueue, now: float) -> float:
    for _ in range(_MOST_ATTEMPTS):
        try:
            return queue.oldest(now)
        except RuntimeError:  # the loop's thread has changed it meanwhile
            continue
    return 0.0


def _oldest_written(connection: Connection | None) -> float:
    try:
        return math.inf if connection is None else connection.in_flight[0].written[0]
    except IndexError:  # nothing is in flight, any more perhaps
        return math.inf
