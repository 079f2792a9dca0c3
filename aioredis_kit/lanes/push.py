"""The push lane: one link for all subscriptions of a client, opened by the first.

A flood of messages, or a server that cuts a subscriber off who reads too slowly, can't take commands down that way.
What is to be subscribed outlives the connection: after a reconnect everything is subscribed again, and the consumers
are told that they have missed something.

``SUBSCRIBE`` is answered by pushes, and by a reply only if it is refused. So a ``PING`` follows each: when that is
answered, so was everything before.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from aioredis_kit.events import ChannelMoved, Event, Failed, Pinged
from aioredis_kit.exceptions import one_for_each
from aioredis_kit.lanes.link import Link
from aioredis_kit.policy.subscriptions import CONFIRMATIONS, Kind, Request, Subscriptions
from aioredis_kit.transport.command import Query
from aioredis_kit.wire.inflight import PUSHED, Slot
from aioredis_kit.wire.machine import Mode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable

    from aioredis_kit.exceptions import ConnectError, KitError
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.wire.handshake import Introduction


class Consumer(Protocol):
    """Somebody who wants messages. All of this is told in the turn of the loop in which it is read."""

    def deliver(self, push: list[Any]) -> None:
        """A message: its kind, the pattern if it came by one, the channel and the data, all undecoded."""

    def subscribed(self, kind: Kind, name: bytes) -> None:
        """A topic is subscribed, or subscribed again."""

    def missed(self, error: KitError) -> None:
        """The connection was lost: messages are missed until topics are told as subscribed again."""

    def ended(self, error: KitError) -> None:
        """Nothing will come any more."""


class PushLaneOwner(Protocol):
    """What the push lane tells, and asks of, its endpoint."""

    def happened(self, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def spawn(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """Run a function as a job of the client; tell whether that can still be done."""
        ...


class _Wait:
    """Somebody who waits until topics are subscribed."""

    def __init__(self, kind: Kind, names: Iterable[bytes], done: asyncio.Future[None]) -> None:
        self.kind = kind
        self.names = set(names)
        self.done = done


class PushLane:
    """All subscriptions of a client.

    Args:
        owner: The endpoint.
        equipment: What its connection is made of.
        introduce: Returns what a connection that is made now is to become.
        is_current: Whether that is still what a connection is to be.
        loop: The client's event loop.

    Attributes:
        gaps: How many times the connection was lost while there were subscriptions.
    """

    def __init__(
        self,
        owner: PushLaneOwner,
        equipment: Equipment,
        *,
        introduce: Callable[[], Awaitable[Introduction]],
        is_current: Callable[[Introduction], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.gaps = 0
        self._owner = owner
        self._equipment = equipment
        self._introduce = introduce
        self._is_current = is_current
        self._loop = loop
        self._link: Link | None = None
        self._connection: Connection | None = None
        self._subscriptions: Subscriptions[Consumer] = Subscriptions()
        self._waits: list[_Wait] = []
        self._refusal: KitError | None = None
        topics = self._subscriptions.topics
        self._by_word = {  # where the consumers of a message are found, by its kind
            b"message": topics[Kind.CHANNEL],
            b"pmessage": topics[Kind.PATTERN],
            b"smessage": topics[Kind.SHARD],
        }

    # What consumers ask.

    def subscribe(self, kind: Kind, names: Iterable[bytes], consumer: Consumer) -> asyncio.Future[None]:
        """Let a consumer have the messages of topics from now on.

        Returns:
            What is done when all are subscribed, and fails if that is refused. The consumer stays until it
            unsubscribes, whatever becomes of this.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._refusal is not None:
            raise one_for_each(self._refusal)
        names = tuple(dict.fromkeys(names))
        done: asyncio.Future[None] = self._loop.create_future()
        request = self._subscriptions.add(kind, names, consumer)
        topics = self._subscriptions.topics[kind]
        missing = {name for name in names if not topics[name].is_confirmed or topics[name].pending}
        for name in names:
            if name not in missing:
                consumer.subscribed(kind, name)
        if missing:
            self._waits.append(_Wait(kind, missing, done))
            self._open()
            if request is not None:
                self._send(request)
        else:
            done.set_result(None)
        return done

    def unsubscribe(self, kind: Kind, names: Iterable[bytes], consumer: Consumer) -> None:
        """Let a consumer have no more messages of topics."""
        request = self._subscriptions.remove(kind, names, consumer)
        if request is not None:
            self._send(request)

    def ping(self, message: bytes | str | None) -> asyncio.Future[Any]:
        """Ping the server on this connection; return what is done with the reply, and never if that is lost."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._open()
        if self._connection is not None:
            args = ("PING",) if message is None else ("PING", message)
            query = Query(self._equipment.encoder.encode(args), lambda query: _set_result(answer, query.reply))
            self._connection.send((query,), self._equipment.clock())
        return answer

    # What the endpoint asks.

    def close(self, refusal: KitError) -> None:
        """End all consumers."""
        self._refusal = refusal
        self._end(refusal)
        if self._link is not None:
            self._link.close()
            self._link.drop(refusal)

    async def wait_closed(self) -> None:
        """Wait until no socket is open any more.

        Cancellation:
            Safe.
        """
        if self._link is not None:
            await self._link.wait_closed()

    # What the link tells.

    def ready(self, connection: Connection) -> None:
        """See ``LinkOwner``."""
        self._connection = connection
        connection.change_mode(Mode.SUBSCRIBER)
        for request in self._subscriptions.connected():
            self._send(request)

    def lost(self, error: KitError, unanswered: list[Slot]) -> None:  # noqa: ARG002  # all of it is asked again
        """See ``LinkOwner``."""
        self._connection = None
        missing = self._subscriptions.disconnected()
        if missing:
            self.gaps += 1
        for consumer in missing:
            consumer.missed(error)

    def given_up(self, error: ConnectError) -> None:
        """See ``LinkOwner``. Whoever subscribes later tries again."""
        self._link = None
        self._end(error)
        self._tell_failure(error)

    def pushed(self, pushes: list[Any]) -> None:
        """See ``LinkOwner``. The hot path of messages."""
        by_word = self._by_word
        for push in pushes:
            topics = by_word.get(push[0])
            if topics is None:
                self._note_confirmation(push)
            elif (topic := topics.get(push[1])) is not None:
                for consumer in topic.consumers:
                    consumer.deliver(push)

    def happened(self, event: Event) -> None:
        """See ``LinkOwner``. Events are about the shared lane, except for errors."""
        if isinstance(event, Failed):
            self._tell_failure(event.error)
        elif isinstance(event, Pinged):
            self._mend_drift()

    def answered(self) -> None:
        """See ``LinkOwner``."""

    def woke_half(self) -> None:
        """See ``LinkOwner``."""

    def writable_changed(self, *, is_writable: bool) -> None:
        """See ``LinkOwner``. What is sent here is little."""

    def _open(self) -> None:
        if self._link is None:
            self._link = Link(self, self._equipment, introduce=self._introduce, is_current=self._is_current)
            self._owner.spawn(self._link.run, "push")

    def _send(self, request: Request) -> None:
        """Send a request now, or leave it to the next connection."""
        connection = self._connection
        if connection is None or not connection.is_ready:
            return
        encode = self._equipment.encoder.encode
        slot = Slot(encode(request.command), decode=False)
        slot.state = PUSHED

        def answered(_: Query) -> None:
            refusal = getattr(slot, "reply", None)
            if refusal is not None:
                self._subscriptions.refused(request)
                self._refused(request, refusal)

        connection.send((slot, Query(encode(("PING",)), answered)), self._equipment.clock())

    def _note_confirmation(self, push: list[Any]) -> None:
        what = CONFIRMATIONS.get(push[0])
        if what is None or not isinstance(push[1], bytes):
            return
        kind, is_on = what
        name = push[1]
        topic = self._subscriptions.topics[kind].get(name)
        if kind is Kind.SHARD and not is_on and topic is not None and not topic.pending and topic.is_wanted:
            self._owner.happened(ChannelMoved(name))
        request = self._subscriptions.confirmed(kind, name, is_on=is_on)
        if request is not None:
            self._send(request)
        elif is_on and topic is not None and not topic.pending:
            for consumer in topic.consumers:
                consumer.subscribed(kind, name)
            self._note_subscribed(kind, name)

    def _note_subscribed(self, kind: Kind, name: bytes) -> None:
        for wait in [wait for wait in self._waits if wait.kind is kind and name in wait.names]:
            wait.names.discard(name)
            if not wait.names:
                self._waits.remove(wait)
                _set_result(wait.done, None)

    def _refused(self, request: Request, refusal: Exception) -> None:
        waits = [wait for wait in self._waits if wait.kind is request.kind and not wait.names.isdisjoint(request.names)]
        for wait in waits:
            self._waits.remove(wait)
            if not wait.done.done():
                wait.done.set_exception(refusal)
        if not waits:
            self._tell_failure(refusal)

    def _mend_drift(self) -> None:
        if self._connection is not None and not self._connection.in_flight:
            for request in self._subscriptions.checked():
                self._send(request)

    def _end(self, error: KitError) -> None:
        for wait in self._waits:
            if not wait.done.done():
                wait.done.set_exception(one_for_each(error))
        self._waits.clear()
        for consumer in self._subscriptions.consumers():
            consumer.ended(one_for_each(error))
        for topics in self._subscriptions.topics.values():
            topics.clear()

    def _tell_failure(self, error: Exception) -> None:
        with suppress(AttributeError):
            error.lane = "push"  # type: ignore[attr-defined]  # it may be the user's own
        self._owner.happened(Failed(error))


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)
