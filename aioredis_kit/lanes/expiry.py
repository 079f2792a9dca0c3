"""What happens to the commands of one link whose deadlines have passed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from aioredis_kit.exceptions import TimeoutDiagnosis
from aioredis_kit.policy.deadlines import timeout_error
from aioredis_kit.transport.command import Command
from aioredis_kit.wire.encoder import size_of
from aioredis_kit.wire.inflight import ABANDONED, IN_FLIGHT, UNWRITTEN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioredis_kit.transport.connection import Connection

_HAS_DEADLINE: Final = frozenset({UNWRITTEN, IN_FLIGHT, ABANDONED})
"""An abandoned command has nobody to tell, but that it gets no reply in time raises a doubt all the same."""


class Expired(NamedTuple):
    """What a look at the deadlines has found.

    Attributes:
        earliest: The earliest deadline left, on the client's clock; infinity if there is none.
        is_stalled: Whether a deadline has passed of a command since whose write nothing was read.
    """

    earliest: float
    is_stalled: bool


def expire(waiting: Iterable[Command], connection: Connection | None, now: float, lag: float, *, state: str) -> Expired:
    """End the commands whose deadlines have passed.

    Args:
        waiting: What waits for the link, in its order.
        connection: Its connection, while there is one.
        now: The time, on the client's clock.
        lag: How late the event loop is, in seconds.
        state: What the link is doing, in words.
    """
    earliest = math.inf
    is_stalled = False
    ahead = ahead_bytes = 0
    for queue in (() if connection is None else connection.in_flight, waiting):
        for command in queue:
            if isinstance(command, Command) and command.state in _HAS_DEADLINE:
                due = command.due
                if due <= now and connection is not None:
                    due = command.renewed_due(connection.last_read)
                if due > now:
                    earliest = min(earliest, due)
                else:
                    is_stalled |= _is_unread_since(command, connection)
                    if command.is_awaited:
                        _time_out(command, connection, now, lag, (ahead, ahead_bytes), state)
            ahead += 1
            ahead_bytes += size_of(command.payload)
    return Expired(earliest, is_stalled)


def _is_unread_since(command: Command, connection: Connection | None) -> bool:
    """Whether a command is in flight, and nothing was read since it was written."""
    return (
        connection is not None
        and command.state in (IN_FLIGHT, ABANDONED)
        and connection.bytes_read == command.written[1]
    )


def _time_out(
    command: Command, connection: Connection | None, now: float, lag: float, ahead: tuple[int, int], state: str
) -> None:
    """End a command whose caller still waits.

    Args:
        command: The command.
        connection: Its connection, while there is one.
        now: The time.
        lag: How late the event loop is.
        ahead: How many commands are ahead of it, and their bytes.
        state: What the link is doing.
    """
    timeout = command.options.timeout or 0.0
    is_in_flight = command.state == IN_FLIGHT
    written_at, read_before = command.written if is_in_flight else (now, 0)
    bytes_read = connection.bytes_read - read_before if is_in_flight and connection is not None else 0
    diagnosis = TimeoutDiagnosis(
        timeout=timeout,
        queued=written_at - (command.due - timeout),
        in_flight=now - written_at,
        commands_ahead=ahead[0],
        bytes_ahead=ahead[1],
        bytes_read=bytes_read,
        state=state,
        lag=lag,
    )
    command.fail(timeout_error(str(command.args[0]), diagnosis, was_sent=command.was_sent))
