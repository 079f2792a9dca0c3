"""What happens to the commands of one link whose deadlines have passed."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from aioredis_kit.exceptions import TimeoutDiagnosis
from aioredis_kit.policy.deadlines import timeout_error
from aioredis_kit.transport.command import Command
from aioredis_kit.wire.encoder import size_of
from aioredis_kit.wire.inflight import ABANDONED, IN_FLIGHT, SILENT, UNWRITTEN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.wire.inflight import Slot

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


def expire(
    waiting: Iterable[Command],
    connection: Connection | None,
    now: float,
    lag: float,
    *,
    state: str,
    spares_in_flight: bool = False,
) -> Expired:
    """End the commands whose deadlines have passed.

    Args:
        waiting: What waits for the link, in its order.
        connection: Its connection, while there is one.
        now: The time, on the client's clock.
        lag: How late the event loop is, in seconds.
        state: What the link is doing, in words.
        spares_in_flight: Whether what is in flight is left alone: its reply may have come, and not been read yet.
    """
    earliest = math.inf
    is_stalled = False
    ahead = ahead_bytes = own = own_bytes = 0
    slots: Iterable[Slot] = () if connection is None else connection.in_flight
    for slot in itertools.chain(slots, (slot for command in waiting for slot in command.slots)):
        own += 1
        own_bytes += size_of(slot.payload)
        if slot.state == SILENT:  # a part, which is not ahead of its own pipeline
            continue
        before, before_bytes = ahead, ahead_bytes
        ahead, ahead_bytes = ahead + own, ahead_bytes + own_bytes
        own = own_bytes = 0
        if not isinstance(slot, Command) or slot.state not in _HAS_DEADLINE:
            continue
        if spares_in_flight and slot.state != UNWRITTEN:
            continue
        due = slot.due
        if due <= now and connection is not None:
            due = slot.renewed_due(connection.last_read)
        if due > now:
            earliest = min(earliest, due)
        else:
            is_stalled |= _is_unread_since(slot, connection)
            if slot.is_awaited:
                _time_out(slot, connection, now, lag, (before, before_bytes), state)
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
        queued=max(written_at - (command.due - timeout), 0.0),  # a pipeline's time began anew with its last reply
        in_flight=now - written_at,
        commands_ahead=ahead[0],
        bytes_ahead=ahead[1],
        bytes_read=bytes_read,
        state=state,
        lag=lag,
    )
    command.fail(timeout_error(str(command.args[0]), diagnosis, was_sent=command.was_sent))
