"""Listeners of messages: functions that are called with each message, as node-redis has it.

Rules of this file:

1. A listener is called at a later turn of the loop than that in which the message was read, in the context in which it
   was registered. Nothing that it does, raising included, can disturb the connection or another listener.
2. What it returns is awaited, if it can be and isn't a future or task, which goes on by itself. Until that is done,
   its next messages wait: at most ``limit``, then ``overflow`` says what happens.
3. Once it was taken off it is not called any more, not even with what had come before.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from aioredis_kit.exceptions import ConfigurationError, QueueFullError
from aioredis_kit.policy.subscriptions import Kind
from aioredis_kit.pubsub.mailbox import PATIENCE, Mailbox
from aioredis_kit.pubsub.message import OVERFLOW, WORDS, Gap, Wording
from aioredis_kit.transport.tasks import foreign

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aioredis_kit.exceptions import KitError
    from aioredis_kit.lanes.push import Names, PushLane
    from aioredis_kit.pubsub.mailbox import Limits

Listener: TypeAlias = "Callable[[Any, Any], object]"
"""Called with a message's data and its channel."""


class Host(Protocol):
    """Where listeners' work is done: a life of the client."""

    def spawn_work(self, function: Callable[[], Awaitable[None]], *, name: str, context: contextvars.Context) -> bool:
        """Run a function as a job that closing the client waits for; tell whether that can still be done."""
        ...


