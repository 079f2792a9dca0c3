"""redis-py's ``PubSub`` on the push lane.

Everything that redis-py documents works, with its messages, and those of its confirmations as if each object had a
connection of its own. Other than there:

- ``subscribe`` returns when the server has confirmed, and raises its refusal; ``unsubscribe`` when all was read that
  had been published before; ``ping`` when it was answered. There they return when the command was sent.
- After a lost connection everything is subscribed again by itself. Before the new confirmations comes
  ``{"type": "gap", "pattern": None, "channel": None, "data": None}``; suppressed as those are.
- At most ``limit`` messages wait. Where some were dropped comes the same with their number as data.
- The answer is a ``pong`` also under ``decode_responses`` in RESP3, where redis-py takes the text apart.
"""

from __future__ import annotations

import asyncio
import weakref
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.client import PubSub as StockPubSub
from redis.commands.helpers import parse_pubsub_subscriptions
from redis.exceptions import ResponseError

from aioredis_kit.exceptions import ClientClosedError, ConfigurationError, KitError
from aioredis_kit.lanes.push import CONNECTION_LOST
from aioredis_kit.policy.subscriptions import CONFIRMATIONS, Kind
from aioredis_kit.pubsub.inbox import ERROR, Inbox, LaneView
from aioredis_kit.pubsub.mailbox import PATIENCE
from aioredis_kit.pubsub.message import Gap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from aioredis_kit._redispy import Encoder
    from aioredis_kit.lanes.push import PushLane
    from aioredis_kit.pubsub.mailbox import Limits
    from aioredis_kit.pubsub.message import Wording

_NO_CONNECTION: Final = "pubsub connection not set: did you forget to call subscribe() or psubscribe()?"
_TURNS: Final = range(PATIENCE)
_MOST_NAMES: Final = 1000
_BY_COMMAND: Final = {word.upper(): what for word, what in CONFIRMATIONS.items()}


