"""Listeners of events.

Rules of this file:

1. Listeners are called in the order of their registration, at a later turn of the loop, in the context in which
   they were registered. So nothing that they do can disturb what was going on when the event happened.
2. Whatever a listener returns is awaited, if it can be and isn't a future or task, which goes on by itself. Until that
   is done the next events wait for it, a limited number of them.
3. A listener that raises becomes an ``error`` event; a listener of ``error`` that raises is logged.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from aioredis_kit.client.journal import in_words
from aioredis_kit.events import EVENT_NAMES, Event, Failed
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.transport.tasks import foreign

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

BACKLOG: Final = 100
"""How many events may wait for one asynchronous listener."""


class Spawner(Protocol):
    """Where an event happens: a life of the client, which runs the asynchronous listeners.

    Attributes:
        loop: The event loop.
        has_ended: Whether nothing is emitted any more.
        work: What is being awaited for listeners.
    """

    loop: asyncio.AbstractEventLoop
    has_ended: bool
    work: dict[object, Work]

    def spawn(self, function: Callable[[], Awaitable[None]], *, name: str, context: contextvars.Context) -> bool:
        """Run a function as a task of the client's, in a context; tell whether that can still be done."""
        ...


class Listener:
    """One registered function.

    Attributes:
        function: What is called.
        only_once: Whether it is for the next event only.
        context: What it is called in.
        is_off: Whether it was taken off.
    """

    def __init__(self, function: Callable[..., Any], *, only_once: bool) -> None:
        self.function = function
        self.only_once = only_once
        self.context = contextvars.copy_context()
        self.is_off = False


class Work:
    """What one listener is busy with in one life of the client.

    Attributes:
        backlog: The events that wait for it.
        done: Done when all of that was awaited.
        task: The task that awaits it, once there is one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.backlog: deque[Event] = deque()
        self.done: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[Any] | None = None


class Listeners:
    """All listeners of one client.

    Attributes:
        dropped: How many events were not delivered because too many waited for an asynchronous listener.
    """

    def __init__(self) -> None:
        self._by_event: dict[str, list[Listener]] = {}
        self.dropped = 0

    def add(self, event: str, function: Callable[..., object], *, only_once: bool) -> None:
        """Register a function.

        Raises:
            ConfigurationError: There is no such event, or the listener can't be called.
        """
        if event not in EVENT_NAMES:
            raise ConfigurationError(f"there is no event {event!r}: the events are {', '.join(EVENT_NAMES)}")
        if not callable(function):
            raise ConfigurationError(f"the listener of {event!r} is {type(function).__name__!r}: it must be callable")
        # A new list: somebody may be going through the old one.
        self._by_event[event] = [*self._by_event.get(event, ()), Listener(function, only_once=only_once)]

    def remove(self, event: str, function: Callable[..., object]) -> bool:
        """Undo the latest registration of a function; return whether there was one."""
        listeners = self._by_event.get(event, [])
        for listener in reversed(listeners):
            if listener.function == function:
                self._forget(event, listener)
                return True
        return False

    def has_any(self, event: str) -> bool:
        """Return whether anybody listens to an event."""
        return bool(self._by_event.get(event))

    def emit(self, event: Event, spawner: Spawner) -> None:
        """Let the listeners of an event be called at the loop's next turn."""
        listeners = self._by_event.get(event.name, ())
        if not listeners and isinstance(event, Failed):
            fields = {"redis_event": event.name, "redis_error": type(event.error).__name__}
            logger.warning("%s", in_words(event.error), extra=fields)
        for listener in listeners:
            if listener.only_once:
                self._forget(event.name, listener)
            spawner.loop.call_soon(self._call, listener, event, spawner, context=listener.context)

    def report(self, error: BaseException, spawner: Spawner) -> None:
        """Let what somebody's own code has raised be an event."""
        if not isinstance(error, Exception):
            error = RuntimeError(repr(error)).with_traceback(error.__traceback__)
        self.emit(Failed(error), spawner)

    async def wait_idle(self, spawner: Spawner) -> None:
        """Wait until all that listeners returned was awaited, except by the current task.

        Cancellation:
            Safe.
        """
        own = asyncio.current_task()
        while busy := [work.done for work in spawner.work.values() if work.task is None or work.task is not own]:
            await asyncio.wait(busy)

    def _forget(self, event: str, listener: Listener) -> None:
        listener.is_off = True
        self._by_event[event] = [other for other in self._by_event[event] if other is not listener]

    def _call(self, listener: Listener, event: Event, spawner: Spawner) -> None:
        if (work := spawner.work.get(listener)) is not None:
            if len(work.backlog) < BACKLOG:
                work.backlog.append(event)
            else:
                self.dropped += 1
            return
        try:
            returned = listener.function(*event.arguments)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the listener is the user's code: it may raise anything
            self._raised(event, error, spawner)
            return
        if not inspect.isawaitable(returned) or asyncio.isfuture(returned):
            return
        job = functools.partial(self._work_off, listener, event, returned, spawner)
        if spawner.spawn(job, name=f"listener:{event.name}", context=listener.context):
            spawner.work[listener] = Work(spawner.loop)
        elif inspect.iscoroutine(returned):
            returned.close()

    async def _work_off(self, listener: Listener, event: Event, returned: Awaitable[Any], spawner: Spawner) -> None:
        """Await what a listener returned, then call it for the events that waited meanwhile."""
        work = spawner.work[listener]
        work.task = asyncio.current_task()
        call: Callable[[], Any] = lambda: returned  # noqa: E731  # it was called already
        try:
            while True:
                try:
                    await foreign(call)
                except Exception as error:  # noqa: BLE001  # the listener is the user's code: it may raise anything
                    self._raised(event, error, spawner)
                if not work.backlog or listener.is_off:
                    return
                event = work.backlog.popleft()
                call = functools.partial(listener.function, *event.arguments)
        finally:
            del spawner.work[listener]
            work.done.set_result(None)

    def _raised(self, event: Event, error: BaseException, spawner: Spawner) -> None:
        if isinstance(event, Failed) or spawner.has_ended:
            logger.error("a listener of %r raised", event.name, exc_info=error)
        else:
            self.report(error, spawner)
