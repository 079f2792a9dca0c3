"""The asyncio protocol of one connection: bytes from the socket to the machine, and flow control.

Bytes are handed to the machine as they come. The tasks whose commands they answered go on at the loop's next
turn, never inside ``buffer_updated``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, cast

from aioredis_kit.transport.command import Command, Query, wake
from aioredis_kit.wire.machine import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.transport.timings import Timings
    from aioredis_kit.wire.machine import Machine


_BUFFER: Final = 64 * 1024
"""How much is read at once, in bytes. With four times as much, what is made of it no longer fits into the processor's
cache: messages cost a fifth more, and commands nothing less."""
_LARGE_BUFFER: Final = 256 * 1024
"""And while large strings come, of which nothing is made: 100 callers who read 64 KiB each take half the time."""


class ProtocolOwner(Protocol):
    """What the protocol tells its connection."""

    def hung_up(self, error: BaseException | None) -> None:
        """The connection has ended, or has to, because of an error or because the peer hung up."""

    def closed(self) -> None:
        """The socket is closed."""

    def broke(self) -> None:
        """What was read makes no sense: see the machine's ``failure``."""

    def answered(self) -> None:
        """Replies were read. Only told while ``tells_answers`` is set."""

    def woke_half(self) -> None:
        """Half of the many tasks that were answered have issued their next commands; now come the others."""

    def pushed(self) -> None:
        """Pushes were read: see the machine's ``pushes``."""

    def writable_changed(self, *, is_writable: bool) -> None:
        """The transport's buffer passed its high-water mark, or is low again."""


class ConnectionProtocol(asyncio.BufferedProtocol):
    """Feeds a machine.

    Buffered, because asyncio allocates 256 KiB for each read of a protocol that is not: with many small replies that
    is most of what a read costs.

    Attributes:
        last_read: When something was last read, on the client's clock.
        bytes_read: How much was read.
        tells_answers: Whether the owner wants to hear of each read that answered commands.
        is_waking: Whether several tasks are just being told of their answers, each of which may issue its next command.
    """

    def __init__(
        self, owner: ProtocolOwner, machine: Machine, clock: Callable[[], float], timings: Timings | None
    ) -> None:
        self._owner = owner
        self._machine = machine
        self._clock = clock
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        self._buffer = self._small_buffer = memoryview(bytearray(_BUFFER))
        self._large_buffer: memoryview | None = None  # made when it is first needed
        self.last_read = clock()
        self.bytes_read = 0
        self.tells_answers = False
        self.is_waking = False

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio gives none
        """Return where the next bytes are to be put."""
        if not self._machine.is_in_large:
            self._buffer = self._small_buffer
        else:
            self._buffer = self._large_buffer = self._large_buffer or memoryview(bytearray(_LARGE_BUFFER))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes; let the tasks go on that they answer."""
        self.last_read = self._clock()
        self.bytes_read += nbytes
        machine = self._machine
        try:
            answered = machine.receive_data(self._buffer[:nbytes])
        except BaseException as error:  # no memory, or an interrupt: nobody knows which reply was taken for whom
            self._owner.hung_up(error)
            raise
        if answered:
            if self._timings is not None:
                self._timings.note(answered, self.last_read)
            self._loop.call_soon(self._wake, cast("list[Command | Query]", answered))
        if machine.pushes:
            self._owner.pushed()
        if machine.state is State.BROKEN:
            self._owner.broke()
        elif self.tells_answers:
            self._owner.answered()

    def _wake(self, answered: list[Command | Query]) -> None:
        self.is_waking = len(answered) > 1
        try:
            wake(self._loop, answered, self._owner.woke_half)
        finally:
            self.is_waking = False

    def eof_received(self) -> None:
        """Pass on that the peer hung up; the transport closes itself."""
        self._owner.hung_up(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end on."""
        if exc is not None:
            # It may have been raised beneath a caller's own write. That it is the cause of what others are told later
            # must not keep that caller's frames alive, and all that is in them.
            exc.__traceback__ = None
        self._owner.hung_up(exc)
        self._owner.closed()

    def pause_writing(self) -> None:
        """Pass on that the transport's buffer is full."""
        self._owner.writable_changed(is_writable=False)

    def resume_writing(self) -> None:
        """Pass on that there is room again."""
        self._owner.writable_changed(is_writable=True)
