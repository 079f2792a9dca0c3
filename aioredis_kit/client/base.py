"""The client's core: one life from ``connect`` to the end, shared by all views of a client.

Rules of this file:

1. The core never refers to a façade: one that is collected while the client is open ends the core.
2. ``loop`` is the loop on which commands may be issued, and ``None`` while there is none. One comparison with it
   tells a command that everything is as it should be.
3. The state changes in ``_start``, ``happened``, ``_end`` and ``close`` only.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
import os
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import anyio

from aioredis_kit.client.listeners import Listeners
from aioredis_kit.events import Ended, Event, Failed, Ready, Reconnecting, Terminated
from aioredis_kit.exceptions import (
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    KitError,
    ReplyProtocolError,
    one_for_each,
)
from aioredis_kit.lanes.endpoint import Endpoint
from aioredis_kit.policy.retry import delay_after_refusal
from aioredis_kit.routing.single import SingleRouter
from aioredis_kit.transport.tasks import Job, Supervisor

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from aioredis_kit.client.plans import Plans
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.options import CommandOptions
    from aioredis_kit.routing.router import Router
    from aioredis_kit.transport.command import Command


logger = logging.getLogger(__name__)


class ClientState(enum.Enum):
    """What a client is doing."""

    NEW = "never connected"
    CONNECTING = "connecting"
    READY = "ready"
    RECONNECTING = "reconnecting"
    CLOSING = "closing"
    CLOSED = "closed"
    TERMINATED = "terminated"


_OPEN = frozenset({ClientState.CONNECTING, ClientState.READY, ClientState.RECONNECTING})


class ClientCore:
    """The part of a client that lives as long as its connections.

    Args:
        equipment: What its connections are made of.

    Attributes:
        equipment: The same.
        state: What it is doing.
        loop: The loop on which commands may be issued now.
        router: Where commands go, while it is open.
        dispatch: The router's.
        listeners: The listeners of its events.
    """

    router: Router
    dispatch: Callable[[Command], None]

    def __init__(self, equipment: Equipment) -> None:
        self.equipment = equipment
        self.state = ClientState.NEW
        self.loop: asyncio.AbstractEventLoop | None = None
        self.listeners = Listeners(self)
        self._plans: weakref.WeakSet[Plans] = weakref.WeakSet()
        self._shortest_timeout = math.inf
        self._home: asyncio.AbstractEventLoop | None = None  # the loop that it lives on, while it is open
        self._owner = (0, 0)  # the process and the thread of that loop
        self._supervisor: Supervisor | None = None
        self._outcome: asyncio.Future[KitError | None]  # of connecting: `None` or why it failed
        self._connecting = 0  # how many callers of `connect` wait for it
        self._is_wanted = False  # a command needs the connection, too
        self._closing: asyncio.Future[None] | None = None
        self._end_cause: KitError | None = None  # why it was terminated
        self._latest_failure: Exception | None = None
        self._has_fallen_back = False  # to RESP2, and said so

    @property
    def is_open(self) -> bool:
        """See ``RedisClient.is_open``."""
        return self.state in _OPEN

    @property
    def is_ready(self) -> bool:
        """See ``RedisClient.is_ready``."""
        return self.loop is not None and self.router.is_ready

    def forget_plans(self) -> None:
        """Make all plans anew."""
        for plans in self._plans:
            plans.by_name.clear()

    def add_view(self, plans: Plans, options: CommandOptions) -> None:
        """Keep the plans of a view in step with what is negotiated, and its time-out in mind."""
        self._plans.add(plans)
        if options.timeout is not None:
            self._shortest_timeout = min(self._shortest_timeout, options.timeout)
            if self._home is not None:
                self.router.expect_timeout(self._shortest_timeout)

    # Opening.

    async def connect(self) -> None:
        """See ``RedisClient.connect``."""
        loop = asyncio.get_running_loop()
        if self._closing is not None:
            await asyncio.wait((self._closing,))
        self.check_home()
        if not self.is_open:
            self._start(loop)
        if self.state is ClientState.READY:
            return
        self._connecting += 1
        try:
            await self._wait_ready()
        finally:
            self._connecting -= 1

    def admit(self) -> asyncio.AbstractEventLoop:
        """Let a command in that found the client not open: open it, or say why not. Returns its loop.

        Raises:
            ClientClosedError: The client was closed, or gave up.
            RuntimeError: It belongs to another loop, thread or process.
        """
        loop = asyncio.get_running_loop()
        self.check_home()
        if self.state is ClientState.NEW:
            self._start(loop)
            self._is_wanted = True
        elif self.loop is None:
            raise self._closed_error()
        return loop

    async def _wait_ready(self) -> None:
        outcome = self._outcome
        timeout = self.equipment.options.initial_connect_timeout
        try:
            await asyncio.wait((outcome,), timeout=timeout)
        except asyncio.CancelledError:
            if self._connecting == 1 and not self._is_wanted and not outcome.done():
                await self._abort_connecting()
            raise
        if not outcome.done():
            cause = self._latest_failure
            await self._abort_connecting()
            address = str(self.equipment.dialler.address)
            raise ConnectTimeoutError(
                f"{address} was not ready within {timeout:g} seconds (initial_connect_timeout)"
                + (f"; last: {cause}" if cause is not None else ""),
                address=address,
            ) from cause
        if (error := outcome.result()) is not None:
            await self._wait_ended()
            raise one_for_each(error)

    async def _abort_connecting(self) -> None:
        self.destroy()
        with anyio.CancelScope(shield=True):
            await self._wait_ended()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the client: from here on it has tasks."""
        self._home = self.loop = loop
        self._owner = (os.getpid(), threading.get_ident())
        self._end_cause = self._latest_failure = None
        self._is_wanted = False
        self.state = ClientState.CONNECTING
        self.forget_plans()  # they know what was done on the connections of an earlier life
        self._outcome = loop.create_future()
        self.router = SingleRouter(Endpoint(self, self.equipment, loop=loop))
        self.router.expect_timeout(self._shortest_timeout)
        self.dispatch = self.router.dispatch
        address = self.equipment.dialler.address
        self._supervisor = Supervisor(name=f"aioredis-kit:{address}", cancelled=self.destroy)
        self._supervisor.start()
        self._supervisor.spawn(Job(self.router.run, name="link", failed=self._job_failed, given_up=self._hopeless))

    def check_home(self) -> None:
        """See that a client that is open is used where it lives.

        Raises:
            RuntimeError: It belongs to another loop, thread or process.
        """
        process = self._owner[0]
        if self._home is not None and os.getpid() != process:
            raise RuntimeError(
                f"this client was opened in process {process} and is used in its forked child {os.getpid()}: "
                "create a client in the child"
            )
        loop = asyncio.get_running_loop()
        home = self._home
        if home is None or home is loop:
            return
        if home.is_closed():
            warnings.warn(
                f"the event loop of an open client was closed; what was pending on it is lost: {home!r}",
                ResourceWarning,
                stacklevel=4,
                source=self,
            )
            self._home = self.loop = self._supervisor = None
            self.state = ClientState.NEW
            return
        raise RuntimeError(
            f"this client belongs to {home!r} of thread {self._owner[1]} and is used on {loop!r} of thread "
            f"{threading.get_ident()}: create a client for each event loop, or close it before"
        )

    # Closing.

    async def close(self, *, is_final: bool) -> None:
        """See ``RedisClient.close`` and ``RedisClient.aclose``."""
        last = ClientState.CLOSED if is_final else ClientState.NEW
        if self._closing is not None:
            await asyncio.wait((self._closing,))
        if not self.is_open:
            await self._wait_ended()
            self.state = last
            return
        loop = asyncio.get_running_loop()
        self.check_home()
        self._closing = closing = loop.create_future()
        self.state, self.loop = ClientState.CLOSING, None
        try:
            await asyncio.wait((self.router.close(self._closed_error()),), timeout=self.equipment.options.close_timeout)
        finally:  # also where it was cancelled: closing becomes destroying
            self._end(last)
            self._closing = None
            closing.set_result(None)
        with anyio.CancelScope(shield=True):
            await self._wait_ended()

    def destroy(self) -> None:
        """See ``RedisClient.destroy``."""
        if self._home is not None:
            self._end(ClientState.CLOSED)

    def abandoned(self) -> None:
        """No façade refers to the client any more: destroy it, from whatever thread this is."""
        home = self._home
        if home is None or os.getpid() != self._owner[0]:
            return
        warnings.warn(
            f"a client of {self.equipment.dialler.address} was not closed", ResourceWarning, stacklevel=2, source=self
        )
        if not home.is_closed():
            home.call_soon_threadsafe(self.destroy)

    def _end(self, state: ClientState, cause: ConnectError | None = None) -> None:
        """End all that is pending and let the jobs end. The one way out of being open."""
        home, supervisor = self._home, self._supervisor
        if home is None or supervisor is None:
            return
        self.state, self.loop, self._end_cause = state, None, cause
        refusal = cause or self._closed_error()
        self.router.destroy(refusal)
        if not self._outcome.done():
            self._outcome.set_result(refusal)
        if cause is not None:
            self.listeners.emit(Terminated(cause), home)
            self.listeners.emit(Failed(cause), home)
        else:
            self.listeners.emit(Ended(), home)
        self._home = None
        supervisor.spawn(Job(self._wind_up, name="end", failed=self._job_failed, given_up=self._hopeless))

    async def _wind_up(self) -> None:
        """Let the listeners hear of the end, then end all jobs."""
        supervisor = self._supervisor
        try:
            async with asyncio.timeout(self.equipment.options.close_timeout):
                await self.listeners.wait_idle()
        except TimeoutError:
            pass
        if supervisor is not None:
            supervisor.stop()

    async def _wait_ended(self) -> None:
        if self._supervisor is not None:
            await self._supervisor.wait_stopped()
            await self.router.wait_closed()

    def _closed_error(self) -> ClientClosedError:
        cause = self._end_cause
        error = ClientClosedError(
            "the client is closed" if cause is None else f"the client gave up reconnecting: {cause}; call connect()"
        )
        error.__cause__ = cause
        return error

    # What the endpoint tells.

    def happened(self, event: Event) -> None:
        """See ``EndpointOwner``."""
        if self._home is None:
            return
        match event:
            case Ready(protocol):
                self.state = ClientState.READY
                self._note_protocol(protocol)
                for plans in self._plans:
                    plans.negotiated(protocol)
                if not self._outcome.done():
                    self._outcome.set_result(None)
            case Reconnecting():
                if self.state is ClientState.READY:
                    self.state = ClientState.RECONNECTING
            case Failed(error):
                self._latest_failure = error
        self.listeners.emit(event, self._home)

    def _note_protocol(self, protocol: int) -> None:
        if protocol == 2 and self.equipment.options.protocol is None and not self._has_fallen_back:
            self._has_fallen_back = True
            logger.info("%s knows no RESP3: RESP2 is spoken", self.equipment.dialler.address)

    def given_up(self, error: ConnectError) -> None:
        """See ``EndpointOwner``."""
        self._end(ClientState.TERMINATED, error)

    def name_connections(self, command: Command) -> None:
        """Take over what ``CLIENT SETNAME`` has done to one connection, for those to come."""
        self.router.configure(command)

    async def wait_for(self, event: str, timeout: float | None) -> Any:
        """See ``Observing.wait_for``."""
        happened: asyncio.Future[tuple[object, ...]] = asyncio.get_running_loop().create_future()

        def note(*arguments: object) -> None:
            if not happened.done():
                happened.set_result(arguments)

        def note_end(*_: object) -> None:
            if not happened.done():
                happened.set_exception(self._closed_error())

        self.listeners.add(event, note, only_once=True)
        for end in {"end", "terminated"} - {event}:
            self.listeners.add(end, note_end, only_once=True)
        try:
            async with asyncio.timeout(timeout):
                arguments = await happened
        finally:
            self.listeners.remove(event, note)
            for end in ("end", "terminated"):
                self.listeners.remove(end, note_end)
        return arguments[0] if len(arguments) == 1 else arguments or None

    # Jobs.

    async def _send_again(self, command: Command) -> Any:
        self.router.dispatch(command)
        try:
            await command
        except BaseException:
            command.abandon()
            raise
        return command.reply

    def spawn(self, function: Callable[[], Awaitable[None]], *, name: str, context: contextvars.Context) -> None:
        """See ``listeners.Spawner``."""
        if self._supervisor is not None:
            self._supervisor.spawn(Job(function, name=name, failed=self._job_failed, given_up=self._hopeless), context)

    def _job_failed(self, error: Exception) -> None:
        self.happened(Failed(error))

    def _hopeless(self, error: Exception) -> None:
        address = str(self.equipment.dialler.address)
        failure = ConnectError(f"a job of the client keeps failing: {error!r}", address=address)
        failure.__cause__ = error
        self._end(ClientState.TERMINATED, failure)

    # Commands.

    async def settle(self, command: Command, reply: Any) -> Any:
        """Raise what a command got instead of a reply, or send it again where the server did nothing.

        Raises:
            BaseException: What took the reply's place.

        Cancellation:
            As for a command.
        """
        if not isinstance(reply, BaseException):
            error = ReplyProtocolError("a push came where a reply was due", maybe_executed=True)
            command.lane.drop(error)
            raise error
        attempt = 0
        while isinstance(reply, BaseException):
            refusal = reply
            if (
                isinstance(refusal, KitError)
                or not isinstance(refusal, Exception)
                or not self.router.report(command, refusal)
            ):
                raise refusal
            delay = delay_after_refusal(attempt)
            attempt += 1
            clock, loop = self.equipment.clock, self.loop
            if loop is None or clock() + delay >= command.due:
                raise refusal
            await asyncio.sleep(delay)
            command = command.again()
            reply = await self._send_again(command)
            if isinstance(reply, KitError) and not reply.maybe_executed:
                raise refusal
        return reply