class Delivery(Mailbox):
    """Calls one listener with the messages of its topics, one at a time.

    Args:
        listener: What is called.
        wording: How it is shown names and data.
        lane: Where the messages come from.
        host: Where what it returns is awaited.

    Attributes:
        names: Its topics.
        forget: Called when it has ended by itself.
    """

    __slots__ = ("_context", "_host", "_lane", "_listener", "_wording", "forget", "names")

    def __init__(self, listener: Listener, wording: Wording, lane: PushLane, host: Host, limits: Limits) -> None:
        super().__init__(limits)
        self.names: dict[Kind, set[bytes]] = {kind: set() for kind in Kind}
        self.forget: Callable[[], object] | None = None
        self._listener = listener
        self._wording = wording
        self._lane = lane
        self._host = host
        self._context = contextvars.copy_context()
        self.is_awaited = True  # it is idle

    @property
    def has_topics(self) -> bool:
        """Whether it is to be called with anything."""
        return any(self.names.values())

    def ended(self, error: KitError) -> None:
        """See ``Consumer``."""
        super().ended(error)
        if isinstance(error, QueueFullError):
            self._lane.unsubscribe(self.names, self)
            self._lane.report(error)
        for names in self.names.values():
            names.clear()
        self.items.clear()
        if self.forget is not None:
            self.forget()

    def _wake(self) -> None:
        self.is_awaited = False
        self._lane.loop.call_soon(self._work, context=self._context)

    def _wake_all(self) -> None:
        """Nothing: see ``ended``."""

    def _work(self) -> None:
        """Call the listener for what waits, until it returns something to be awaited."""
        for _ in range(PATIENCE):
            if not self.items:
                self._rest()
                return
            returned = self._call()
            if not inspect.isawaitable(returned) or asyncio.isfuture(returned):
                continue
            job = functools.partial(self._work_off, returned)
            if self._host.spawn_work(job, name="subscriber", context=self._context):
                return
            if inspect.iscoroutine(returned):
                returned.close()
        self._wake()

    async def _work_off(self, returned: Any) -> None:
        """Await what the listener returned, then call it for the messages that waited meanwhile."""
        try:
            count = 0
            while True:
                if inspect.isawaitable(returned) and not asyncio.isfuture(returned):
                    try:
                        await foreign(functools.partial(_itself, returned))
                    except Exception as error:  # noqa: BLE001  # the listener is the user's code: it may raise anything
                        self._lane.report(error)
                if not self.items:
                    return
                count += 1
                if count % PATIENCE == 0:
                    await asyncio.sleep(0)
                returned = self._call()
        finally:
            if self.items:  # it was cancelled, which ends all
                self.items.clear()
            self._rest()

    def _rest(self) -> None:
        """Wait for the next message, if there will be any."""
        self.is_awaited = True
        if not self.has_topics and self.forget is not None:
            self.forget()

    def _call(self) -> Any:
        """Call the listener with what has waited longest."""
        if not self.items:
            return None
        item = self.items.popleft()
        if isinstance(item, Gap):
            if item.reason == OVERFLOW and item.dropped:
                self._report_overflow(item.dropped)
            return None
        if item[1] not in self.names[WORDS[item[0]]]:  # taken off meanwhile
            return None
        try:
            text = self._wording.text
            return self._listener(text(item[-1]), text(item[-2]))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the listener is the user's code: it may raise anything
            self._lane.report(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            return None

    def _report_overflow(self, dropped: int) -> None:
        name = getattr(self._listener, "__qualname__", None) or type(self._listener).__name__
        limit = self._limits.limit
        text = f"the listener {name} is too slow: {dropped} messages were dropped, as {limit} waited for it"
        self._lane.report(QueueFullError(text, limit=limit))


class Listening:
    """The listeners of one push lane.

    Args:
        lane: The push lane.
        host: Where their work is done.

    Attributes:
        lane: The same.
    """

    def __init__(self, lane: PushLane, host: Host) -> None:
        self.lane = lane
        self._host = host
        self._deliveries: dict[tuple[Listener, bool], Delivery] = {}  # by listener, and whether it gets text

    async def add(
        self, names: Names, listener: Listener, wording: Wording, limits: Limits, *, timeout: float | None
    ) -> None:
        """Call a listener with the messages of topics from now on; wait until they are subscribed.

        Raises:
            ConfigurationError: It can't be called, or has no hash.
            KitError: As ``PushLane.subscribe``.
            ResponseError: The server refused it.

        Cancellation:
            Safe. It listens to nothing that it had not before.
        """
        if not isinstance(listener, Hashable):
            raise ConfigurationError(f"a listener must be hashable, which {listener!r} is not")
        key = (listener, wording.decode)
        delivery = self._deliveries.get(key)
        if delivery is None or delivery.error is not None:
            delivery = Delivery(listener, wording, self.lane, self._host, limits)
            delivery.forget = functools.partial(self._forget, key, delivery)
            self._deliveries[key] = delivery
        for kind, group in names.items():
            delivery.names[kind].update(group)
        try:
            await self.lane.subscribe(names, delivery, timeout=timeout)
        except BaseException:  # refused, late or cancelled: the listener gets only what it had before
            for kind, group in names.items():
                gone = [name for name in group if not self.lane.has(kind, name, delivery)]
                delivery.names[kind].difference_update(gone)
            if not delivery.has_topics and delivery.is_awaited:
                self._forget(key, delivery)
            raise

    async def remove(
        self, kind: Kind, names: Iterable[bytes] | None, listener: Listener | None, *, timeout: float | None
    ) -> None:
        """Call a listener, or all, with no more messages of topics, or of all of a kind.

        Returns when the server has taken note, but waits no longer than the time-out for that.

        Cancellation:
            Safe. They are not called any more.
        """
        wanted = None if names is None else list(names)
        for key, delivery in list(self._deliveries.items()):
            if listener is None or key[0] == listener:
                self._take_off(key, kind, delivery.names[kind] if wanted is None else wanted)
        await self.lane.settle(timeout)

    def _take_off(self, key: tuple[Listener, bool], kind: Kind, names: Iterable[bytes]) -> None:
        delivery = self._deliveries.get(key)
        if delivery is None:
            return
        mine = [name for name in names if name in delivery.names[kind]]
        delivery.names[kind].difference_update(mine)
        if mine:
            self.lane.unsubscribe({kind: mine}, delivery)
        if not delivery.has_topics and delivery.is_awaited:  # else when it has done what it is doing
            self._forget(key, delivery)

    def _forget(self, key: tuple[Listener, bool], delivery: Delivery) -> None:
        if self._deliveries.get(key) is delivery:
            del self._deliveries[key]


def _itself(returned: Any) -> Any:
    return returned
