"""The queue in front of one link: commands go over it in the order in which they were issued.

A command is written at once when nothing is in flight; otherwise everything issued in one turn of the loop leaves
in one write. What can't be written waits: for the connection, for the transport's buffer, for the limits, for a fence.

Rules of this file:

1. Nothing here awaits between looking at the queue and changing it. While it is looked at, ``take`` isn't its
   ``append``: that one refuses nobody, so a command of another thread's may come in at any moment.
2. A command that was not handed to the transport may wait for the next connection, whatever it is. One that was,
   and got no reply, is sent again only if ``may_repeat`` says so. So nothing is handed over before the system was
   asked whether the peer has hung up: the event loop may tell that a turn later.
3. Every command that comes in goes out once: written and answered, failed, or withdrawn by its caller.
"""

from __future__ import annotations

import math
from asyncio import get_running_loop
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.exceptions import (
    ConnectionLostError,
    KitError,
    NotConnectedError,
    QueueFullError,
    one_for_each,
)
from aioredis_kit.lanes.expiry import Scene, expire
from aioredis_kit.lanes.sweep import Sweep
from aioredis_kit.transport.command import Command, Query
from aioredis_kit.transport.units import Barrier, Pair, Unit
from aioredis_kit.wire.encoder import LARGE, is_large
from aioredis_kit.wire.inflight import IN_FLIGHT, UNWRITTEN, WITHDRAWN, Slot

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from aioredis_kit.events import Event
    from aioredis_kit.exceptions import ConnectError
    from aioredis_kit.lanes.instruments import Instruments
    from aioredis_kit.lanes.limits import Limits
    from aioredis_kit.lanes.link import Link
    from aioredis_kit.lanes.owners import QueueOwner
    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.wire.encoder import Payload

_BATCH: Final = 64 * 1024
"""How much is joined into one write, in bytes: the transport's high-water mark."""
_FEW: Final = 1024
"""So many commands, none of them large, are written without a look at their sizes. Nearly always there are fewer."""
_MANY_WITHDRAWN: Final = 1024
_FRESH: Final = 0.001
"""A peer that was heard so short a time ago, in seconds, has not hung up. To ask would cost a lone caller, who issues a
command after each reply, a twentieth of his speed."""


