"""What waits in a queue beside single commands: pipelines, sent in one piece, and barriers, never sent.

A pipeline is one unit. Its last command is what its caller waits for; the others are parts, whose replies are kept in
them. As replies come in order, the last one's is the sign that all are there.
"""

from __future__ import annotations

import contextvars
import math
from typing import TYPE_CHECKING, Any

from aioredis_kit.transport.command import NOWHERE, Command, ignore
from aioredis_kit.wire.encoder import size_of
from aioredis_kit.wire.inflight import DONE, SILENT, UNWRITTEN, WITHDRAWN, Slot

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from aioredis_kit.options import CommandOptions
    from aioredis_kit.transport.command import Taker
    from aioredis_kit.wire.encoder import Argument, Payload


class Part(Slot):
    """A command of a pipeline that is not its last one.

    All of a unit is written with its first slot, so that the payload of the others is empty.
    """

    __slots__ = ()

    __init__ = object.__init__  # who makes one sets its fields: see ``Command``

    @property
    def is_answered(self) -> bool:
        """Whether its reply has come."""
        return hasattr(self, "reply")


class Unit(Command):
    """Commands that are written in one piece, and the last of them.

    Attributes:
        commands: What was asked for, each name and its arguments.
        parts: All slots but the last, which this is.
        previous: The unit of the same pipeline before this one, if that was too long for one.
        is_transaction: Whether it is a ``MULTI`` block.
        size: Its size, in bytes.
    """

    __slots__ = ("_answered", "commands", "is_transaction", "parts", "previous", "size")

    _answered: int
    commands: Sequence[tuple[Argument, ...]]
    parts: tuple[Part, ...]
    previous: Unit | None
    is_transaction: bool
    size: int

    def dispatch(self, lane: Taker) -> None:
        """See ``Command``."""
        self.lane = lane  # type: ignore[assignment]  # as there
        lane.take_large(self)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All its slots, in their order."""
        return (*self.parts, self)

    @property
    def all_commands(self) -> Sequence[tuple[Argument, ...]]:
        """What was asked for, and the end of a block."""
        return (*self.commands, ("EXEC",)) if self.is_transaction else self.commands

    @property
    def replies(self) -> list[Any]:
        """The replies to its parts that have come, in their order."""
        if self.state == DONE:
            return [part.reply for part in self.parts]
        return [part.reply for part in self.parts if part.is_answered]

    def renewed_due(self, last_read: float) -> float:
        """Return when its time is over, counted anew from its latest reply.

        Args:
            last_read: When something was last read on its connection, on the client's clock.
        """
        timeout = self.options.timeout
        if timeout is None:
            return math.inf
        if self.previous is not None:
            if self.previous.is_awaited:
                self.deadline = self.previous.renewed_due(last_read)
                return self.deadline
            self.previous = None
            self.deadline = last_read + timeout
        answered = self._answered
        while answered < len(self.parts) and self.parts[answered].is_answered:
            answered += 1
        if answered > self._answered:
            self._answered = answered
            self.deadline = last_read + timeout
        return self.due

    def rewind(self) -> None:
        """Forget the replies that have come, to be sent again."""
        self._answered = 0
        for part in self.parts:
            if part.is_answered:
                del part.reply

    def forget(self) -> None:
        """Let go of what it would have sent."""
        super().forget()
        self.commands, self.parts = (), ()


def new_unit(
    loop: asyncio.AbstractEventLoop,
    commands: Sequence[tuple[Argument, ...]],
    payload: Payload,
    decode: Sequence[bool],
    *,
    options: CommandOptions,
    is_transaction: bool = False,
    previous: Unit | None = None,
) -> Unit:
    """Return a unit that was not sent yet.

    Args:
        loop: The client's event loop.
        commands: What was asked for, each name and its arguments.
        payload: What is sent.
        decode: For each reply that will come, whether it is decoded.
        options: What the caller asked of all commands.
        is_transaction: Whether it is a ``MULTI`` block.
        previous: The unit before this one, of the same pipeline.
    """
    unit: Unit = Unit()
    unit._loop = loop  # noqa: SLF001  # what a constructor would do
    unit._wakeup, unit._context = ignore, NOWHERE  # noqa: SLF001  # until it is awaited
    unit.args = ("MULTI" if is_transaction else "PIPELINE",)
    unit.commands = commands
    unit.size = size_of(payload)
    parts = []
    for each in decode[:-1]:
        part: Part = Part()
        part.payload, payload = payload, b""
        part.decode = each
        part.state = SILENT
        parts.append(part)
    unit.parts = tuple(parts)
    unit.payload, unit.decode = payload, decode[-1]
    unit.options = options
    unit.deadline = 0.0
    unit.state = UNWRITTEN
    unit.previous = previous
    unit.is_transaction = is_transaction
    unit._answered = 0  # noqa: SLF001  # as above
    return unit


class Pair(Command):
    """A question about a read, written in one piece behind it, whose reply its caller waits for.

    It goes by the name of the read, and is not large. To its lane it is hardly more than one command, which a ``Unit``
    would be: one is made for every read that is not found in a cache.

    Attributes:
        read: The read. All is written with it.
        question: What is asked.
    """

    __slots__ = ("question", "read")

    read: Part
    question: tuple[Argument, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Both, in their order."""
        return (self.read, self)

    @property
    def size(self) -> int:
        """The size of both, in bytes."""
        return size_of(self.read.payload)

    def rewind(self) -> None:
        """Forget the reply that has come, to be sent again."""
        if self.read.is_answered:
            del self.read.reply

    def forget(self) -> None:
        """See ``Command``. The read is not to be sent by itself: with it goes all of the pair."""
        super().forget()
        self.read.payload, self.read.state = b"", WITHDRAWN

    def again(self, loop: asyncio.AbstractEventLoop) -> Pair:
        """See ``Command``."""
        pair = new_pair(loop, self.args, self.question, self.read.payload, self.decode, self.options)
        pair.deadline = 0.0 if self.due == math.inf else self.due
        return pair


