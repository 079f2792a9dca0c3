"""``monitor()``: every command that the server executes, as redis-py tells it.

It has a connection of the dedicated lane, which is closed afterwards: nothing takes a connection out of ``MONITOR``.
"""

from __future__ import annotations

import asyncio
import math
import warnings
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.client import Monitor as StockMonitor
from redis.exceptions import RedisError

from aioredis_kit.exceptions import ClientClosedError, ConnectionLostError, one_for_each
from aioredis_kit.kinds import count
from aioredis_kit.policy.secrets import masked_line
from aioredis_kit.transport.command import new_command, wait
from aioredis_kit.wire.machine import Mode

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from aioredis_kit._redispy import Encoder
    from aioredis_kit.client.commands import CommandClient
    from aioredis_kit.exceptions import KitError
    from aioredis_kit.lanes.dedicated import DedicatedLane, Lease

BUFFERED: Final = 10_000
"""How many lines a monitor keeps by default that nobody has taken yet."""


class Monitor(StockMonitor):
    """Tells of every command that the server executes.

    ::

        async with client.monitor() as monitor:
            async for command in monitor.listen():
                print(command["command"])

    Lines that nobody takes are kept, ``buffered`` of them at most: then the oldest is dropped and counted.

    Lifecycle: the connection is leased by ``async with`` or ``connect``, and closed at the end of ``async with`` or by
    ``aclose``. When it is lost, what was read is still told, then ``next_command`` raises. After either, as with
    redis-py's, ``async with`` leases another one.

    Args:
        client: The client.
        buffered: How many lines are kept.

    Raises:
        ConfigurationError: ``buffered`` is no number from 1 on.
    """

    def __init__(self, client: CommandClient, *, buffered: int = BUFFERED) -> None:
        self.connection_pool = client.connection_pool
        self.connection: Any = None  # redis-py reads lines from it
        self._client = client  # which is not to be collected before
        self._buffered = count(1).value("buffered", buffered)

    @property
    def dropped(self) -> int:
        """How many lines were dropped because nobody had taken them in time."""
        return 0 if self.connection is None else self.connection.dropped

    async def connect(self) -> None:
        """Lease a connection and let it monitor, unless it does.

        Raises:
            PoolExhaustedError: None became free in time.
            ConnectionLostError: It was lost.
            CommandTimeoutError: The server did not answer.
            ResponseError: It refused.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe. The connection is closed.
        """
        if self.connection is None:
            self.connection = line = _Line(self._client.get_encoder(), self._buffered)
            weakref.finalize(self, line.abandoned).atexit = False
            try:
                await line.open(self._client)
            except BaseException:  # failed or cancelled: the next connect() begins anew
                if self.connection is line:
                    self.connection = None
                raise

    async def aclose(self) -> None:
        """Close the connection. Idempotent.

        Cancellation:
            Safe. It waits for nothing.
        """
        if self.connection is not None:
            self.connection.close()

    async def __aenter__(self) -> Self:
        """As ``connect``; anew if the connection was closed or lost."""
        if self.connection is not None and self.connection.has_ended:
            self.connection = None
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As ``aclose``."""
        await self.aclose()


class _Line:
    """What redis-py's monitor takes for a connection: lines, one at a time.

    Attributes:
        encoder: Makes text of a line.
        dropped: How many lines were dropped.
    """

    def __init__(self, encoder: Encoder, buffered: int) -> None:
        self.encoder = encoder
        self.dropped = 0
        self._lines: deque[bytes] = deque(maxlen=buffered)
        self._changed = asyncio.Event()
        self._end: KitError | None = None  # why no line will come any more
        self._lane: DedicatedLane | None = None
        self._lease: Lease | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the connection was closed or lost."""
        return self._end is not None

    async def open(self, client: CommandClient) -> None:
        """See ``Monitor.connect``."""
        core, options = client._core.client, client._options  # noqa: SLF001  # of the same family
        endpoint = core.route(())
        self._lease = lease = await endpoint.dedicated.acquire("MONITOR", core.due(options))
        self._lane = endpoint.dedicated
        if self._end is not None:  # it was closed meanwhile
            self.close()
            raise one_for_each(self._end)
        try:
            # In this order: lines may come in the packet of the answer.
            lease.queue.shortest_timeout = math.inf if options.timeout is None else options.timeout
            lease.on_push = self._read
            lease.on_closing = self._stop
            lease.link.is_reserved = True
            if (connection := lease.link.connection) is not None:
                connection.change_mode(Mode.MONITOR)
                connection.ended.add_done_callback(lambda _: self._stop(connection.failure))
            args = ("MONITOR",)
            command = new_command(lease.queue.loop, args, endpoint.encode(args), decode=False, options=options)
            command.dispatch(lease.queue)  # which refuses it where the connection was lost
            await self._wait(command)
        except BaseException:  # cancelled too: in the monitor's mode the connection is of no use to others
            self.close()
            raise

    @staticmethod
    async def _wait(command: Any) -> None:
        try:
            await wait(command)
        except BaseException:  # cancelled, say: nobody waits for the reply any more
            command.abandon()
            raise
        if isinstance(command.reply, BaseException):
            raise command.reply
        if command.reply != b"OK":
            raise RedisError(f"MONITOR failed: {command.reply}")

    async def read_response(self) -> bytes:
        """Return the next line.

        Raises:
            ConnectionLostError: The connection was lost, and all that it had told was returned.
            ClientClosedError: The client or the monitor was closed.

        Cancellation:
            Safe. No line is lost.
        """
        while not self._lines:
            if self._end is not None:
                raise one_for_each(self._end)
            self._changed.clear()
            await self._changed.wait()
        return masked_line(self._lines.popleft())

    def close(self) -> None:
        """Close the connection, if that was not done."""
        self._lines.clear()
        self._stop(ClientClosedError("the monitor is closed"))

    def abandoned(self) -> None:
        """Nobody refers to the monitor any more."""
        if self._lease is None:
            return
        loop = self._lease.queue.loop
        if not loop.is_closed():
            loop.call_soon_threadsafe(self.close)
        warnings.warn("a monitor was not closed", ResourceWarning, stacklevel=2, source=self)

    def _read(self, lines: list[bytes]) -> None:
        room = (self._lines.maxlen or 0) - len(self._lines)
        self.dropped += max(0, len(lines) - room)
        self._lines += lines
        self._changed.set()

    def _stop(self, reason: KitError | None) -> None:
        """Close the connection, and let those who wait know why. What was read is still told."""
        lane, lease, self._lease = self._lane, self._lease, None
        self._end = self._end or reason or ConnectionLostError("the connection was lost")
        self._changed.set()
        if lane is not None and lease is not None:
            lane.discard(lease, "it was a monitor's")
