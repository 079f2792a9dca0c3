"""One direction of a proxied connection, with the faults that apply to it.

Rules of this file:

1. Bytes leave in the order in which they came; none is lost, doubled or changed unless a fault
   says so. The end of the source (FIN or an error) travels behind its last byte.
2. What waits here is bounded: above `BUFFER_LIMIT` the source is no longer read.
3. No task: data, a timer, a drained sink or a changed fault makes `Flow.pump` run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.testing.sockets import SocketEnd

BUFFER_LIMIT = 256 * 1024
"""Bytes that one direction holds back, plus one read, before it stops reading."""


@dataclass(slots=True)
class Corruption:
    """The byte to damage: *skip* bytes from now, XORed with *mask*."""

    skip: int
    mask: int


@dataclass(slots=True)
class Cut:
    """The byte count after which the connection is cut, and whether by RST."""

    after: int
    reset: bool


@dataclass(slots=True)
class Faults:
    """What is wrong with one direction: of one connection, or of all future ones."""

    is_stalled: bool = False
    delay: float = 0.0
    is_split: bool = False
    corruption: Corruption | None = None
    cut: Cut | None = None

    def heal(self) -> None:
        """End them all."""
        self.is_stalled = self.is_split = False
        self.delay = 0.0
        self.corruption = self.cut = None


class Flow:
    """Carry bytes from one socket to another.

    Lifecycle: made with its connection, attached to both sockets, closed with the connection.

    Args:
        faults: The faults from the first byte on; change them, then call `replan`.
        on_cut: Called to cut the whole connection, with True for RST.
        on_finished: Called when this direction has passed its end on.
        on_passed: Called with the number of bytes just sent.
    """

    def __init__(
        self,
        faults: Faults,
        *,
        on_cut: Callable[[bool], None],
        on_finished: Callable[[], None],
        on_passed: Callable[[int], None],
    ) -> None:
        self.faults = faults
        self.is_finished = False
        self._on_cut = on_cut
        self._on_finished = on_finished
        self._on_passed = on_passed
        self._loop = asyncio.get_running_loop()
        # Each chunk with the time of its arrival; an empty one is the end of the source.
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._size = 0
        self._source_error: OSError | None = None
        self._wake: asyncio.Handle | None = None

    def attach(self, source: SocketEnd, sink: SocketEnd) -> None:
        """Set the two sockets, before the first byte."""
        self._source = source
        self._sink = sink

    def feed(self, data: bytes) -> None:
        """Take bytes from the source."""
        if self.is_finished:
            return
        self._chunks.append((self._loop.time(), memoryview(data)))
        self._size += len(data)
        if self._size > BUFFER_LIMIT:
            self._source.pause_reading()
        self.pump()

    def feed_end(self, error: OSError | None) -> None:
        """Take the end of the source: ``None`` for FIN, else the error."""
        if self.is_finished:
            return
        self._source_error = error
        self._chunks.append((self._loop.time(), memoryview(b"")))
        self.pump()

    def pump(self) -> None:
        """Pass on what the faults and the sink allow now."""
        while self._chunks and self._is_passable():
            arrived, chunk = self._chunks.popleft()
            if not chunk:
                self._pass_end()
                return
            taken = self._pass_bytes(chunk)
            if taken < len(chunk) and not self.is_finished:
                self._chunks.appendleft((arrived, chunk[taken:]))
        if self._size <= BUFFER_LIMIT:
            self._source.resume_reading()

    def replan(self) -> None:
        """Act on changed faults."""
        self._cancel_wake()
        self.pump()

    def shut(self) -> None:
        """Send FIN to the sink at once; what waits and what still comes is dropped."""
        if not self.is_finished:
            self.close()
            self._sink.send_eof()
            self._on_finished()

    def close(self) -> None:
        """Drop everything; nothing passes any more."""
        self.is_finished = True
        self._cancel_wake()
        self._chunks.clear()
        self._size = 0

    def _is_passable(self) -> bool:
        if self._wake is not None or self.faults.is_stalled or self._sink.is_congested:
            return False
        wait = self._chunks[0][0] + self.faults.delay - self._loop.time()
        if wait <= 0:
            return True
        self._wake = self._loop.call_later(wait, self._on_wake)
        return False

    def _pass_bytes(self, chunk: memoryview) -> int:
        """Send the start of *chunk*, as long as the faults allow, and return its length."""
        cut = self.faults.cut
        length = 1 if self.faults.is_split else len(chunk)
        if cut is not None:
            length = min(length, cut.after)
        self._size -= length
        self._on_passed(length)
        self._sink.send(self._corrupted(chunk[:length]))
        if cut is not None:
            cut.after -= length
            if not cut.after:
                self._on_cut(cut.reset)
        if self.faults.is_split and not self.is_finished:
            # A receiver on this loop is to read each byte by itself, but its callback comes behind
            # ours in the next turn. So the next byte goes out in the turn after that.
            self._wake = self._loop.call_soon(self._skip_turn)
        return length

    def _corrupted(self, piece: memoryview) -> memoryview | bytearray:
        corruption = self.faults.corruption
        if corruption is None:
            return piece
        if corruption.skip >= len(piece):
            corruption.skip -= len(piece)
            return piece
        self.faults.corruption = None
        damaged = bytearray(piece)
        damaged[corruption.skip] ^= corruption.mask
        return damaged

    def _pass_end(self) -> None:
        if self._source_error is not None:
            self._on_cut(True)  # noqa: FBT003 -- the callback's only argument
        else:
            self.shut()

    def _skip_turn(self) -> None:
        self._wake = self._loop.call_soon(self._on_wake)

    def _on_wake(self) -> None:
        self._wake = None
        self.pump()

    def _cancel_wake(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