def new_pair(  # gathering them in an object costs
    loop: asyncio.AbstractEventLoop,
    args: tuple[Argument, ...],
    question: tuple[Argument, ...],
    payload: Payload,
    decode: bool,  # noqa: FBT001  # a keyword costs
    options: CommandOptions,
) -> Pair:
    """Return a read and a question about it that were not sent yet.

    Args:
        loop: The client's event loop.
        args: The read.
        question: The question.
        payload: What is sent.
        decode: Whether the replies are decoded.
        options: What the caller asked of all commands.
    """
    read: Part = Part()
    read.payload, read.decode, read.state = payload, decode, SILENT
    pair: Pair = Pair()
    pair._loop = loop  # noqa: SLF001  # what a constructor would do
    pair.args = args
    pair.payload = b""
    pair.decode = decode
    pair.options = options
    pair.deadline = 0.0
    pair.state = UNWRITTEN
    pair.read = read
    pair.question = question
    return pair


class Barrier(Command):
    """Holds all commands behind it back, until it is released. Never sent.

    Attributes:
        reached: Done when all commands before it have ended; failed if the queue gave up before.
    """

    __slots__ = ("reached",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.Context()
        self._wakeup = self._failed
        self.args = ()
        self.payload = b""
        self.decode = False
        self.deadline = math.inf
        self.state = UNWRITTEN
        self.reached: asyncio.Future[None] = loop.create_future()

    def reach(self) -> None:
        """Note that all commands before it have ended."""
        if not self.reached.done():
            self.reached.set_result(None)

    def _failed(self, _: Any) -> None:
        if not self.reached.done():
            self.reached.set_exception(self.reply)
            self.reached.exception()  # whoever waits for it is told; nobody has to wait
