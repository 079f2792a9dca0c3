"""The client's core: one life from ``connect`` to the end, shared by all views of a client.

Rules of this file:

1. The core never refers to a façade: one that is collected while the client is open ends the core.
2. ``loop`` is the loop on which commands may be issued, and ``None`` while there is none. One comparison with it
   tells a command that everything is as it should be.
3. What belongs to one life of the client is in ``Life``; here is what outlives it.
"""

from __future__ import annotations

import asyncio
import enum
import math
import os
import threading
import warnings
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from aioredis_kit.client import witness
from aioredis_kit.client.issuing import Issuer
from aioredis_kit.client.journal import Journal
from aioredis_kit.client.lenses import Caching
from aioredis_kit.client.life import Life
from aioredis_kit.client.listeners import Listeners
from aioredis_kit.client.observed import ClientOrigin, observation_of
from aioredis_kit.events import Event, Invalidated, Ready
from aioredis_kit.exceptions import (
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    KitError,
    one_for_each,
)
from aioredis_kit.pubsub.listening import Listening
from aioredis_kit.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aioredis_kit.client.life import Belonging
    from aioredis_kit.client.plans import Plans
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.options import CommandOptions
    from aioredis_kit.policy.commands import Arguments
    from aioredis_kit.transport.command import Command, Taker


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


