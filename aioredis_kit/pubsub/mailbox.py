"""The messages that wait for one subscriber: so many, and no more.

Rules of this file:

1. What is done for each message and each subscriber is one append: what is kept is what was read, and it is given its
   shape when it is taken. The limit is looked after once for each read, so it may be passed by what one read brings.
2. What is dropped, or missed for another reason, leaves a gap exactly where it is missing.
3. What had come before the end is still there after it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from aioredis_kit.exceptions import ConfigurationError, QueueFullError, one_for_each
from aioredis_kit.pubsub.message import OVERFLOW, WORDS, Gap

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.exceptions import KitError
    from aioredis_kit.policy.subscriptions import Kind

Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "error"]
"""What happens to a subscriber for whom too many messages wait."""

LIMIT: Final = 10_000
"""How many messages may wait for a subscriber, if nothing else is said."""

PATIENCE: Final = 100
"""So many messages are taken in a row before others get their turn."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait for a subscriber.

    Attributes:
        limit: How many messages.
        overflow: What happens when one more comes. ``"error"``: the subscription ends with ``QueueFullError`` behind
            those that wait.

    Raises:
        ConfigurationError: That makes no sense.
    """

    limit: int = LIMIT
    overflow: Overflow = "drop_oldest"

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 1:
            raise ConfigurationError(f"limit must be a whole number of messages, at least 1, not {self.limit!r}")
        if self.overflow not in get_args(Overflow):
            raise ConfigurationError(f"overflow must be one of {', '.join(get_args(Overflow))}, not {self.overflow!r}")


class Mailbox:
    """A ``Consumer`` that keeps what it is told until somebody takes it.

    Args:
        limits: How much may wait.

    Attributes:
        items: What waits: messages as they were read, gaps, and what a subclass adds.
        deliver: See ``Consumer``.
        dropped: How many messages were dropped because too many waited.
        error: Why it has ended.
        is_awaited: Whether somebody is to be told when something comes.
        overflowed: Called when it ends because too many messages wait.
    """

    __slots__ = (
        "_limits",
        "_waiters",
        "deliver",
        "dropped",
        "error",
        "is_awaited",
        "items",
        "overflowed",
    )

    def __init__(self, limits: Limits) -> None:
        self.items: deque[Any] = deque()
        self.dropped = 0
        self.error: KitError | None = None
        self.is_awaited = False
        self.overflowed: Callable[[], object] | None = None
        self.deliver: Callable[[list[Any]], object] = self.items.append
        self._limits = limits
        self._waiters: deque[asyncio.Future[bool]] = deque()

    # What the push lane tells.

    def delivered(self) -> None:
        """See ``Consumer``."""
        if len(self.items) > self._limits.limit:
            self._trim()
        if self.is_awaited and self.items:
            self._wake()

    def subscribed(self, kind: Kind, name: bytes) -> None:
        """See ``Consumer``."""

    def missed(self, reason: str, topic: tuple[Kind, bytes] | None = None) -> None:  # noqa: ARG002  # a subclass's
        """See ``Consumer``."""
        if self.error is not None:
            return
        if self.items and isinstance(self.items[-1], Gap):
            self.items[-1].add(Gap(None, reason))
            return
        self.items.append(Gap(None, reason))
        if self.is_awaited:
            self._wake()

    def ended(self, error: KitError) -> None:
        """See ``Consumer``."""
        if self.error is None:
            self.error = error
            self._wake_all()

    # What the subscriber asks.

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is something; tell whether there is.

        Args:
            timeout: Limit in seconds. With 0 the loop looks once for what has come.

        Raises:
            KitError: It has ended, and all was taken.

        Cancellation:
            Safe.
        """
        if self.items:
            return True
        loop = asyncio.get_running_loop()
        due = None if timeout is None else loop.time() + timeout
        while not self.items:
            if self.error is not None:
                raise one_for_each(self.error)
            if not await self._sleep(loop, due):
                return bool(self.items)
        return True

    def put(self, item: Any) -> None:
        """Add something that is no message."""
        self.items.append(item)
        self.delivered()

    def _discard(self, item: Any) -> None:
        """Note that something was dropped that is neither a message nor a gap."""

    async def _sleep(self, loop: asyncio.AbstractEventLoop, due: float | None) -> bool:
        """Wait until somebody delivers; tell whether that was before the time was over."""
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(waiter)
        self.is_awaited = True
        timer = None if due is None else loop.call_at(due, _expire, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and self.items:
                self._wake()  # it was meant for whoever waits next
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self.is_awaited = bool(self._waiters)

    def _wake(self) -> None:
        """Let as many go on as there is something for, those first that have waited longest."""
        count = len(self.items)
        while self._waiters and count:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(True)
                count -= 1
        self.is_awaited = bool(self._waiters)

    def _wake_all(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(True)
        self.is_awaited = False

    def _trim(self) -> None:
        """Drop something, as there is too much."""
        items, limit = self.items, self._limits.limit
        gap = Gap(0, OVERFLOW)
        if self._limits.overflow == "drop_oldest":
            if isinstance(items[0], Gap):
                gap = items.popleft()
            while len(items) > limit:
                self._drop(items.popleft(), gap)
            if gap.dropped != 0:
                items.appendleft(gap)
            return
        while len(items) > limit:
            self._drop(items.pop(), gap)
        if self._limits.overflow == "error":
            text = f"the subscriber is too slow: {limit} messages waited for it when more came"
            self.ended(QueueFullError(text, limit=limit))
            if self.overflowed is not None:
                self.overflowed()
        elif isinstance(items[-1], Gap):
            items[-1].add(gap)
        elif gap.dropped != 0:
            items.append(gap)

    def _drop(self, item: Any, gap: Gap) -> None:
        """Let a gap stand for an item."""
        if isinstance(item, Gap):
            gap.add(item)
        elif item[0] in WORDS:
            self.dropped += 1
            if gap.dropped is not None:
                gap.dropped += 1
        else:
            self._discard(item)


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
