"""One life of a client: from being opened to the end of its last task.

A client may be opened again while an earlier life still winds up, so all that belongs to one life is here, and what
an ended one still has to say is not heard any more.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Protocol

from aioredis_kit.client.listeners import Work
from aioredis_kit.events import Ended, Event, Failed, Ready, Terminated
from aioredis_kit.exceptions import ConnectError, KitError
from aioredis_kit.lanes.endpoint import Endpoint
from aioredis_kit.routing.single import SingleRouter
from aioredis_kit.transport.tasks import Job, Supervisor

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from aioredis_kit.client.listeners import Listeners
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.routing.router import Router


class LifeOwner(Protocol):
    """What a life tells its client."""

    def happened(self, life: Life, event: Event) -> None:
        """Something happened that changes what the client is doing."""

    def disconnected(self, life: Life) -> None:
        """There is no connection any more."""

    def given_up(self, life: Life, error: ConnectError) -> None:
        """There will be no connection any more."""

    def invalidated(self, life: Life, keys: list[bytes] | None) -> None:
        """These keys have changed that a shared connection had read, or may have; ``None``: perhaps all."""

    def untracked(self, life: Life, source: object) -> None:
        """See ``SharedLaneOwner``."""

    def cancelled(self, life: Life) -> None:
        """Somebody else cancelled its tasks."""


class Belonging(Protocol):
    """What else has sockets for as long as a life lasts."""

    def hang_up(self) -> None:
        """Close them at once."""

    async def wait_hung_up(self) -> None:
        """Wait until they are closed."""


class Life:
    """Owns the connections and the tasks of one life.

    Lifecycle: made open; ``end`` once; then ``wait_ended``.

    Args:
        owner: The client.
        equipment: What its connections are made of.
        listeners: Hear of its events, until it has ended.
        loop: Its event loop, which is running.

    Attributes:
        loop: The event loop.
        process: The process that it was opened in.
        thread: The thread that it was opened in.
        router: Where commands go.
        outcome: Of connecting: ``None``, or why it failed. A new one after each loss.
        is_wanted: Whether somebody needs it who isn't waiting in ``connect``.
        waiters: How many wait in ``connect``.
        latest_failure: The last error of connecting.
        has_ended: Whether it is over; nothing of it is heard any more.
        work: What is being awaited for listeners.
        belongings: What else has sockets.
    """

    def __init__(
        self, owner: LifeOwner, equipment: Equipment, listeners: Listeners, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.process = os.getpid()
        self.thread = threading.get_ident()
        self.router: Router = SingleRouter(Endpoint(self, equipment, loop=loop))
        self.outcome: asyncio.Future[KitError | None] = loop.create_future()
        self.is_wanted = False
        self.waiters = 0
        self.latest_failure: Exception | None = None
        self.work: dict[object, Work] = {}
        self.belongings: set[Belonging] = set()
        self._owner = owner
        self._address = str(equipment.dialler.address)
        self._close_timeout = equipment.options.close_timeout
        self._listeners = listeners
        self.has_ended = False
        self._supervisor = Supervisor(name=f"aioredis-kit:{self._address}", cancelled=lambda: owner.cancelled(self))
        self._supervisor.start()
        self.router.start()

    def end(self, refusal: KitError, *, is_terminated: bool) -> None:
        """End all that is pending, tell the listeners, and let the tasks end. Idempotent."""
        if self.has_ended:
            return
        self.has_ended = True
        self.router.destroy(refusal)
        for each in self.belongings:
            each.hang_up()
        if not self.outcome.done():
            self.outcome.set_result(refusal)
        if is_terminated:
            self._listeners.emit(Terminated(refusal), self)
            self._listeners.emit(Failed(refusal), self)
        else:
            self._listeners.emit(Ended(), self)
        self._supervisor.spawn(self._job(self._wind_up, "end"))

    async def wait_ended(self) -> None:
        """Wait until no task runs and no socket is open any more, after ``end``.

        Cancellation:
            Safe.
        """
        await self._supervisor.wait_stopped()
        await self.router.wait_closed()
        for each in self.belongings:
            await each.wait_hung_up()

    def spawn(self, function: Callable[[], Awaitable[None]], *, name: str, context: contextvars.Context) -> bool:
        """See ``listeners.Spawner``."""
        return self._supervisor.spawn(self._job(function, name), context)

    def spawn_work(self, function: Callable[[], Awaitable[None]], *, name: str, context: contextvars.Context) -> bool:
        """See ``pubsub.listening.Host``."""
        work = Work(self.loop)

        async def run() -> None:
            work.task = asyncio.current_task()
            try:
                await function()
            finally:
                del self.work[work]
                work.done.set_result(None)

        is_spawned = self.spawn(run, name=name, context=context)
        if is_spawned:
            self.work[work] = work
        return is_spawned

    def spawn_job(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """See ``EndpointOwner``."""
        return self._supervisor.spawn(self._job(function, name))

    # What the endpoint tells.

    def happened(self, event: Event) -> None:
        """See ``EndpointOwner``."""
        if self.has_ended:
            return
        match event:
            case Ready():
                if not self.outcome.done():
                    self.outcome.set_result(None)
            case Failed(error):
                self.latest_failure = error
        self._owner.happened(self, event)
        self._listeners.emit(event, self)

    def disconnected(self) -> None:
        """See ``EndpointOwner``."""
        if not self.has_ended:
            if self.outcome.done():
                self.outcome = self.loop.create_future()
            self._owner.disconnected(self)

    def given_up(self, error: ConnectError) -> None:
        """See ``EndpointOwner``."""
        self._owner.given_up(self, error)

    def invalidated(self, keys: list[bytes] | None) -> None:
        """See ``EndpointOwner``."""
        self._owner.invalidated(self, keys)

    def untracked(self, source: object) -> None:
        """See ``EndpointOwner``."""
        self._owner.untracked(self, source)

    async def _wind_up(self) -> None:
        """Let the listeners hear of the end, then end all jobs."""
        try:
            async with asyncio.timeout(self._close_timeout):
                await self._listeners.wait_idle(self)
        except TimeoutError:
            pass
        finally:
            self._supervisor.stop()

    def _job(self, function: Callable[[], Awaitable[None]], name: str) -> Job:
        return Job(function, name=name, failed=lambda error: self.happened(Failed(error)), given_up=self._hopeless)

    def _hopeless(self, error: Exception) -> None:
        failure = ConnectError(f"a job of the client keeps failing: {error!r}", address=self._address)
        failure.__cause__ = error
        self.given_up(failure)