class PubSub(StockPubSub):
    """Subscriptions whose messages are taken with ``get_message`` or ``listen``, as in redis-py. See the module.

    Lifecycle: made by ``client.pubsub()``; subscribes when told to; ``aclose`` unsubscribes from everything. It may be
    used again after that. When the client is closed, or gave up connecting, that is raised once; then each call tries
    to subscribe again.
    """

    def __init__(  # noqa: PLR0913  # as redis-py
        self,
        connection_pool: Any,
        *,
        find_lane: Callable[[], PushLane],
        wording: Wording,
        encoder: Encoder,
        timeout: float | None,
        shard_hint: str | None = None,
        ignore_subscribe_messages: bool = False,
        push_handler_func: Callable[[Any], Any] | None = None,
        event_dispatcher: Any = None,
        limits: Limits,
    ) -> None:
        # What redis-py's own does, without its logging of pushes.
        self._event_dispatcher = event_dispatcher
        self.connection_pool = connection_pool
        self.shard_hint = shard_hint
        self.ignore_subscribe_messages = ignore_subscribe_messages
        self.connection: LaneView | None = None  # type: ignore[assignment]  # which is why redis-py says None
        self.encoder = encoder
        self.push_handler_func = push_handler_func
        message: Any = wording.text(self.HEALTH_CHECK_MESSAGE.encode())
        self.health_check_response = [[wording.text(b"pong"), message], message]
        self._forget_all()
        self._lock = asyncio.Lock()
        self._find_lane = find_lane
        self._text = wording.text
        self._wording = wording
        self._timeout = timeout
        self._limits = limits
        self._inbox: Inbox | None = None
        self._finalizer: Any = None
        stock = (PubSub.handle_message, PubSub.parse_response)
        self._endings: list[tuple[Kind, list[bytes]]] = []  # what is unsubscribed when all before it was read
        self._is_plain = push_handler_func is None and (type(self).handle_message, type(self).parse_response) == stock

    def __del__(self) -> None:
        """Nothing: the inbox has a finalizer."""

    # Subscribing.

    async def subscribe(self, *args: Any, **kwargs: Any) -> None:
        """Subscribe to channels. See redis-py.

        Args:
            args: Channels, or ``Subscription`` objects with handlers.
            kwargs: Handlers by channel.

        Raises:
            ResponseError: The server refused it. Nothing was subscribed.
            CommandTimeoutError: It was not confirmed within ``command_timeout``. Nothing was subscribed.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe. Nothing was subscribed.
        """
        await self._subscribe(Kind.CHANNEL, args, kwargs)

    async def psubscribe(self, *args: Any, **kwargs: Any) -> None:
        """Subscribe to patterns. Otherwise as ``subscribe``.

        Raises:
            KitError: As ``subscribe``.

        Cancellation:
            Safe. Nothing was subscribed.
        """
        await self._subscribe(Kind.PATTERN, args, kwargs)

    async def ssubscribe(self, *args: Any, target_node: Any = None, **kwargs: Any) -> None:
        """Subscribe to shard channels. Otherwise as ``subscribe``.

        Raises:
            KitError: As ``subscribe``.

        Cancellation:
            Safe. Nothing was subscribed.
        """
        del target_node
        await self._subscribe(Kind.SHARD, args, kwargs)

    async def execute_command(self, *args: Any) -> None:
        """Execute a command about subscriptions, or ``PING``.

        Raises:
            ConfigurationError: It is another command.
            KitError: As ``subscribe``.

        Cancellation:
            Safe.
        """
        word = self.encoder.encode(args[0]).upper()
        if word == b"PING":
            inbox = await self._revive()
            inbox.note_pong(await inbox.lane.ping(args, self._timeout))
            return
        if word not in _BY_COMMAND:
            raise ConfigurationError(f"{word.decode()} is no command for pubsub(): call it on the client")
        kind, is_on = _BY_COMMAND[word]
        names = self._to_bytes(args[1:])
        if is_on:
            await (await self._revive()).subscribe({kind: names}, timeout=self._timeout)
            return
        inbox = self._open()
        ending = (kind, names or list(inbox.wanted[kind]))
        self._endings.append(ending)
        try:
            await inbox.lane.settle(self._timeout)
        finally:
            self._end(ending)

    def _end(self, ending: tuple[Kind, list[bytes]]) -> None:
        """Unsubscribe, unless that was done meanwhile or this was closed."""
        for position, each in enumerate(self._endings):
            if each is ending:
                del self._endings[position]
                self._open().unsubscribe(*ending)
                return

    async def connect(self) -> None:
        """Wait until there is a connection.

        Raises:
            CommandTimeoutError: There was none within ``command_timeout``.
            ConnectError: The reconnect strategy gave up.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe.
        """
        await (await self._revive()).lane.wait_ready(self._timeout)

    async def aclose(self) -> None:
        """Unsubscribe from everything, and drop what was not taken.

        Cancellation:
            Safe. It waits for nothing.
        """
        inbox, self._inbox, self.connection = self._inbox, None, None
        self._endings.clear()
        self._forget_all()
        if inbox is not None:
            self._finalizer.detach()
            inbox.leave()
            inbox.items.clear()
            inbox.ended(ClientClosedError("this pubsub object was closed"))

    async def check_health(self) -> None:
        """Do nothing: the connection is watched by the client.

        Raises:
            RuntimeError: There is none yet.

        Cancellation:
            Safe.
        """
        self._present_inbox()

    # Messages.

    async def get_message(
        self,
        ignore_subscribe_messages: bool = False,  # noqa: FBT001, FBT002  # as redis-py
        timeout: float | None = 0.0,
    ) -> dict[str, Any] | None:
        """Return the next message, confirmation or gap; ``None`` if there is none in time.

        ``None`` is also returned for a message that a handler took, and for what is not wanted.

        Args:
            ignore_subscribe_messages: Whether confirmations and gaps are not wanted.
            timeout: How long to wait, in seconds; ``None``: for ever.

        Raises:
            RuntimeError: Nothing was ever subscribed.
            UnicodeDecodeError: The message can't be decoded. The next call returns the one behind it.
            ClientClosedError: The client is closed.
            ConnectError: The reconnect strategy gave up.
            Exception: What the handler raised.

        Cancellation:
            Safe, if there is no handler: no message is lost.
        """
        if not self._is_plain:
            message: dict[str, Any] | None = await super().get_message(ignore_subscribe_messages, timeout)
            return message
        item = await self._take(timeout)
        if item is None:
            return None
        return await self._shape(item, is_quiet=ignore_subscribe_messages)

    def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Iterate over messages, confirmations and gaps, as long as something is subscribed.

        Raises:
            KitError: As ``get_message``.

        Cancellation:
            Safe, if there is no handler: no message is lost.
        """
        return self._listen() if self._is_plain else self._listen_in_steps()

    async def _listen(self) -> AsyncIterator[dict[str, Any]]:  # noqa: C901, PLR0912  # calls cost
        text, wording, names = self._text, self._wording, _Names(self._text)
        decodes, encoding, errors = wording.decode, wording.encoding, wording.errors
        while self.subscribed:
            inbox = self._present_inbox()
            items, channels = inbox.items, self.channels
            for _ in _TURNS:
                if not items:  # aclose empties it
                    break
                item = items.popleft()
                if item.__class__ is not Gap and item[0] == b"message":
                    # What _show does: most are such, and the call would be a tenth of what a message costs in all.
                    channel, data = item[1], item[2]
                    if decodes:
                        channel = names[channel]
                        data = data.decode(encoding, errors) if data.__class__ is bytes else text(data)
                    simple = {"type": "message", "pattern": None, "channel": channel, "data": data}
                    takes = channels.get(channel)
                    if takes is None:
                        yield simple
                    else:
                        await _hand_over(takes, simple)
                    continue
                message, takes = self._show(item, text, is_quiet=False)
                if takes is not None:
                    await _hand_over(takes, message)
                elif message is not None:
                    yield message
                if not self.subscribed:
                    break
            else:
                await asyncio.sleep(0)
            if not items and self._inbox is inbox and self.subscribed:
                await self._wait()

    async def _listen_in_steps(self) -> AsyncIterator[dict[str, Any]]:
        """Do the same with what a subclass has changed."""
        while self.subscribed:
            message = await self.handle_message(await self.parse_response(block=True))
            if message is not None:
                yield message

    async def parse_response(self, block: bool = True, timeout: float = 0) -> Any:  # noqa: FBT001, FBT002  # as redis-py
        """Return the next message as a list of what the server sent; ``None`` if there is none in time.

        Args:
            block: Whether to wait for ever.
            timeout: How long to wait if not, in seconds.

        Raises:
            KitError: As ``get_message``.

        Cancellation:
            Safe. No message is lost.
        """
        item = await self._take(None if block else timeout)
        if item is None:
            return None
        if isinstance(item, Gap):
            return [b"gap", None, item.dropped]
        if item[0] is ERROR:
            raise item[1]
        response = [self._text(part) for part in item]
        return response if self.push_handler_func is None else await self.push_handler_func(response)

    async def handle_message(
        self,
        response: Any,
        ignore_subscribe_messages: bool = False,  # noqa: FBT001, FBT002  # as redis-py
    ) -> dict[str, Any] | None:
        """Return the message that ``parse_response`` returned in the shape of ``get_message``, or hand it over.

        Raises:
            Exception: What the handler raised.

        Cancellation:
            Passed on to the handler.
        """
        if response is None:
            return None
        if not isinstance(response, list):
            response = [b"pong", response]
        word = response[0].encode() if isinstance(response[0], str) else response[0]
        if word == b"gap":
            return self._show(Gap(response[2], ""), _same, is_quiet=ignore_subscribe_messages)[0]
        shown, takes = self._show([word, *response[1:]], _same, is_quiet=ignore_subscribe_messages)
        return shown if takes is None else await _hand_over(takes, shown)

    def note_dropped(self, item: Any) -> None:
        """Take note of a confirmation that nobody will get, because too many messages wait."""
        self._note_unsubscribed(item[0], None if item[1] is None else self._text(item[1]))

    def _show(
        self, item: Any, text: Callable[[Any], Any], *, is_quiet: bool
    ) -> tuple[dict[str, Any] | None, Callable[[Any], Any] | None]:
        """Return a message in redis-py's shape, and the handler that is to have it."""
        if item.__class__ is Gap:
            gap = {"type": "gap", "pattern": None, "channel": None, "data": item.dropped}
            return (None if is_quiet or self.ignore_subscribe_messages else gap), None
        word = item[0]
        if word == b"message":
            channel = text(item[1])
            shown = {"type": "message", "pattern": None, "channel": channel, "data": text(item[2])}
            return shown, self.channels.get(channel)
        if word == b"pmessage":
            pattern = text(item[1])
            shown = {"type": "pmessage", "pattern": pattern, "channel": text(item[2]), "data": text(item[3])}
            return shown, self.patterns.get(pattern)
        if word == b"smessage":
            channel = text(item[1])
            shown = {"type": "smessage", "pattern": None, "channel": channel, "data": text(item[2])}
            return shown, self.shard_channels.get(channel)
        if word is ERROR:
            raise item[1]
        if word == b"pong":
            return {"type": "pong", "pattern": None, "channel": None, "data": text(item[1])}, None
        name = None if item[1] is None else text(item[1])
        self._note_unsubscribed(word, name)
        if is_quiet or self.ignore_subscribe_messages:
            return None, None
        return {"type": word.decode(), "pattern": None, "channel": name, "data": item[2]}, None

    def _note_unsubscribed(self, word: bytes, name: Any) -> None:
        what = CONFIRMATIONS.get(word)
        if what is not None and not what[1]:
            topics, leaving = self._topics(what[0])
            if name in leaving:
                leaving.remove(name)
                topics.pop(name, None)

    async def _shape(self, item: Any, *, is_quiet: bool = False) -> dict[str, Any] | None:
        """Return a message in redis-py's shape, or hand it over."""
        shown, takes = self._show(item, self._text, is_quiet=is_quiet)
        return shown if takes is None else await _hand_over(takes, shown)

    async def _take(self, timeout: float | None) -> Any:
        """Wait for what is next; ``None`` if there is nothing in time, or this was closed."""
        inbox = await self._wait(timeout)
        return None if inbox is None else inbox.items.popleft()

    async def _wait(self, timeout: float | None = None) -> Inbox | None:
        """Wait until there is something to be taken; return where, or ``None`` if nothing came in time."""
        inbox = self._present_inbox()
        try:
            if inbox.was_told or not (inbox.items or inbox.error or inbox.lane.loop is asyncio.get_running_loop()):
                inbox = await self._revive()
            return inbox if await inbox.wait(timeout) else None
        except KitError:
            if self._inbox is not inbox:  # closed meanwhile
                return None
            inbox.was_told = True
            raise

    # The inbox.

    def _present_inbox(self) -> Inbox:
        if self._inbox is None:
            raise RuntimeError(_NO_CONNECTION)
        return self._inbox

    def _open(self) -> Inbox:
        """Return the inbox; make one if there is none."""
        if self._inbox is None:
            self._use(Inbox(self._find_lane(), self._limits, self.note_dropped))
        return self._present_inbox()

    async def _revive(self) -> Inbox:
        """Return an inbox that hasn't ended, of the present push lane; if need be a new one with the same topics."""
        inbox, lane = self._open(), self._find_lane()
        if inbox.error is None and inbox.lane is lane:
            return inbox
        async with self._lock:  # one at a time: the others find what the first one has made
            inbox, lane = self._open(), self._find_lane()
            if inbox.error is None and inbox.lane is lane:
                return inbox
            anew = Inbox(lane, self._limits, self.note_dropped)
            names = {kind: self._to_bytes(self._staying(kind)) for kind in Kind}
            if any(names.values()):
                anew.missed(CONNECTION_LOST)
                await anew.subscribe(names, timeout=self._timeout)
            if self._inbox is not inbox:
                anew.leave()
                raise ClientClosedError("this pubsub object was closed")
            anew.items.extendleft(reversed(inbox.items))
            self._use(anew)
            return anew

    def _use(self, inbox: Inbox) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()
        self._inbox, self.connection = inbox, LaneView(inbox.lane)
        self._finalizer = weakref.finalize(self, inbox.abandoned)
        self._finalizer.atexit = False

    async def _subscribe(self, kind: Kind, args: tuple[Any, ...], handlers: dict[str, Any]) -> None:
        wanted = parse_pubsub_subscriptions(args, handlers)
        if not wanted:
            raise ResponseError(f"wrong number of arguments for '{kind.subscribe.lower()}' command")
        topics, leaving = self._topics(kind)
        added = self._normalize_keys(wanted)
        for ending in list(self._endings):  # what was unsubscribed before this is so before this
            self._end(ending)
        before = {name: topics[name] for name in added if name in topics}
        left = leaving & added.keys()
        # Before it is sent: somebody who waits for messages may have the first one before this goes on.
        topics.update(added)
        leaving -= left
        try:
            await self.execute_command(kind.subscribe, *wanted)
        except BaseException:  # refused, late or cancelled: redis-py's notes say what they said before
            self._roll_back(kind, added, before, left)
            raise

    def _roll_back(self, kind: Kind, added: dict[Any, Any], before: dict[Any, Any], left: set[Any]) -> None:
        """Undo the notes of a call that has failed, but not those of others."""
        topics, leaving = self._topics(kind)
        inbox = self._inbox
        for name, handler in added.items():
            if name in before:
                if topics.get(name) is handler:
                    topics[name] = before[name]
            elif inbox is None or self._to_bytes((name,))[0] not in inbox.wanted[kind]:
                topics.pop(name, None)
        leaving |= left & topics.keys()

    def _staying(self, kind: Kind) -> list[Any]:
        topics, leaving = self._topics(kind)
        return [name for name in topics if name not in leaving]

    def _topics(self, kind: Kind) -> tuple[dict[Any, Any], set[Any]]:
        """Return redis-py's own notes: handlers by topic, and the topics that are being unsubscribed."""
        match kind:
            case Kind.CHANNEL:
                return self.channels, self.pending_unsubscribe_channels
            case Kind.PATTERN:
                return self.patterns, self.pending_unsubscribe_patterns
            case Kind.SHARD:
                return self.shard_channels, self.pending_unsubscribe_shard_channels

    def _forget_all(self) -> None:
        self.channels: dict[Any, Any] = {}
        self.pending_unsubscribe_channels: set[Any] = set()
        self.patterns: dict[Any, Any] = {}
        self.pending_unsubscribe_patterns: set[Any] = set()
        self.shard_channels: dict[Any, Any] = {}
        self.pending_unsubscribe_shard_channels: set[Any] = set()

    def _to_bytes(self, names: Iterable[Any]) -> list[bytes]:
        return [bytes(self.encoder.encode(name)) for name in names]


class _Names(dict[Any, Any]):
    """The names of channels as they are shown, by what the server calls them: decoded once, not for each message."""

    def __init__(self, text: Callable[[Any], Any]) -> None:
        super().__init__()
        self._text = text

    def __missing__(self, name: bytes) -> Any:
        if len(self) >= _MOST_NAMES:
            self.clear()
        shown = self[name] = self._text(name)
        return shown


async def _hand_over(takes: Callable[[Any], Any], message: Any) -> dict[str, Any] | None:
    """Give a message to its handler; return what is left of it for others: nothing."""
    returned = takes(message)
    if isawaitable(returned):
        await returned
    return None


def _same(value: Any) -> Any:
    return value
