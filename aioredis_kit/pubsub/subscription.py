"""A subscription that is iterated over: ``async with client.subscribe(…) as messages``, then ``async for``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, overload

from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.pubsub.mailbox import PATIENCE, Mailbox
from aioredis_kit.pubsub.message import Gap, Message, Wording

if TYPE_CHECKING:
    from typing import Self

    from aioredis_kit.lanes.push import Names, PushLane
    from aioredis_kit.pubsub.mailbox import Limits


class Subscription:
    """Channels, patterns and shard channels, whose messages are taken one by one.

    An asynchronous iterator of ``Message``. Any number of tasks may take messages; each gets others. What is missing
    is announced where it is missing, by a ``Message`` of the kind ``"gap"``.

    Lifecycle: made by ``client.subscribe``, whose ``async with`` begins and ends it. Iteration ends with it. When the
    client is closed, what had come can still be taken; then ``ClientClosedError`` is raised.

    Attributes:
        dropped: How many messages were dropped because more waited than the limit allows.
    """

    def __init__(self, names: Names, wording: Wording, limits: Limits) -> None:
        self._names = names
        self._mailbox = Mailbox(limits)
        self._items = self._mailbox.items
        self._left = PATIENCE  # so many messages are taken before others get their turn
        self._make = wording.message
        self._lane: PushLane | None = None
        self._has_left = False

    @property
    def dropped(self) -> int:
        """See the class."""
        return self._mailbox.dropped

    async def begin(self, lane: PushLane, *, timeout: float | None) -> None:
        """Subscribe.

        Raises:
            KitError: As ``PushLane.subscribe``.
            ResponseError: The server refused it.

        Cancellation:
            Safe. Nothing is subscribed.
        """
        self._mailbox.overflowed = lambda: lane.unsubscribe(self._names, self._mailbox)
        await lane.subscribe(self._names, self._mailbox, timeout=timeout)
        self._lane = lane

    def end(self) -> None:
        """Unsubscribe. Whoever waits for a message is told that there are no more. Idempotent."""
        self._has_left = True
        if self._lane is not None:
            self._lane.unsubscribe(self._names, self._mailbox)
        self._items.clear()
        self._mailbox.ended(ClientClosedError("the subscription has ended"))

    @overload
    async def get(self) -> Message: ...
    @overload
    async def get(self, timeout: float | None) -> Message | None: ...
    async def get(self, timeout: float | None = None) -> Message | None:
        """Return the next message, or gap.

        Args:
            timeout: How long to wait for it, in seconds; ``None``: for ever. With 0 nothing is waited for.

        Returns:
            The message; ``None`` if there was none in time.

        Raises:
            UnicodeDecodeError: The message can't be decoded. The next call returns the one behind it.
            QueueFullError: Too many messages waited, and ``overflow`` is ``"error"``.
            ClientClosedError: The client was closed, or the subscription has ended.
            ConnectError: The reconnect strategy gave up.
            RuntimeError: The client belongs to another event loop.

        Cancellation:
            Safe. No message is lost.
        """
        self._check_home()
        if not await self._mailbox.wait(timeout):
            return None
        item = self._items.popleft()
        return self._make(item) if item.__class__ is not Gap else item.as_message()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message, or gap.

        Raises:
            StopAsyncIteration: The subscription has ended.
            KitError: As ``get``.

        Cancellation:
            Safe. No message is lost.
        """
        self._left -= 1
        if not self._items or not self._left:
            await self._wait()
        item = self._items.popleft()
        return self._make(item) if item.__class__ is not Gap else item.as_message()

    async def _wait(self) -> None:
        self._left = PATIENCE  # before it waits: it may be cancelled there
        if self._items:
            await asyncio.sleep(0)
        self._check_home()
        try:
            await self._mailbox.wait()
        except ClientClosedError:
            if self._has_left:
                raise StopAsyncIteration from None
            raise

    def _check_home(self) -> None:
        if self._lane is not None and self._lane.loop is not asyncio.get_running_loop():
            raise RuntimeError(f"this subscription belongs to the event loop {self._lane.loop!r}: subscribe anew")

    def __repr__(self) -> str:
        names = [name for group in self._names.values() for name in group]
        return f"<{type(self).__name__} of {len(names)} topics, {len(self._items)} messages waiting>"
