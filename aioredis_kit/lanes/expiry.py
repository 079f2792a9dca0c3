"""What happens to the commands of one link whose deadlines have passed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from aioredis_kit.exceptions import TimeoutDiagnosis
from aioredis_kit.policy.deadlines import timeout_error
from aioredis_kit.transport.command import Command
from aioredis_kit.wire.encoder import size_of
from aioredis_kit.wire.inflight import ABANDONED, DONE, IN_FLIGHT, SILENT, UNWRITTEN, WITHDRAWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aioredis_kit.lanes.watch import LoopWatch
    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.wire.inflight import Slot

_HAS_DEADLINE: Final = frozenset({UNWRITTEN, IN_FLIGHT, ABANDONED})
"""An abandoned command has nobody to tell, but that it gets no reply in time raises a doubt all the same."""

_IS_OVER: Final = frozenset({WITHDRAWN, DONE})
"""It waits for nothing but its turn to be passed over."""


class Expired(NamedTuple):
    """What a look at the deadlines has found.

    Attributes:
        earliest: The earliest deadline left, on the client's clock; infinity if there is none.
        is_stalled: Whether a deadline has passed of a command since whose write nothing was read.
    """

    earliest: float
    is_stalled: bool


@dataclass(slots=True)
class Scene:
    """What is the same for all commands that are looked at in one moment.

    Attributes:
        connection: The link's connection, while there is one.
        now: The time, on the client's clock.
        lag: How late the event loop is, in seconds.
        state: What the link is doing, in words.
        watch: Has watched the event loop.
    """

    connection: Connection | None
    now: float
    lag: float
    state: str
    watch: LoopWatch
    _unacknowledged_for: float | None = -1.0  # not asked yet

    @property
    def silent_for(self) -> float:
        """For how long the connection has owed a reply and nothing was read, in seconds."""
        connection = self.connection
        if connection is None or not connection.in_flight:
            return 0.0
        return max(self.now - max(connection.last_read, connection.in_flight[0].written[0]), 0.0)

    @property
    def unacknowledged_for(self) -> float | None:
        """See ``Connection.unacknowledged_for``. The system is asked once, however many commands are looked at."""
        if self._unacknowledged_for == -1.0:
            self._unacknowledged_for = None if self.connection is None else self.connection.unacknowledged_for()
        return self._unacknowledged_for


def expire(waiting: Iterable[Command], scene: Scene, *, spares_in_flight: bool = False) -> Expired:
    """End the commands whose deadlines have passed.

    Args:
        waiting: What waits for the link, in its order.
        scene: What is the same for all of them.
        spares_in_flight: Whether what is in flight is left alone: its reply may have come, and not been read yet.
    """
    connection, now = scene.connection, scene.now
    earliest = math.inf
    is_stalled = False
    ahead = ahead_bytes = own = own_bytes = 0
    slots: Iterable[Slot] = () if connection is None else connection.in_flight
    for slot in itertools.chain(slots, (slot for command in waiting for slot in command.slots)):
        if slot.state in _IS_OVER:  # it is ahead of nobody any more
            own = own_bytes = 0
            continue
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
                _time_out(slot, scene, (before, before_bytes))
    return Expired(earliest, is_stalled)


def _is_unread_since(command: Command, connection: Connection | None) -> bool:
    """Whether a command is in flight, and nothing was read since it was written."""
    return (
        connection is not None
        and command.state in (IN_FLIGHT, ABANDONED)
        and connection.bytes_read == command.written[1]
    )


def _time_out(command: Command, scene: Scene, ahead: tuple[int, int]) -> None:
    """End a command whose caller still waits.

    Args:
        command: The command.
        scene: When and where.
        ahead: How many commands are ahead of it, and their bytes.
    """
    now, connection = scene.now, scene.connection
    timeout = command.options.timeout or 0.0
    is_in_flight = command.state == IN_FLIGHT
    written_at, read_before, answered_before = command.written if is_in_flight else (now, 0, 0)
    issued_at = command.due - timeout  # a pipeline's time began anew with its last reply
    bytes_read = replies_read = 0
    if is_in_flight and connection is not None:
        bytes_read = connection.bytes_read - read_before
        replies_read = connection.replies_read - answered_before
    diagnosis = TimeoutDiagnosis(
        timeout=timeout,
        queued=max(written_at - issued_at, 0.0),
        in_flight=now - written_at,
        commands_ahead=ahead[0],
        bytes_ahead=ahead[1],
        bytes_read=bytes_read,
        replies_read=replies_read,
        silent_for=scene.silent_for,
        unacknowledged_for=scene.unacknowledged_for,
        delayed=scene.watch.delayed(min(issued_at, written_at), now),
        state=scene.state,
        lag=scene.lag,
    )
    command.lane.tally.timed_out += 1
    command.fail(timeout_error(str(command.args[0]), diagnosis, was_sent=command.was_sent))
