"""The queue of commands that were sent and not yet answered.

Redis answers in the order in which it was asked, so the whole of multiplexing is one queue: sending
appends, a reply pops.

Rules of this file:

1. A slot leaves the queue only when its reply arrives or the connection ends. An abandoned slot, whose
   caller has gone, still waits for its reply: dropping it early would shift every later answer by one.
2. Nothing here knows about bytes, time or tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aioredis_kit.wire.encoder import Payload

UNWRITTEN: Final = 0
"""Not handed to the transport."""
IN_FLIGHT: Final = 1
"""Handed to the transport, its reply not yet read."""
WITHDRAWN: Final = 2
"""Its caller has gone before it was handed to the transport: it is never sent."""
ABANDONED: Final = 3
"""Its caller has gone after that: its reply is read and dropped."""
DONE: Final = 4
"""Answered or failed."""
SILENT: Final = 5
"""A part of a pipeline, from the start: its reply is kept in it, and nobody is told. The last slot speaks for all."""


PUSHED: Final = 6
"""A SUBSCRIBE or the like, from the start: its answers are pushes, and only a refusal is a reply, kept in it."""


class Slot:
    """One command on its way: what is sent, and the place for what comes back.

    Attributes:
        payload: The encoded command.
        decode: Whether strings in the reply become ``str``.
        state: One of the states above. Plain ints in their order, as they are compared for every command:
            past ``IN_FLIGHT`` nobody waits any more.
        written: The moment at which it was handed to the transport: the time, and how many bytes had been
            read and how many slots answered on its connection by then. Set by the machine.
        reply: The reply, or the exception instance that takes its place; set once it is done.
    """

    __slots__ = ("decode", "payload", "reply", "state", "written")

    payload: Payload
    reply: Any
    written: tuple[float, int, int]

    def __init__(self, payload: Payload, *, decode: bool) -> None:
        self.payload = payload
        self.decode = decode
        self.state = UNWRITTEN

    @property
    def is_awaited(self) -> bool:
        """Whether somebody still waits for the reply."""
        return self.state <= IN_FLIGHT

    @property
    def was_sent(self) -> bool:
        """Whether it was ever handed to a transport; also if it waits to be sent again."""
        return getattr(self, "written", None) is not None

    def abandon(self) -> None:
        """Note that nobody waits any more. Does nothing to a slot that has ended."""
        if self.state == UNWRITTEN:
            self.state = WITHDRAWN
        elif self.state == IN_FLIGHT:
            self.state = ABANDONED


class PushedSlot(Slot):
    """A SUBSCRIBE or the like.

    Attributes:
        word: What its confirmations begin with.
        missing: How many of them have not come yet.
    """

    __slots__ = ("missing", "word")

    def __init__(self, payload: Payload, *, word: bytes, missing: int) -> None:
        super().__init__(payload, decode=False)
        self.state = PUSHED
        self.word = word
        self.missing = missing

    @property
    def refusal(self) -> Exception | None:
        """The error reply that came instead of confirmations."""
        return getattr(self, "reply", None)
