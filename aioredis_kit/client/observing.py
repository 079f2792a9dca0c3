"""Listening to a client's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioredis_kit.client.base import ClientCore

ListenerT = TypeVar("ListenerT", bound="Callable[..., object]")


class Observing:
    """The part of a client that has to do with events."""

    _core: ClientCore

    def on(self, event: str, listener: ListenerT | None = None) -> Any:
        """Call a function whenever an event happens. Without a listener it returns a decorator.

        Listeners are called at the loop's next turn, in the order of their registration, in the context in which
        they were registered. Asynchronous ones handle one event at a time, and at most 100 wait for each.

        Args:
            event: ``connect``, ``ready``, ``reconnecting(retries, delay)``, ``error(exception)``, ``end``,
                ``terminated(cause)``, ``credentials-renewed(expires_at)``, ``reauthenticated``,
                ``ping-interval(latency)``, ``reply-orphaned(command, reply)``, ``invalidate(key)`` (``None``: any key
                may have changed) or ``sharded-channel-moved(channel)``.
            listener: A function or coroutine function. What it returns is awaited, unless it is a future or task.

        Raises:
            ConfigurationError: There is no such event, or the listener can't be called.
        """
        return self._register(event, listener, only_once=False)

    def once(self, event: str, listener: ListenerT | None = None) -> Any:
        """As ``on``, for the next time only."""
        return self._register(event, listener, only_once=True)

    def off(self, event: str, listener: Callable[..., object]) -> bool:
        """Undo the latest ``on`` or ``once`` of a listener; return whether there was one."""
        return self._core.listeners.remove(event, listener)

    async def wait_for(self, event: str, *, timeout: float | None = None) -> Any:
        """Wait until an event happens, and return its argument, or a tuple of them if it has several.

        Args:
            event: As for ``on``.
            timeout: How long to wait, in seconds; ``None``: as long as the client is open.

        Raises:
            TimeoutError: It did not happen in time.
            ClientClosedError: The client was closed, or gave up, before it happened.
            ConfigurationError: There is no such event.

        Cancellation:
            Safe.
        """
        return await self._core.wait_for(event, timeout)

    def _register(self, event: str, listener: ListenerT | None, *, only_once: bool) -> Any:
        def register(function: ListenerT) -> ListenerT:
            self._core.listeners.add(event, function, only_once=only_once)
            return function

        return register if listener is None else register(listener)
