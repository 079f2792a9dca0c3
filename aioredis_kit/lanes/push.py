"""The push lane: one link for all subscriptions of a client, opened by the first.

A flood of messages, or a server that cuts a subscriber off who reads too slowly, can't take commands down that way.
What is to be subscribed outlives the connection: after a reconnect everything is subscribed again, and the consumers
are told that they have missed something.

``SUBSCRIBE`` is answered by pushes, and by a reply only if it is refused. So a ``PING`` follows each: when that is
answered, so was everything before.

Rules of this file:

1. Consumers are told everything in the turn of the loop in which it was read, and must not raise.
2. A caller whose subscribing failed, for whatever reason, has subscribed to nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from aioredis_kit.events import ChannelMoved, Event, Failed, Pinged, Reauthenticated
from aioredis_kit.exceptions import (
    CommandTimeoutError,
    ConnectionLostError,
    KitError,
    ReplyProtocolError,
    TimeoutDiagnosis,
    one_for_each,
)
from aioredis_kit.lanes.link import Link, LinkState
from aioredis_kit.lanes.waits import Wait, Waits
from aioredis_kit.policy.subscriptions import CONFIRMATIONS, Kind, Request, Subscriptions
from aioredis_kit.statistics import LaneStatistics
from aioredis_kit.transport.command import Query
from aioredis_kit.wire.inflight import PushedSlot, Slot
from aioredis_kit.wire.machine import Mode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping

    from aioredis_kit.credentials import Credentials
    from aioredis_kit.exceptions import ConnectError
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.lanes.link import Introducer
    from aioredis_kit.transport.connection import Connection
    from aioredis_kit.transport.tally import Tally

REPAIR_PAUSE: Final = 10.0
"""How long what the server refused, or didn't confirm twice, is left alone before it is asked again, in seconds."""

CONNECTION_LOST: Final = "connection lost"
"""Why messages were missed: see ``Consumer.missed``."""
ENDED_BY_SERVER: Final = "unsubscribed by the server"
"""The same."""

Names: TypeAlias = "Mapping[Kind, Iterable[bytes]]"
"""Topics: channels, patterns and shard channels."""


class Consumer(Protocol):
    """Somebody who wants messages. All of this is told in the turn of the loop in which it is read.

    Attributes:
        deliver: Takes a message: its kind, the pattern if it came by one, the channel and the data, all undecoded.
            Called for each; an attribute, so that nothing need be between this and a container.
    """

    @property
    def deliver(self) -> Callable[[list[Any]], object]:
        """See above."""
        ...

    def delivered(self) -> None:
        """For the time being there are no more messages. Told after those of each read."""

    def subscribed(self, kind: Kind, name: bytes) -> None:
        """A topic is subscribed, or subscribed again."""

    def missed(self, reason: str, topic: tuple[Kind, bytes] | None = None) -> None:
        """Messages of a topic, or of all, are missed until that is told as subscribed again."""

    def ended(self, error: KitError) -> None:
        """Nothing will come any more."""