class LinkQueue:
    """The queue in front of one link.

    Args:
        owner: The lane.
        limits: What it may hold.
        may_repeat: Whether a command may be sent again whose reply was lost; ``None``: the queue ends with its
            connection, as that of a session does.
        loop: The client's event loop.
        instruments: What all lanes have. The event loop is watched while commands have deadlines.

    Attributes:
        tally: Counts what becomes of commands.
        loop: The client's event loop.
        link: The link; set once, by the lane, before the first command.
        connection: The connection, while there is one.
        take: See ``transport.command.Lane``. When a write at the end of this turn of the loop is due, all that a
            command costs is being appended to what waits for it.
        has_written: Whether the server has ever obeyed a write.
        shortest_timeout: No command has a shorter one, in seconds.
        refusal: Why no command is taken any more.
        holds: How many times it was held. A command that was issued before may not be sent anew after that.
    """

    link: Link

    def __init__(
        self,
        owner: QueueOwner,
        limits: Limits,
        *,
        may_repeat: Callable[[Command], bool] | None,
        loop: asyncio.AbstractEventLoop,
        instruments: Instruments,
    ) -> None:
        self.loop = loop
        self.tally = instruments.tally
        self.take: Callable[[Command], object] = self._take_first
        self.has_written = False
        self.shortest_timeout = math.inf
        self.holds = 0
        self._barriers: set[Barrier] = set()  # not released yet
        self._owner = owner
        self._may_repeat = may_repeat
        self._clock = clock = instruments.clock
        self._watch = instruments.watch
        self._limits = limits
        self._max_commands = limits.commands
        self._max_bytes = limits.size
        self._raises_when_full = limits.raises_when_full
        self._holds_offline = limits.holds_offline
        self._sweep = Sweep(loop, clock, self._expire)
        self._earliest = math.inf  # no deadline is earlier than this
        self._waiting: deque[Command] = deque()
        self._waiting_bytes = self._waiting_slots = 0  # counted only where a full queue raises
        self._withdrawn = 0  # commands in `_waiting` whose callers have gone
        self._backlog_since = 0.0  # since when it has not been empty, on the client's clock
        self.connection: Connection | None = None
        self._line: Connection | None = None  # the connection, while new commands may be written to it
        self._is_paused = False  # the transport's buffer is full
        self._is_full = False  # the limits are reached
        self._needs_care = False  # some command in `_waiting` is large, a unit or a barrier
        self._has_pairs = False  # some command in `_waiting` may be one
        self._is_flush_due = False
        self._replaced_for: str | None = None  # why nothing more is written on this connection
        self.refusal: KitError | None = None  # why no command is taken any more
        self._drained: asyncio.Future[None] | None = None
        self._asked: set[asyncio.Future[Any]] = set()  # the answers that `ask` has promised

    @property
    def is_ready(self) -> bool:
        """Whether a command issued now is written now, or at the end of this turn of the loop."""
        return self._line is not None

    @property
    def waiting(self) -> int:
        """How many commands wait to be sent; a pipeline counts once."""
        return len(self._waiting) - self._withdrawn - len(self._barriers)

    def oldest(self, now: float) -> float:
        """Return for how long the oldest of them has waited, or at most has, in seconds."""
        for command in self._waiting:
            if command.state == UNWRITTEN and not isinstance(command, Barrier):
                if command.due < math.inf:
                    return max(now - command.due + (command.options.timeout or 0.0), 0.0)
                return now - self._backlog_since if command.deadline else 0.0
        return 0.0

    @property
    def is_held(self) -> bool:
        """See ``transport.command.Lane``."""
        return bool(self._barriers)

    def take_large(self, command: Command) -> None:
        """See ``transport.command.Lane``."""
        if type(command) is Pair:
            self._has_pairs = True
            self.take(command)
        else:
            self._take_first(command)
            self._needs_care |= command.state == UNWRITTEN

    def hold(self) -> Barrier:
        """Stop before the commands that are issued from now on, until ``release``.

        Returns:
            What is done when all commands issued before have ended.
        """
        barrier = Barrier(self.loop)
        barrier.lane = self
        self.holds += 1
        self._barriers.add(barrier)
        self.take = self._take_first
        self._needs_care = True
        self._waiting.append(barrier)
        self._look_at_answers()
        return barrier

    def release(self, barrier: Barrier) -> None:
        """Go on behind a barrier."""
        self._barriers.discard(barrier)
        if barrier.state == UNWRITTEN:
            barrier.state = WITHDRAWN
            self._withdrawn += 1
            if self.connection is not None:
                self._write_waiting()
            else:  # the next barrier may be the first now
                self._look_at_answers()

    def ask(self, payload: Payload) -> asyncio.Future[Any] | None:
        """Send a command of the client's own, ahead of all that waits and whatever the limits are.

        Returns:
            Its reply, an exception that takes its place among the results; a ``KitError`` if the connection is lost.
            ``None`` if there is no connection.
        """
        if self.connection is None or not self.connection.is_ready:
            return None
        answer: asyncio.Future[Any] = self.loop.create_future()
        self._asked.add(answer)

        def answered(query: Query) -> None:
            if answer in self._asked:
                self._asked.remove(answer)
                answer.set_result(query.reply)

        return answer if self.connection.ask((Query(payload, answered),), self._clock()) else None

    def _take_first(self, command: Command) -> None:
        """Take a command that is not simply one more of this turn of the loop. See ``Command.dispatch``."""
        if get_running_loop() is not self.loop:
            raise RuntimeError("a command was issued on another event loop than its client's")
        if self._raises_when_full:
            self._check_room(command)
        now = self._clock()
        connection = self._line
        if (
            connection is not None
            and not self._waiting
            and connection.is_idle
            and (now - connection.last_read < _FRESH or not connection.has_hung_up())
        ):
            if connection.send((command,) if type(command) is Command else command.slots, now):
                self._expect(now + self.shortest_timeout)
                return
            connection = self._line
        if connection is None:
            self._check_offline()
            if not self._waiting:
                self._backlog_since = now
            self._hold(command, now)
        elif not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush)
            if not self._raises_when_full:
                self.take = self._waiting.append
        self._waiting.append(command)
        if self._raises_when_full:
            self._waiting_bytes += command.size
            self._waiting_slots += len(command.slots)

    def _hold(self, command: Command, now: float) -> None:
        """Let the time of a command run that isn't written in the turn of the loop in which it was issued."""
        if not command.deadline:
            timeout = command.options.timeout
            command.deadline = math.inf if timeout is None else now + timeout
            self._expect(command.deadline)

    def _expect(self, deadline: float) -> None:
        if deadline < self._earliest:
            self._earliest = self._sweep.expect(deadline)
            self._watch.keep(deadline)

    def withdrawn(self, command: Command) -> None:
        """See ``transport.command.Lane``. The command is left in the queue until it would be sent."""
        self._withdrawn += 1
        if self._raises_when_full:
            self._waiting_bytes -= command.size
            self._waiting_slots -= len(command.slots)
        command.forget()
        if self._withdrawn > max(_MANY_WITHDRAWN, len(self._waiting) // 2):
            # A new queue: somebody may be going through the old one.
            self._waiting = deque(c for c in self._waiting if c.state == UNWRITTEN)
            self._withdrawn = 0
            self.take = self._take_first
        self.tally.maybe_executed += command.was_sent
        self._look_later()

    def abandoned(self) -> None:
        """See ``transport.command.Lane``. Somebody may be going through what is in flight."""
        self.tally.maybe_executed += 1
        if self.connection is not None:
            self.connection.abandoned += 1
        self._look_later()

    def _look_later(self) -> None:
        if self._drained is not None and not self._drained.done() and not self.loop.is_closed():
            self.loop.call_soon(self._look_at_answers)

    def write_now(self) -> None:
        """Write what was issued in this turn of the loop, and not only at its end."""
        if self._is_flush_due and self.connection is not None:
            self.take = self._take_first
            self._write_waiting()
            if self._line is not None and not self._raises_when_full:
                self.take = self._waiting.append

    def configure(self, command: Command) -> None:
        """See ``transport.command.Lane``."""
        self._owner.configure(self, command)

    def drop(self, error: KitError) -> None:
        """See ``transport.command.Lane``."""
        self.link.drop(error)

    def replace_connection(self, reason: str) -> None:
        """Go on on a new connection; what is in flight on the present one gets its replies first."""
        if self.connection is not None and self.refusal is None and self._replaced_for is None:
            self._set_line(None)
            self._replaced_for = reason
            self._look_at_answers()

    def close(self, refusal: KitError) -> asyncio.Future[None]:
        """Take no command any more; return what is done when all others have ended.

        Without a connection the commands that wait end at once.
        """
        self.refusal = refusal
        self._set_line(None)
        self.link.close()
        self._drained = self.loop.create_future()
        if self.connection is None:
            self.fail_waiting(refusal)
        self._look_at_answers()
        return self._drained

    def destroy(self, refusal: KitError) -> None:
        """End everything now."""
        self.refusal = refusal
        self._set_line(None)
        self._sweep.stop()
        self._earliest = math.inf
        self.link.close()
        self.link.drop(refusal)
        self.fail_waiting(refusal)
        self._look_at_answers()

    # What the link tells.

    def ready(self, connection: Connection) -> None:
        """See ``LinkOwner``."""
        self._expire(self._clock(), 0.0)
        self.connection = self._line = connection
        self._write_waiting()

    def lost(self, error: KitError, unanswered: list[Slot]) -> None:
        """See ``LinkOwner``."""
        last_read = 0.0 if self.connection is None else self.connection.last_read
        self.connection = self._replaced_for = None
        while self._asked:
            self._asked.pop().set_result(error)
        self._set_line(None)
        self._is_paused = False
        if self._may_repeat is None and self.refusal is None:
            self.refusal = error
        self._owner.disconnected(self)
        again: list[Command] = []
        for command in unanswered:
            if not isinstance(command, Command):
                continue
            if (
                self.refusal is None
                and self._holds_offline
                and self._may_repeat is not None
                and self._may_repeat(command)
            ):
                command.deadline = command.renewed_due(last_read)  # replies that have come count
                command.state = UNWRITTEN
                command.rewind()
                again.append(command)
                self.tally.retried += 1
                self._needs_care |= _is_out_of_the_ordinary(command)
                self._has_pairs |= type(command) is Pair
            else:
                self.tally.lost += 1
                command.fail(_unknown_outcome(error))
        if not self._waiting:
            self._backlog_since = self._clock()
        self._waiting.extendleft(reversed(again))
        if self._raises_when_full:
            self._waiting_bytes += sum(command.size for command in again)
            self._waiting_slots += sum(len(command.slots) for command in again)
        if self.refusal is not None:
            self.fail_waiting(self.refusal)
            self._sweep.stop()
            self._earliest = math.inf
        elif not self._holds_offline:
            self.fail_waiting(NotConnectedError(f"{error}; disable_offline_queue is set"))
        self._look_at_answers()

    def given_up(self, error: ConnectError) -> None:
        """See ``LinkOwner``."""
        self.refusal = error
        self.fail_waiting(error)
        self._owner.given_up(self, error)

    def answered(self) -> None:
        """See ``LinkOwner``. Told only while commands wait for room, or the lane for its last replies."""
        if self._waiting:
            self._write_waiting()
        self._look_at_answers()

    def woke_half(self) -> None:
        """See ``LinkOwner``. Write what they issued: the server works on it while the others issue theirs."""
        self.write_now()

    def writable_changed(self, *, is_writable: bool) -> None:
        """See ``LinkOwner``."""
        self._is_paused = not is_writable
        if self.refusal is None and self._replaced_for is None:
            self._set_line(self.connection if is_writable else None)
        if is_writable:
            self._write_waiting()

    def outdated(self, reason: str) -> None:
        """See ``LinkOwner``."""
        self.replace_connection(reason)

    def happened(self, event: Event) -> None:
        """See ``LinkOwner``."""
        self._owner.happened(self, event)

    def pushed(self, pushes: list[Any]) -> None:
        """See ``LinkOwner``."""
        self._owner.pushed(self, pushes)

    # Writing.

    def _set_line(self, connection: Connection | None) -> None:
        self._line = connection
        self.take = self._take_first

    def _flush(self) -> None:
        """Write what was issued in a turn of the loop."""
        self._is_flush_due = False
        self.take = self._take_first
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write what waits, as far as the connection and the limits allow."""
        now = self._clock()
        if self._earliest <= now:  # what is late is not sent any more, though the sweep has not come by yet
            scene = Scene(self.connection, now, now - self._earliest, self.link.state.value, self._watch)
            expire(self._waiting, scene, spares_in_flight=True)
        connection, waiting = self.connection, self._waiting
        if connection is None or self._is_paused or self._replaced_for is not None or connection.has_hung_up():
            pass
        elif (slots := self._all_waiting(connection)) is not None:
            if connection.send(slots, now):
                waiting.clear()
                self._has_pairs = False
                self._waiting_bytes = self._waiting_slots = self._withdrawn = 0
                self._expect(now + self.shortest_timeout)
        else:
            self._write_in_parts(connection, now)
        if self._waiting and not self._waiting[0].deadline:
            self._backlog_since = now
        for command in self._waiting:
            self._hold(command, now)

    def _all_waiting(self, connection: Connection) -> Sequence[Slot] | None:
        """Return what waits, if all of it can be written without a look at its sizes."""
        if self._needs_care or len(self._waiting) > _FEW:
            return None
        # A copy: somebody on another thread, who is to be refused, must not disturb this.
        waiting = list(self._waiting)
        slots = [slot for command in waiting for slot in command.slots] if self._has_pairs else waiting
        count, size = len(slots) + len(connection.in_flight), connection.bytes_in_flight + _FEW * LARGE
        return slots if len(slots) <= _FEW and count <= self._max_commands and size <= self._max_bytes else None

    def _write_in_parts(self, connection: Connection, now: float) -> None:
        is_full = False
        while self._waiting and not is_full and not self._is_paused:
            if not connection.send((), now):  # it has ended, and what waits still waits
                return
            batch, is_full = self._next_batch(connection)
            connection.send(batch, now)
        self._expect(now + self.shortest_timeout)
        self._needs_care = any(_is_out_of_the_ordinary(command) for command in self._waiting)
        self._is_full = is_full
        self._look_at_answers()

    def _next_batch(self, connection: Connection) -> tuple[list[Slot], bool]:
        """Take what fits into one write and the limits; tell whether the limits ended it."""
        waiting = self._waiting
        batch: list[Slot] = []
        size = 0
        room = self._max_commands - len(connection.in_flight)
        room_bytes = self._max_bytes - connection.bytes_in_flight
        is_full = False
        while waiting and size < _BATCH:
            command = waiting[0]
            if command.state == UNWRITTEN:
                if isinstance(command, Barrier):
                    is_full = True  # until what is in flight was answered, and the barrier is released
                    break
                command_size = command.size
                exceeds = len(batch) + len(command.slots) > room or size + command_size > room_bytes
                # One command that alone exceeds the limits is let through when nothing else is there.
                if exceeds and (batch or connection.in_flight):
                    is_full = True
                    break
                batch.extend(command.slots)
                size += command_size
            else:
                self._withdrawn -= 1
            del waiting[0]
        if self._raises_when_full:
            self._waiting_bytes -= size
            self._waiting_slots -= len(batch)
        return batch, is_full

    # Refusing and ending.

    def _check_room(self, command: Command) -> None:
        if isinstance(command, Unit) and command.previous is not None:
            return  # the rest of what was let in
        commands, size = self._waiting_slots, self._waiting_bytes
        if self.connection is not None:
            commands += len(self.connection.in_flight)
            size += self.connection.bytes_in_flight
        try:
            self._limits.check_room(commands, size, len(command.slots), command.size)
        except QueueFullError:
            self.tally.unsent += 1
            raise

    def _check_offline(self) -> None:
        if self.refusal is not None:
            self.tally.unsent += 1
            raise one_for_each(self.refusal)
        if not self._holds_offline and self.connection is None:
            self.tally.unsent += 1
            raise NotConnectedError(
                f"{self.link.address} is not connected ({self.link.state.value}) and disable_offline_queue is set"
            )

    def fail_waiting(self, error: KitError) -> None:
        """End all that was not handed to the transport."""
        waiting, self._waiting = self._waiting, deque()
        self.take = self._take_first
        for command in waiting:
            if command.state == UNWRITTEN:
                if not isinstance(command, Barrier):
                    self.tally.lost += command.was_sent
                    self.tally.unsent += not command.was_sent
                command.fail(_unknown_outcome(error) if command.was_sent else one_for_each(error))
        self._waiting_bytes = self._waiting_slots = self._withdrawn = 0

    def _look_at_answers(self) -> None:
        """See whether the last reply has come that something waits for, and ask to be told of the next."""
        connection = self.connection
        if self._replaced_for is not None and connection is not None and not connection.in_flight:
            self.link.drop(ConnectionLostError(f"{self.link.address}: {self._replaced_for}", address=self.link.address))
        if self._drained is not None and not self._drained.done() and not self._has_pending():
            self._drained.set_result(None)
        barrier = self._first_barrier()
        if connection is not None:
            waits = self._is_full or self._replaced_for is not None or self._drained is not None or barrier is not None
            connection.tell_answers(wanted=waits)
        if barrier is not None and (connection is None or not _commands_in(connection.in_flight)):
            barrier.reach()

    def _first_barrier(self) -> Barrier | None:
        """Return the barrier that nothing waits before, if there is one."""
        if self._needs_care:
            while self._waiting and self._waiting[0].state != UNWRITTEN:
                self._waiting.popleft()
                self._withdrawn -= 1
            if self._waiting and isinstance(self._waiting[0], Barrier):
                return self._waiting[0]
        return None

    def _has_pending(self) -> bool:
        if len(self._waiting) > self._withdrawn:
            return True
        return self.connection is not None and any(
            slot.state == IN_FLIGHT for slot in _commands_in(self.connection.in_flight)
        )

    # Deadlines.

    def _expire(self, now: float, lag: float) -> float:
        """See ``Sweep``."""
        is_being_handed_over = self.connection is None and self.link.connection is not None
        state = "connecting" if is_being_handed_over else self.link.state.value
        expired = expire(self._waiting, Scene(self.connection, now, lag, state, self._watch))
        if expired.is_stalled:
            self.link.probe()
        self._earliest = expired.earliest
        self._watch.keep(expired.earliest)
        return expired.earliest


def _is_out_of_the_ordinary(command: Command) -> bool:
    return isinstance(command, Unit | Barrier) or is_large(command.payload)


def _commands_in(slots: Iterable[Slot]) -> list[Command]:
    return [slot for slot in slots if isinstance(slot, Command)]


def _unknown_outcome(error: KitError) -> KitError:
    own = one_for_each(error)
    own.maybe_executed = True
    return own
