"""Subscribing: redis-py's ``pubsub()``, listeners as in node-redis, and subscriptions to iterate over.

All of it is on the client's push lane, and subscribed again after a lost connection.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from redis.asyncio.keyspace_notifications import AsyncKeyspaceNotifications

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy.subscriptions import Kind
from aioredis_kit.pubsub.mailbox import LIMIT, Limits
from aioredis_kit.pubsub.message import Wording
from aioredis_kit.pubsub.stock import PubSub
from aioredis_kit.pubsub.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType

    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.lanes.push import Names, PushLane
    from aioredis_kit.options import CommandOptions
    from aioredis_kit.pubsub.listening import Listener
    from aioredis_kit.pubsub.mailbox import Overflow
    from aioredis_kit.pubsub.message import ChannelName


class WithPubSub:
    """What a client and a session have in common: redis-py's interface."""

    connection_pool: Any
    _options: CommandOptions
    get_encoder: Callable[[], Any]

    def _client_core(self) -> ClientCore:
        """Return the core of the client whose push lane is used."""
        raise AssertionError  # each class knows its own

    def pubsub(
        self,
        *,
        limit: int = LIMIT,
        overflow: Overflow = "drop_oldest",
        **options: Any,
    ) -> PubSub:
        """Return redis-py's object for subscriptions. See ``pubsub.stock`` for what is other than there.

        Args:
            limit: How many messages may wait to be taken.
            overflow: What happens when one more comes: see ``subscribe``.
            options: redis-py's: ``ignore_subscribe_messages``, ``shard_hint``, ``push_handler_func``.

        Raises:
            ConfigurationError: The limits make no sense.
        """
        core = self._client_core()
        encoder = options.pop("encoder", None) or self.get_encoder()
        return PubSub(
            self.connection_pool,
            find_lane=self._push_lane,
            wording=Wording(core.equipment.options, decode=encoder.decode_responses),
            encoder=encoder,
            timeout=self._options.timeout,
            limits=Limits(limit, overflow),
            **options,
        )

    def keyspace_notifications(
        self,
        key_prefix: str | bytes | None = None,
        ignore_subscribe_messages: bool = True,  # noqa: FBT001, FBT002  # as redis-py
    ) -> AsyncKeyspaceNotifications:
        """Return redis-py's object for notifications about keys. The server must be configured to send them."""
        return AsyncKeyspaceNotifications(
            self,  # type: ignore[arg-type]  # a mixin of the class that it wants
            key_prefix=key_prefix,
            ignore_subscribe_messages=ignore_subscribe_messages,
        )

    def _push_lane(self) -> PushLane:
        return self._client_core().route(()).push