class ClientCore(Issuer):
    """The part of a client that lives as long as its connections.

    Args:
        equipment: What its connections are made of.

    Attributes:
        equipment: The same.
        state: What it is doing.
        loop: The loop on which commands may be issued now.
        lane: Takes commands, while ``loop`` is set.
        listeners: The listeners of its events.
        listening: The listeners of messages, if there ever was one.
        caching: What it does with its cache, if it has one.
        origin: The client as its hooks see it.
        observation: Tells hooks of calls, if one wants to be told.
    """

    lane: Taker

    def __init__(self, equipment: Equipment) -> None:
        self.equipment = equipment
        self.state = ClientState.NEW
        self.loop: asyncio.AbstractEventLoop | None = None
        self.listeners = Listeners()
        self.listening: Listening | None = None
        self.caching = Caching.of(equipment)
        self._plans: weakref.WeakSet[Plans] = weakref.WeakSet()
        self._sessions_plans: weakref.WeakSet[Plans] = weakref.WeakSet()
        self._shortest_timeout = math.inf
        self._life: Life | None = None  # the latest
        self._closing: asyncio.Future[None] | None = None
        self._end_cause: KitError | None = None  # why it was terminated
        self._journal = Journal(str(equipment.dialler.address), equipment.clock, self.listeners)
        self.origin = ClientOrigin(self)
        self.observation = observation_of(self)
        for hook in equipment.options.hooks:
            hook.attached(self.origin)
        if witness.present is not None:
            witness.present.made(self)

    @property
    def client(self) -> ClientCore:
        """Itself: what a session's core has under this name."""
        return self

    @property
    def life(self) -> Life | None:
        """Its latest life, if there ever was one."""
        return self._life

    @property
    def is_open(self) -> bool:
        """See ``RedisClient.is_open``."""
        return self.state in _OPEN

    @property
    def is_ready(self) -> bool:
        """See ``RedisClient.is_ready``."""
        return self.loop is not None and self._life is not None and self._life.router.is_ready

    def statistics(self) -> Statistics:
        """See ``RedisClient.statistics``."""
        numbers = Statistics() if self._life is None else self._life.router.statistics()
        return numbers if self.caching is None else replace(numbers, cache=self.caching.cache.stats())

    def forget_plans(self) -> None:
        """Make all plans anew, those of sessions too."""
        for plans in (*self._plans, *self._sessions_plans):
            plans.by_name.clear()
        self.origin.forget_names()

    def add_session(self, plans: Plans) -> None:
        """Keep the plans of a session in step with what is registered. What they negotiate is their own."""
        self._sessions_plans.add(plans)

    def add_view(self, plans: Plans, options: CommandOptions) -> None:
        """Keep the plans of a view in step with what is negotiated, and its time-out in mind."""
        self._plans.add(plans)
        if options.timeout is not None:
            self._shortest_timeout = min(self._shortest_timeout, options.timeout)
            if self._life is not None:
                self._life.router.expect_timeout(self._shortest_timeout)

    # Opening.

    async def connect(self) -> None:
        """See ``RedisClient.connect``."""
        while self._closing is not None:
            await asyncio.wait((self._closing,))
        self.check_home()
        life = self._life
        if life is None or not self.is_open:
            life = self._open()
        if self.state is ClientState.READY:
            return
        life.waiters += 1
        try:
            await self._wait_ready(life)
        finally:
            life.waiters -= 1
        life.is_wanted = True

    def admit(self) -> asyncio.AbstractEventLoop:
        """Let a command in that found the client not open: open it, or say why not. Returns its loop.

        Raises:
            ClientClosedError: The client was closed, or gave up.
            RuntimeError: It belongs to another loop, thread or process.
        """
        self.check_home()
        if self.state is ClientState.NEW:
            life = self._open()
            life.is_wanted = True
            return life.loop
        raise self.closed_error()

    async def _wait_ready(self, life: Life) -> None:
        timeout = self.equipment.options.initial_connect_timeout
        try:
            await asyncio.wait((life.outcome,), timeout=timeout)
        except asyncio.CancelledError:
            await self._leave(life)
            raise
        if not life.outcome.done():
            cause = life.latest_failure
            await self._leave(life)
            raise ConnectTimeoutError(
                f"{self.equipment.dialler.address} was not ready within {timeout:g} seconds (initial_connect_timeout)"
                + (f"; last: {cause}" if cause is not None else ""),
                address=str(self.equipment.dialler.address),
                attempts=cause.attempts if isinstance(cause, ConnectError) else 1,
            ) from cause
        if (error := life.outcome.result()) is not None:
            await life.wait_ended()
            raise one_for_each(error)

    async def _leave(self, life: Life) -> None:
        """Give a life up that only this caller of ``connect`` wanted."""
        if life is self._life and not life.is_wanted and life.waiters == 1:
            self.destroy()
            with anyio.CancelScope(shield=True):
                await life.wait_ended()

    def _open(self) -> Life:
        """Open the client: from here on it has tasks."""
        loop = asyncio.get_running_loop()
        if self.caching is not None:
            self.caching.join(loop)
        self._end_cause = None
        self.forget_plans()  # they know what was done on the connections of an earlier life
        self.state = ClientState.CONNECTING
        life = self._life = Life(self, self.equipment, self.listeners, loop)
        self.origin.life_began()
        self._journal.opened()
        life.router.expect_timeout(self._shortest_timeout)
        self.loop, self.lane = life.loop, life.router.lane
        if self.caching is not None:
            self.caching.open(life.router.route(()))
        return life

    def check_home(self) -> None:
        """See that a client that is open is used where it lives.

        Raises:
            RuntimeError: It belongs to another loop, thread or process.
        """
        life = self._check_owner()
        if life is not None and asyncio.get_running_loop() is not life.loop:
            raise _stranger(life)

    def _check_owner(self) -> Life | None:
        """Return the life of a client that is open, if this is its process and its loop still exists."""
        life = self._life
        if life is None or self.state is ClientState.NEW or not (self.is_open or self.state is ClientState.CLOSING):
            return None
        if os.getpid() != life.process:
            raise RuntimeError(
                f"this client was opened in process {life.process} and is used in its forked child {os.getpid()}: "
                "create a client in the child"
            )
        if life.loop.is_closed():
            self.origin.life_ended()
            self._life = self.loop = None
            self.state = ClientState.NEW
            if self.caching is not None:
                self.caching.close()
            warnings.warn(
                f"the event loop of an open client was closed; what was pending on it is lost: {life.loop!r}",
                ResourceWarning,
                stacklevel=4,
                source=self,
            )
            return None
        return life

    # Closing.

    async def close(self, *, is_final: bool) -> None:
        """See ``RedisClient.close`` and ``RedisClient.aclose``."""
        last = ClientState.CLOSED if is_final else ClientState.NEW
        while self._closing is not None:
            await asyncio.wait((self._closing,))
        self.check_home()
        life = self._life
        if life is None or not self.is_open:
            if is_final or self.state is ClientState.TERMINATED:
                self.state = last
            if life is not None and life.loop is asyncio.get_running_loop():  # else it ended with its loop
                await life.wait_ended()
            return
        self._closing = closing = life.loop.create_future()
        self.state, self.loop = ClientState.CLOSING, None
        if self.caching is not None:
            self.caching.suspend()
        try:
            timeout = self.equipment.options.close_timeout
            await asyncio.wait((life.router.close(self.closed_error()),), timeout=timeout)
        finally:  # also where it was cancelled: closing becomes destroying
            if self.state is ClientState.CLOSING:
                self._end(life, last)
            elif self.state is ClientState.TERMINATED:  # meanwhile
                self.state = last
            self._closing = None
            closing.set_result(None)
        with anyio.CancelScope(shield=True):
            await life.wait_ended()

    def destroy(self) -> None:
        """See ``RedisClient.destroy``."""
        life = self._check_owner()
        if life is None:
            return
        if threading.get_ident() != life.thread:
            raise _stranger(life)
        self._end(life, ClientState.CLOSED)

    def abandoned(self) -> None:
        """No façade refers to the client any more: destroy it, from whatever thread this is."""
        life = self._life
        if life is None or not self.is_open or os.getpid() != life.process:
            return
        if witness.present is not None:
            witness.present.left_open(self)
        if life.loop.is_closed():
            self.origin.life_ended()
        else:
            life.loop.call_soon_threadsafe(self.cancelled, life)
        warnings.warn(
            f"a client of {self.equipment.dialler.address} was not closed", ResourceWarning, stacklevel=2, source=self
        )

    def _end(self, life: Life, state: ClientState, cause: ConnectError | None = None) -> None:
        """The one way out of being open."""
        self.state, self.loop, self._end_cause = state, None, cause
        if self.caching is not None:
            self.caching.close()
        life.end(cause or self.closed_error(), is_terminated=cause is not None)
        if cause is None:
            self._journal.closed()
        else:
            self._journal.gave_up(cause)
        self.origin.life_ended()

    def closed_error(self) -> ClientClosedError:
        """Return why no command is taken, where that is so because the client is not open."""
        cause = self._end_cause
        error = ClientClosedError(
            "the client is closed" if cause is None else f"the client gave up reconnecting: {cause}; call connect()"
        )
        error.__cause__ = cause
        return error

    # What its life tells.

    def happened(self, life: Life, event: Event) -> None:
        """See ``LifeOwner``."""
        if life is not self._life or not self.is_open:
            return
        self._journal.happened(event)
        if isinstance(event, Ready):
            self.state = ClientState.READY
            self._note_protocol(event.protocol)

    def disconnected(self, life: Life) -> None:
        """See ``LifeOwner``."""
        if life is self._life and self.state is ClientState.READY:
            self.state = ClientState.RECONNECTING

    def given_up(self, life: Life, error: ConnectError) -> None:
        """See ``LifeOwner``."""
        if life is self._life:
            self._end(life, ClientState.TERMINATED, error)

    def invalidated(self, life: Life, keys: list[bytes] | None) -> None:
        """See ``LifeOwner``."""
        if self.caching is not None:
            for each in (None,) if keys is None else keys:
                self.caching.cache.invalidate(each)
        options = self.equipment.options
        if not self.listeners.has_any(Invalidated.name) or options.tracking is None:
            return
        told: list[str | bytes | None] = [None] if keys is None else [*keys]
        if options.decode_responses and keys is not None:
            told = [key.decode(options.encoding, "replace") for key in keys]
        for key in told:
            life.happened(Invalidated(key))

    def untracked(self, life: Life, source: object) -> None:
        """See ``LifeOwner``."""
        if self.equipment.options.tracking is None:
            return
        if self.caching is not None:
            self.caching.lose(source)
        life.happened(Invalidated(None))

    def cancelled(self, life: Life) -> None:
        """See ``LifeOwner``."""
        if life is self._life and (self.is_open or self.state is ClientState.CLOSING):
            if witness.present is not None:
                witness.present.left_open(self)
            self._end(life, ClientState.CLOSED)

    def _note_protocol(self, protocol: int) -> None:
        for plans in self._plans:
            plans.negotiated(protocol)
        if protocol == 2 and self.equipment.options.protocol is None:
            self._journal.fell_back()

    # Commands and events.

    def may_go_again(self, command: Command, refusal: Exception) -> bool:
        """See ``Issuer``."""
        return self._life is not None and self._life.router.report(command, refusal)

    def route(self, args: Arguments) -> Endpoint:
        """Return the endpoint for what isn't simply a command on the shared lane; open the client if need be.

        Raises:
            ClientClosedError: The client was closed, or gave up.
            RuntimeError: It belongs to another loop, thread or process.
        """
        if self.loop is not None:
            self.check_home()
        if self.loop is None:  # also where that loop was closed
            self.admit()
        assert self._life is not None  # noqa: S101  # it is open
        return self._life.router.route(args)

    def adopt(self, belonging: Belonging) -> Endpoint:
        """Let what has sockets of its own end with this life of the client; open the client if need be.

        Raises:
            ClientClosedError: The client was closed, or gave up.
            RuntimeError: It belongs to another loop, thread or process.
        """
        endpoint = self.route(())
        assert self._life is not None  # noqa: S101  # it is open
        self._life.belongings.add(belonging)
        return endpoint

    def spawn(self, function: Callable[[], Awaitable[None]], name: str) -> bool:
        """Run a function as a job of the client; tell whether that can still be done."""
        return self._life is not None and self._life.spawn_job(function, name)

    def open_listening(self) -> Listening:
        """Return the listeners of the messages of the present life; open the client if need be.

        Raises:
            ClientClosedError: The client was closed, or gave up.
            RuntimeError: It belongs to another loop, thread or process.
        """
        lane = self.route(()).push
        assert self._life is not None  # noqa: S101  # it is open
        if self.listening is None or self.listening.lane is not lane:
            self.listening = Listening(lane, self._life)
        return self.listening

    def due(self, options: CommandOptions) -> float:
        """Return when the time is over of what is issued now, on the client's clock."""
        return math.inf if options.timeout is None else self.equipment.clock() + options.timeout

    def name_connections(self, command: Command) -> None:
        """Take over what ``CLIENT SETNAME`` has done to one connection, for those to come."""
        command.lane.configure(command)

    async def wait_for(self, event: str, timeout: float | None) -> Any:
        """See ``Observing.wait_for``."""
        happened: asyncio.Future[tuple[object, ...]] = asyncio.get_running_loop().create_future()

        def note(*arguments: object) -> None:
            if not happened.done():
                happened.set_result(arguments)

        def note_end(*_: object) -> None:
            if not happened.done():
                happened.set_exception(self.closed_error())

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


def _stranger(life: Life) -> RuntimeError:
    try:
        where = f"the event loop {asyncio.get_running_loop()!r}"
    except RuntimeError:
        where = "no event loop"
    return RuntimeError(
        f"this client belongs to the event loop {life.loop!r} of thread {life.thread} and is used on {where} of thread "
        f"{threading.get_ident()}: create a client for each event loop, or close it before"
    )