class PushLaneOwner(Protocol):
    """What the push lane tells, and asks of, its endpoint."""

    def happened(self, event: Event) -> None:
        """Something happened that listeners may want to know."""

    def spawn(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """Run a function as a job of the client; tell whether that can still be done."""
        ...


class PushLane:
    """All subscriptions of a client.

    Args:
        owner: The endpoint.
        equipment: What its connection is made of.
        introducer: Says what its connections are to be.
        tally: Counts what it does.
        loop: The client's event loop.

    Attributes:
        loop: The same.
        gaps: How many times the connection was lost while there were subscriptions.
    """

    def __init__(
        self,
        owner: PushLaneOwner,
        equipment: Equipment,
        *,
        introducer: Introducer,
        tally: Tally,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.loop = loop
        self._tally = tally
        self.gaps = 0
        self._owner = owner
        self._equipment = equipment
        self._introducer = introducer
        self._link: Link | None = None
        self._connection: Connection | None = None
        self._subscriptions: Subscriptions[Consumer] = Subscriptions()
        self._waits: Waits[Consumer] = Waits()
        self._claims: dict[tuple[Kind, bytes, Consumer], set[object]] = {}  # calls that subscribe what nobody had
        self._asking: set[asyncio.Future[Any]] = set()  # for replies
        self._readying: set[asyncio.Future[None]] = set()  # done when there is a connection
        self._refusal: KitError | None = None
        self._repair: asyncio.TimerHandle | None = None
        topics = self._subscriptions.topics
        self._by_word = {  # where the audience of a message is found, by its first word
            b"message": topics[Kind.CHANNEL],
            b"pmessage": topics[Kind.PATTERN],
            b"smessage": topics[Kind.SHARD],
        }

    # What consumers ask.

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and self._connection.is_ready

    @property
    def misses_messages(self) -> bool:
        """Whether there are subscriptions, and no connection."""
        return not self.is_ready and self._subscriptions.has_any

    def statistics(self) -> LaneStatistics:
        """Return what its connection is doing."""
        state = None if self._link is None else self._link.state
        return LaneStatistics(
            ready=int(state is LinkState.READY),
            connecting=int(state is LinkState.CONNECTING),
            waiting=int(state is LinkState.WAITING),
        )

    async def subscribe(self, names: Names, consumer: Consumer, *, timeout: float | None) -> None:
        """Let a consumer have the messages of topics from now on, and wait until they are subscribed.

        Args:
            names: The topics.
            consumer: Who wants them. It is told of each topic; before this returns, and perhaps messages too.
            timeout: Limit in seconds.

        Raises:
            ResponseError: The server refused it.
            CommandTimeoutError: It was not confirmed in time.
            ConnectError: The reconnect strategy gave up.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe: the consumer doesn't get the topics, except for those that it had before.
        """
        self._check_open()
        topics = [(kind, name) for kind, group in names.items() for name in dict.fromkeys(group)]
        since = self._equipment.clock()
        limit = asyncio.timeout(timeout)
        claim = object()
        self._claim(topics, consumer, claim)
        try:
            async with limit:
                await self._subscribe(topics, consumer)
            for topic in topics:
                self._claims.pop((*topic, consumer), None)
        except BaseException as error:  # refused, late or cancelled: the consumer gets only what it had before
            self.unsubscribe(_by_kind(self._unclaim(topics, consumer, claim)), consumer)
            if isinstance(error, TimeoutError) and limit.expired():
                assert timeout is not None  # noqa: S101  # it has expired
                self._probe()
                waited = self._equipment.clock() - since
                raise self._timeout_error(timeout, waited, "nothing was subscribed") from None
            raise

    def has(self, kind: Kind, name: bytes, consumer: Consumer) -> bool:
        """Whether a consumer has a topic, or waits for it."""
        return self._subscriptions.has(kind, name, consumer)

    def unsubscribe(self, names: Names, consumer: Consumer) -> None:
        """Let a consumer have no more messages of topics. If it waits for them, it is told that all is done."""
        for kind, group in names.items():
            group = tuple(dict.fromkeys(group))  # noqa: PLW2901  # it is gone through twice
            for name in group:
                self._claims.pop((kind, name, consumer), None)
                self._waits.unwanted((kind, name), consumer)
            request = self._subscriptions.remove(kind, group, consumer)
            if request is not None:
                self._send(request)

    async def settle(self, timeout: float | None) -> None:
        """Wait until all that was sent is answered, and with it all messages are delivered that were published before.

        Without a connection, or when it is lost, there is nothing to wait for. After the time-out it is not waited for
        any longer.

        Cancellation:
            Safe.
        """
        _ = await self._ask(("PING",), timeout)

    async def wait_ready(self, timeout: float | None) -> None:
        """Wait until there is a connection.

        Raises:
            CommandTimeoutError: There was none in time.
            ConnectError: The reconnect strategy gave up.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe. The connecting goes on.
        """
        self._check_open()
        if self.is_ready:
            return
        ready: asyncio.Future[None] = self.loop.create_future()
        self._readying.add(ready)
        self._open()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await ready
        except TimeoutError:
            if not limit.expired():
                raise
            assert timeout is not None  # noqa: S101  # it has expired
            raise self._timeout_error(timeout, timeout, "the connecting goes on") from None
        finally:
            _look_at(ready)
            self._readying.discard(ready)

    async def ping(self, args: tuple[bytes | str, ...], timeout: float | None) -> Any:
        """Ping the server on this connection; return its reply, or the exception that takes the place of one.

        Args:
            args: The command.
            timeout: Limit for each, connecting and waiting for the reply, in seconds.

        Raises:
            ConnectionLostError: The connection was lost before the reply came.
            KitError: As ``wait_ready``.

        Cancellation:
            Safe.
        """
        await self.wait_ready(timeout)
        answer = await self._ask(args, timeout)
        if not answer.done():
            raise self._timeout_error(timeout or 0.0, timeout or 0.0, "the reply to the PING is dropped if it comes")
        if answer.result() is None:
            raise ConnectionLostError("the push connection was lost before the PING was answered", maybe_executed=True)
        return answer.result()

    def report(self, error: Exception) -> None:
        """Let an error be an event."""
        with suppress(AttributeError):
            error.lane = "push"  # type: ignore[attr-defined]  # it may be the user's own
        self._owner.happened(Failed(error))

    # What the endpoint asks.

    def expect_user(self, credentials: Credentials | None) -> None:
        """Connect anew if the connection is another user's: what may be subscribed depends on that."""
        connection = self._connection
        if connection is not None and connection.introduction.credentials != credentials:
            connection.drop(ConnectionLostError("it is another user's", address=connection.address))

    def reauthenticate(self) -> None:
        """Authenticate with the newest credentials; connect anew where that is not possible."""
        if self._link is not None:
            self._link.reauthenticate()

    def recycle(self, old: Collection[Credentials]) -> None:
        """Connect anew if the connection still has one of these credentials."""
        if self._link is not None:
            self._link.recycle(old)

    def close(self, refusal: KitError) -> None:
        """End all consumers."""
        self._refusal = refusal
        self._end(refusal)
        if self._repair is not None:
            self._repair.cancel()
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
        for ready in self._readying:
            _finish(ready)

    def lost(self, error: KitError, unanswered: list[Slot]) -> None:  # noqa: ARG002  # all of it is asked again
        """See ``LinkOwner``."""
        self._connection = None
        for answer in self._asking:
            _finish(answer)
        missing = self._subscriptions.disconnected()
        if missing:
            self.gaps += 1
        for consumer in missing:
            consumer.missed(CONNECTION_LOST)

    def given_up(self, error: ConnectError) -> None:
        """See ``LinkOwner``. Whoever subscribes later tries again."""
        self._end(error)
        self.report(error)

    def pushed(self, pushes: list[Any]) -> None:
        """See ``LinkOwner``. The hot path of messages."""
        by_word = self._by_word
        previous: tuple[Consumer, ...] = ()
        concerned: dict[Consumer, None] = {}
        try:
            for push in pushes:
                topics = by_word.get(push[0])
                if topics is None:
                    self._note_confirmation(push)
                    continue
                topic = topics.get(push[1])
                if topic is None:
                    self._note_stray(push)
                    continue
                audience = topic.audience
                if audience is None:
                    audience = topic.gather()
                for consumer in audience:
                    consumer.deliver(push)
                if audience is not previous:
                    previous = audience
                    concerned.update(dict.fromkeys(audience))
        except (IndexError, TypeError) as error:  # it is empty, or has a list where a name belongs
            self._drop_senseless(error)
        for consumer in concerned:
            consumer.delivered()

    def happened(self, event: Event) -> None:
        """See ``LinkOwner``. Events are about the shared lane, except for errors."""
        if isinstance(event, Failed):
            self.report(event.error)
        elif isinstance(event, Pinged):
            self._mend_drift()
        elif isinstance(event, Reauthenticated):
            self._owner.happened(event)

    def outdated(self, reason: str) -> None:
        """See ``LinkOwner``. Consumers are told of the gap."""
        if self._connection is not None:
            address = self._connection.address
            self._connection.drop(ConnectionLostError(f"{address}: {reason}", address=address))

    def answered(self) -> None:
        """See ``LinkOwner``."""

    def woke_half(self) -> None:
        """See ``LinkOwner``."""

    def writable_changed(self, *, is_writable: bool) -> None:
        """See ``LinkOwner``. What is sent here is little."""

    async def _subscribe(self, topics: list[tuple[Kind, bytes]], consumer: Consumer) -> None:
        done: asyncio.Future[None] = self.loop.create_future()
        for kind, names in _by_kind(topics).items():
            request = self._subscriptions.add(kind, names, consumer)
            if request is not None:
                self._send(request)
        wait = Wait(consumer, (topic for topic in topics if not self._subscriptions.is_live(*topic)), done)
        self._waits.add(wait)
        for topic in topics:
            if topic not in wait.topics:
                consumer.subscribed(*topic)
        if wait.topics:
            self._open()
        try:
            await done
        finally:
            _look_at(done)
            self._waits.remove(wait)

    def _claim(self, topics: list[tuple[Kind, bytes]], consumer: Consumer, claim: object) -> None:
        """Note that the consumer has topics only if this call, or another that waits for them, succeeds."""
        for topic in topics:
            if (*topic, consumer) in self._claims or not self._subscriptions.has(*topic, consumer):
                self._claims.setdefault((*topic, consumer), set()).add(claim)

    def _unclaim(
        self, topics: list[tuple[Kind, bytes]], consumer: Consumer, claim: object
    ) -> Iterator[tuple[Kind, bytes]]:
        """Note that a call has failed; return the topics that no other call has got, or waits for."""
        for topic in topics:
            claims = self._claims.get((*topic, consumer), set())
            if claim in claims:
                claims.discard(claim)
                if not claims:
                    del self._claims[(*topic, consumer)]
                    yield topic

    def _probe(self) -> None:
        """Look whether the server is still there: it did not answer in time."""
        if self._link is not None:
            self._link.probe()

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise one_for_each(self._refusal)

    def _open(self) -> None:
        if self._link is None or self._link.has_closed():
            self._link = Link(self, self._equipment, introducer=self._introducer, tally=self._tally)
            self._owner.spawn(self._link.run, "push")

    def _send(self, request: Request) -> None:
        """Send a request, if there is a connection. If there is none the next one begins with what is wanted then."""
        connection = self._connection
        if connection is None or not connection.is_ready:
            return
        encode = self._equipment.encoder.encode
        word = request.word.lower().encode()
        slot = PushedSlot(encode(request.command), word=word, missing=len(request.names))

        def answered(_: Query) -> None:
            if connection is self._connection:
                self._note_answered(request, slot.refusal)

        connection.send((slot, Query(encode(("PING",)), answered)), self._equipment.clock())

    async def _ask(self, args: tuple[bytes | str, ...], timeout: float | None) -> asyncio.Future[Any]:
        """Send a command, if there is a connection; return what becomes its reply, or ``None`` if that is lost."""
        answer: asyncio.Future[Any] = self.loop.create_future()
        if self._connection is None or not self._connection.is_ready:
            answer.set_result(None)
            return answer
        self._asking.add(answer)
        try:
            query = Query(self._equipment.encoder.encode(args), lambda query: _finish(answer, query.reply))
            self._connection.send((query,), self._equipment.clock())
            await asyncio.wait((answer,), timeout=timeout)
            if not answer.done():
                self._probe()
        finally:
            self._asking.discard(answer)
        return answer

    def _note_confirmation(self, push: list[Any]) -> None:
        what = CONFIRMATIONS.get(push[0])
        if what is None or not isinstance(push[1], bytes):
            return
        (kind, is_on), name = what, push[1]
        topic = self._subscriptions.topics[kind].get(name)
        change = self._subscriptions.confirmed(kind, name, is_on=is_on)
        consumers = () if topic is None else tuple(topic.consumers)
        if change.is_unasked:
            if kind is Kind.SHARD:
                self._owner.happened(ChannelMoved(name))
            for consumer in consumers:
                consumer.missed(ENDED_BY_SERVER, (kind, name))
        if change.request is not None:
            self._send(change.request)
        if change.is_subscribed:
            for consumer in consumers:
                consumer.subscribed(kind, name)
            self._waits.subscribed((kind, name))

    def _note_stray(self, push: list[Any]) -> None:
        """Unsubscribe from what nobody wants: the server had never confirmed that, and was not asked to end it."""
        if not isinstance(push[1], bytes):
            return
        kind = next(kind for kind, topics in self._subscriptions.topics.items() if topics is self._by_word[push[0]])
        change = self._subscriptions.confirmed(kind, push[1], is_on=True)
        if change.request is not None:
            self._send(change.request)

    def _drop_senseless(self, cause: Exception) -> None:
        if self._connection is not None:
            address = self._connection.address
            error = ReplyProtocolError(f"{address} sent a push that makes no sense", address=address)
            error.__cause__ = cause
            self._connection.drop(error)

    def _note_answered(self, request: Request, refusal: Exception | None) -> None:
        """Take note that all was read that the server has to say about a request."""
        if refusal is None:
            requests = self._subscriptions.unanswered(request)
        else:
            requests = self._subscriptions.refused(request)
            if not requests:
                self._note_refused(request, refusal)
        for again in requests:
            self._send(again)
        if not requests and (refusal is not None or request.is_repair):
            self._repair_later()

    def _note_refused(self, request: Request, refusal: Exception) -> None:
        if not self._waits.refused(request, refusal):
            self.report(refusal)

    def _repair_later(self) -> None:
        if self._repair is None and self._refusal is None:
            self._repair = self.loop.call_later(REPAIR_PAUSE, self._mend_drift)

    def _mend_drift(self) -> None:
        if self._repair is not None:
            self._repair.cancel()
            self._repair = None
        for request in self._subscriptions.checked():
            self._send(request)

    def _end(self, error: KitError) -> None:
        consumers = self._subscriptions.consumers()
        self._subscriptions.clear()
        self._waits.end(error)
        for answer in self._asking:
            _finish(answer)
        for future in self._readying:
            if not future.done():
                future.set_exception(one_for_each(error))
        for consumer in consumers:
            consumer.ended(error)

    def _timeout_error(self, timeout: float, waited: float, consequence: str) -> CommandTimeoutError:
        is_sent = self.is_ready
        self._tally.timed_out += 1
        state = self._link.state.value if self._link is not None else "not connected"
        diagnosis = TimeoutDiagnosis(
            timeout=timeout,
            queued=0.0 if is_sent else waited,
            in_flight=waited if is_sent else 0.0,
            state=state,
            lag=max(waited - timeout, 0.0),
        )
        failure = "did not answer" if is_sent else "was not ready"
        return CommandTimeoutError(
            f"the push connection ({state}) {failure} within {timeout:g} seconds; {consequence}", diagnosis=diagnosis
        )


def _by_kind(topics: Iterable[tuple[Kind, bytes]]) -> dict[Kind, list[bytes]]:
    names: dict[Kind, list[bytes]] = {}
    for kind, name in topics:
        names.setdefault(kind, []).append(name)
    return names


def _look_at(future: asyncio.Future[None]) -> None:
    """Retrieve the exception of a future. A task that is cancelled just then doesn't, and asyncio would complain."""
    if future.done() and not future.cancelled():
        future.exception()


def _finish(future: asyncio.Future[Any], result: Any = None) -> None:
    if not future.done():
        future.set_result(result)