class Subscribing(WithPubSub):
    """The subscriptions of a client."""

    def subscribe(
        self,
        channels: ChannelName | Iterable[ChannelName] = (),
        listener: Listener | None = None,
        *,
        patterns: ChannelName | Iterable[ChannelName] = (),
        shards: ChannelName | Iterable[ChannelName] = (),
        limit: int = LIMIT,
        overflow: Overflow = "drop_oldest",
    ) -> Subscribe:
        """Subscribe to channels: for a listener, or to iterate over.

        ::

            async with client.subscribe("news", patterns=["user:*"]) as messages:
                async for message in messages:
                    ...

            await client.subscribe("news", listener)    # listener(data, channel)

        A second subscriber of a topic costs no command; the last one's leaving unsubscribes. After a lost connection
        everything is subscribed again; ``messages`` has a ``Message`` of the kind ``"gap"`` in the place of what was
        missed.

        Listeners are called one message at a time, and what they return is awaited, if it can be. One that raises, or
        is too slow, becomes an ``error`` event. The same function registered twice is called once.

        Args:
            channels: Channels.
            listener: Called with each message's data and channel, until ``unsubscribe`` or the client's end.
            patterns: Patterns; a listener is told the channel, not the pattern.
            shards: Shard channels.
            limit: How many messages may wait. A listener's first registration decides.
            overflow: What happens when one more comes: ``"drop_oldest"`` and ``"drop_newest"`` leave a gap,
                ``"error"`` ends the subscription with ``QueueFullError`` behind those that wait.

        Raises:
            ConfigurationError: There is nothing to subscribe to, or an argument makes no sense.
        """
        if listener is not None and not callable(listener):
            raise ConfigurationError(
                f"a listener must be callable, not {type(listener).__name__!r}: several channels are given as a list"
            )
        wording = self._wording()
        names = {
            kind: list(dict.fromkeys(wording.all_to_bytes(group)))
            for kind, group in ((Kind.CHANNEL, channels), (Kind.PATTERN, patterns), (Kind.SHARD, shards))
        }
        if not any(names.values()):
            raise ConfigurationError("there is nothing to subscribe to: name a channel, pattern or shard channel")
        return Subscribe(self, names, wording, listener, Limits(limit, overflow))

    async def psubscribe(
        self,
        patterns: ChannelName | Iterable[ChannelName],
        listener: Listener,
        *,
        limit: int = LIMIT,
        overflow: Overflow = "drop_oldest",
    ) -> None:
        """Call a listener with the messages that come by patterns. See ``subscribe``.

        Raises:
            ResponseError: The server refused it.
            CommandTimeoutError: It was not confirmed within ``command_timeout``.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe. The listener is not called.
        """
        await self.subscribe((), listener, patterns=patterns, limit=limit, overflow=overflow)

    async def ssubscribe(
        self,
        shards: ChannelName | Iterable[ChannelName],
        listener: Listener,
        *,
        limit: int = LIMIT,
        overflow: Overflow = "drop_oldest",
    ) -> None:
        """Call a listener with the messages from shard channels. See ``subscribe``.

        Raises:
            ResponseError: The server refused it.
            CommandTimeoutError: It was not confirmed within ``command_timeout``.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe. The listener is not called.
        """
        await self.subscribe((), listener, shards=shards, limit=limit, overflow=overflow)

    async def unsubscribe(
        self, channels: ChannelName | Iterable[ChannelName] | None = None, listener: Listener | None = None
    ) -> None:
        """Call listeners with the messages from channels no longer. What was not subscribed is no error.

        What is iterated over, and what ``pubsub()`` returned, is not concerned.

        Args:
            channels: Channels; ``None``: all that have listeners.
            listener: Which listener; ``None``: all.

        Cancellation:
            Safe. The listeners are not called any more.
        """
        await self._unsubscribe(Kind.CHANNEL, channels, listener)

    async def punsubscribe(
        self, patterns: ChannelName | Iterable[ChannelName] | None = None, listener: Listener | None = None
    ) -> None:
        """Undo ``psubscribe``. Otherwise as ``unsubscribe``.

        Cancellation:
            Safe. The listeners are not called any more.
        """
        await self._unsubscribe(Kind.PATTERN, patterns, listener)

    async def sunsubscribe(
        self, shards: ChannelName | Iterable[ChannelName] | None = None, listener: Listener | None = None
    ) -> None:
        """Undo ``ssubscribe``. Otherwise as ``unsubscribe``.

        Cancellation:
            Safe. The listeners are not called any more.
        """
        await self._unsubscribe(Kind.SHARD, shards, listener)

    async def _unsubscribe(
        self, kind: Kind, names: ChannelName | Iterable[ChannelName] | None, listener: Listener | None
    ) -> None:
        listening = self._client_core().listening
        wanted = None if names is None else self._wording().all_to_bytes(names)
        if listening is not None:
            await listening.remove(kind, wanted, listener, timeout=self._options.timeout)

    async def _listen(self, names: Names, listener: Listener, wording: Wording, limits: Limits) -> None:
        listening = self._client_core().open_listening()
        await listening.add(names, listener, wording, limits, timeout=self._options.timeout)

    async def _begin(self, subscription: Subscription) -> None:
        await subscription.begin(self._push_lane(), timeout=self._options.timeout)

    def _wording(self) -> Wording:
        return Wording(self._client_core().equipment.options, decode=self._options.decode_responses)


class Subscribe:
    """What ``client.subscribe`` returns: awaited it registers the listener, entered it gives messages."""

    __slots__ = ("_client", "_is_used", "_limits", "_listener", "_names", "_subscription", "_wording")

    def __init__(
        self, client: Subscribing, names: Names, wording: Wording, listener: Listener | None, limits: Limits
    ) -> None:
        self._is_used = False
        self._client = client
        self._names = names
        self._wording = wording
        self._listener = listener
        self._limits = limits
        self._subscription: Subscription | None = None

    def __await__(self) -> Generator[Any, None, None]:
        """Subscribe, with a listener.

        Raises:
            ConfigurationError: There is no listener.
            ResponseError: The server refused it.
            CommandTimeoutError: It was not confirmed within ``command_timeout``.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe. The listener is not called.
        """
        self._is_used = True
        if self._listener is None:
            raise ConfigurationError(
                "await client.subscribe(channels, listener) needs a listener; else: async with subscribe(channels)"
            )
        listening = self._client._listen(self._names, self._listener, self._wording, self._limits)  # noqa: SLF001  # a part of it
        return listening.__await__()

    async def __aenter__(self) -> Subscription:
        """Subscribe, and return the messages to iterate over.

        Raises:
            ConfigurationError: There is a listener, or this was entered before.
            ResponseError: The server refused it.
            CommandTimeoutError: It was not confirmed within ``command_timeout``.
            ClientClosedError: The client is closed.

        Cancellation:
            Safe. Nothing is subscribed.
        """
        if self._listener is not None or self._is_used:
            self._is_used = True
            raise ConfigurationError(
                "async with client.subscribe() takes no listener, and can be entered once; with a listener: await it"
            )
        self._is_used = True
        self._subscription = subscription = Subscription(self._names, self._wording, self._limits)
        await self._client._begin(subscription)  # noqa: SLF001  # a part of it
        return subscription

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unsubscribe.

        Cancellation:
            Safe. It waits for nothing.
        """
        if self._subscription is not None:
            self._subscription.end()

    def __del__(self) -> None:
        if not self._is_used:
            warnings.warn(
                "client.subscribe() was neither awaited nor entered: nothing was subscribed",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )
