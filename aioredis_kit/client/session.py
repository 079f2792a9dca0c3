"""Sessions: a client whose commands have one connection to themselves."""

from __future__ import annotations

import asyncio
import math
import warnings
import weakref
from contextlib import suppress
from inspect import isawaitable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from redis.exceptions import ExecAbortError, ResponseError

from aioredis_kit._redispy import EMPTY_RESPONSE
from aioredis_kit.client.commands import CommandClient
from aioredis_kit.client.detours import block
from aioredis_kit.client.issuing import Issuer
from aioredis_kit.client.subscribing import WithPubSub
from aioredis_kit.exceptions import ClientClosedError, ConnectionLostError, KitError, error_code, one_for_each
from aioredis_kit.policy.commands import Lane
from aioredis_kit.policy.retry import NOTHING_DONE, delay_after_refusal
from aioredis_kit.policy.session import SessionState
from aioredis_kit.transport.command import new_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta
    from types import EllipsisType, TracebackType
    from typing import Self

    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.client.plans import Plan, Plans
    from aioredis_kit.lanes.dedicated import Lease
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.options import CommandOptions
    from aioredis_kit.policy.commands import Arguments, CommandTraits
    from aioredis_kit.transport.command import Command
    from aioredis_kit.transport.units import Unit


class SessionCore(Issuer):
    """Issues commands on one lease.

    Lifecycle: ``begin`` leases a connection; ``end`` gives it back.

    Args:
        client: The core of the client.
        options: How long leasing may take.
        renews: Whether a connection that was lost is replaced by the next command's, as redis-py does.

    Attributes:
        client: The same.
        lease: The connection, while there is one.
        state: What was done to it.
    """

    def __init__(self, client: ClientCore, options: CommandOptions, *, renews: bool) -> None:
        self.client = client
        self.equipment = client.equipment
        self.loop = None
        self.lease: Lease | None = None
        self.state = SessionState()
        self._options = options
        self._renews = renews
        self._plans: weakref.WeakSet[Plans] = weakref.WeakSet()
        self._shortest_timeout = math.inf
        self._endpoint: Endpoint | None = None
        self._beginning: asyncio.Future[None] | None = None
        self._refusal: ClientClosedError | ConnectionLostError | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where its connection leads to, once it has had one."""
        assert self._endpoint is not None  # noqa: S101  # as said
        return self._endpoint

    def add_view(self, plans: Plans, options: CommandOptions) -> None:
        """See ``Issuer``."""
        self._plans.add(plans)
        self.client.add_session(plans)
        if options.timeout is not None:
            self._shortest_timeout = min(self._shortest_timeout, options.timeout)
            if self.lease is not None:
                self.lease.queue.shortest_timeout = self._shortest_timeout

    async def begin(self) -> None:
        """Lease a connection, if there is none.

        Raises:
            PoolExhaustedError: None became free in time.
            ConnectionLostError: It was lost.
            ClientClosedError: The session has ended, or the client.

        Cancellation:
            Safe. Nothing was leased.
        """
        while True:
            while self._beginning is not None:
                await asyncio.wait((self._beginning,))
            if self._refusal is not None:
                raise one_for_each(self._refusal)
            lease = self.lease
            if lease is None:
                break
            self.client.check_home()
            if ending := [call for call in lease.calls if call.is_ending]:
                await asyncio.wait((ending[0].ended,))  # what ends it could end the next one as well
            elif lease.is_lost:
                self._lose()
            else:
                return
        endpoint, due = self.client.route(()), self.client.due(self._options)
        self._beginning = beginning = asyncio.get_running_loop().create_future()
        try:
            desired = await endpoint.desired_behind_fences(due)
            lease = await endpoint.dedicated.acquire("session", due, desired)
        finally:
            self._beginning = None
            beginning.set_result(None)
        self._take(endpoint, lease)

    def end(self) -> None:
        """Give the connection back. Idempotent."""
        self._refusal = self._refusal or ClientClosedError("the session has ended")
        self._give_back()

    def abandoned(self) -> None:
        """No façade refers to it any more."""
        if self.lease is None or self.lease.is_lost:
            return
        loop = self.lease.queue.loop
        if not loop.is_closed():
            loop.call_soon_threadsafe(self.end)
        warnings.warn("a session was not closed", ResourceWarning, stacklevel=2, source=self)

    def reserve(self) -> None:
        """Keep the client's own commands off the connection while they would disturb it."""
        if self.lease is not None:
            self.lease.is_in_transaction = self.state.is_in_transaction
            self.lease.has_own_user = self.state.has_own_user
            self.lease.reserve()

    async def send_units(
        self,
        units: Sequence[Unit],
        dispatched: Callable[..., None] | None = None,  # noqa: ARG002  # nothing of a session's is cached
    ) -> list[Any]:
        """See ``Issuer``. What may block is sent alone, and what follows it when it was answered."""
        replies: list[Any] = []
        popped: list[tuple[Arguments, Any]] = []
        try:
            for blocks, group in groupby(units, key=self._blocks):
                if blocks:
                    for unit in group:
                        replies.append(await self._send_blocking(unit))
                        if self.equipment.commands.classify(unit.commands[0]).is_blocking:  # WAIT takes nothing
                            popped.append((unit.commands[0], replies[-1]))
                else:
                    replies += await self._send_together(tuple(group))
        except KitError as error:
            error.maybe_executed = error.maybe_executed or bool(replies)
            error.replies = (*replies, *error.replies)
            raise
        except asyncio.CancelledError:  # nobody will see what was taken
            for words, reply in popped:
                self.endpoint.dedicated.orphaned(words, reply)
            raise
        return replies

    async def _send_together(self, units: Sequence[Unit]) -> list[Any]:
        self.leased()
        traits = [self.equipment.commands.classify(words) for unit in units for words in unit.all_commands]
        for each in traits:
            self.state.issued(each)
        self.reserve()
        replies = await super().send_units(units)
        for each in traits:
            self.state.answered(each)
        self.reserve()
        return replies

    async def _send_blocking(self, unit: Unit) -> Any:
        unit.lane = self.leased().queue
        (words,) = unit.commands
        reply = await self.block(words, self.equipment.commands.classify(words), unit.options, decode=unit.decode)
        if isinstance(reply, KitError):
            raise reply
        return reply

    def _blocks(self, unit: Unit) -> bool:
        """Whether a unit is a command that may block, alone as it is then."""
        is_alone = not unit.is_transaction and not unit.parts
        return is_alone and self.equipment.commands.classify(unit.commands[0]).block_time(unit.commands[0]) is not None

    async def block(self, args: Arguments, traits: CommandTraits, options: CommandOptions, *, decode: bool) -> Any:
        """Run a command that may block; return its reply, or the exception that takes the place of one.

        Raises:
            CommandTimeoutError: It was not answered within its block time and ``options.timeout`` more.
            ClientClosedError: The session or the client is being closed.

        Cancellation:
            It is unblocked in the background, and a reply that comes all the same is reported.
        """
        return await block(self.endpoint, self.leased(), args, traits, options, decode=decode, gives_back=False)

    @property
    def has_own_db(self) -> bool:  # type: ignore[override]  # nobody sets it
        """See ``Issuer``."""
        return self.state.has_own_db

    def watch_mark(self) -> object:
        """See ``Issuer``."""
        return self.lease, self.state.ended_watches

    def leased(self) -> Lease:
        """Return the connection.

        Raises:
            ClientClosedError: There is none any more.
        """
        if self.lease is None:
            self.admit()
            raise AssertionError
        return self.lease

    def note_protocol(self, protocol: int) -> None:
        """Shape responses for the protocol that the connection speaks from now on."""
        for plans in self._plans:
            plans.negotiated(protocol)

    def admit(self) -> asyncio.AbstractEventLoop:
        """See ``Issuer``."""
        self.client.check_home()
        raise one_for_each(self._refusal or ClientClosedError("the session has no connection"))

    def check_home(self) -> None:
        """See ``Issuer``."""
        self.client.check_home()

    def may_go_again(self, command: Command | None, refusal: Exception) -> bool:
        """See ``Issuer``. Not in the middle of a transaction, which is answered as a whole."""
        code = error_code(refusal)
        has_left = code == "READONLY" and command is not None and self.client.may_go_again(command, refusal)
        # At least the next session gets a fresh connection; or the next command of one that may go on on another.
        if has_left and self._renews and self.lease is not None and not self.state.is_dirty:
            self.lease.queue.replace_connection("the server has become a replica")
        return not self.state.is_in_transaction and code in NOTHING_DONE

    def _take(self, endpoint: Endpoint, lease: Lease) -> None:
        if self._refusal is not None:  # it ended meanwhile
            endpoint.dedicated.release(lease)
            raise one_for_each(self._refusal)
        self._endpoint, self.lease, self.state = endpoint, lease, SessionState()
        self.loop, self.lane = lease.queue.loop, lease.queue
        lease.queue.shortest_timeout = self._shortest_timeout
        connection = lease.link.connection
        self.note_protocol(connection.protocol if connection is not None else 3)

    def _lose(self) -> None:
        """Note that the connection is gone, and what was done to it."""
        cause = self.lease.queue.refusal if self.lease is not None else None
        self._give_back()
        if self._refusal is None and not self._renews:
            self._refusal = (
                cause
                if isinstance(cause, ClientClosedError)
                else ConnectionLostError(
                    "the session's connection was lost, and with it what was done to it: begin another session"
                )
            )
            self._refusal.__cause__ = self._refusal.__cause__ or cause
        if self._refusal is not None:
            raise one_for_each(self._refusal)

    def _give_back(self) -> None:
        lease, self.lease, self.loop = self.lease, None, None
        if lease is not None:
            lease.is_dirty = lease.is_dirty or self.state.is_dirty
            lease.is_beyond_reset = lease.is_beyond_reset or self.state.is_beyond_reset
            self.endpoint.dedicated.release(lease)


class Session(WithPubSub, CommandClient):  # type: ignore[misc]  # redis-py's own mixins disagree
    """A client whose commands have one connection to themselves, so that they may change its state.

    Made by ``RedisClient.dedicated``. Commands are sent in the order in which they are issued. When the connection is
    lost, so is what was done to it: from then on every command raises ``ConnectionLostError``.

    Lifecycle: the connection is leased by ``async with``, ``connect`` or the first command; given back at the end of
    ``async with``, or by ``close``. What was done to it is undone before somebody else gets it.
    """

    _core: SessionCore
    _core_kind: type[SessionCore] = SessionCore
    _is_pipelines = False

    @classmethod
    def begin_on(cls, client: CommandClient, core: ClientCore, *, renews: bool, is_pipelines: bool = False) -> Self:
        """Return a session of a client. It leases its connection later.

        Args:
            client: The client, or a view of it.
            core: Its core.
            renews: Whether it goes on on another connection when its own was lost.
            is_pipelines: Whether it is for one pipeline alone, and ends with that.
        """
        session = cls.__new__(cls)
        own = cls._core_kind(core, client._options, renews=renews)  # noqa: SLF001  # of the same family
        plans = client._plans.copy(is_session=True)  # noqa: SLF001  # as above
        session._attach(own, plans, client._options, _SessionKeeper(own, client))  # noqa: SLF001  # as above
        session._is_pipelines = is_pipelines  # noqa: SLF001  # as above
        session._be_observed()  # noqa: SLF001  # as above
        return session

    async def _execute(self, args: tuple[Any, ...], options: dict[str, Any] | None = None) -> Any:
        await self._core.begin()
        changes = self._plans.changes_of(args)
        if changes is None:
            return await super()._execute(args, options)
        changes(args)
        try:
            return await super()._execute(args, options)
        finally:
            changes(args)

    _command: Any = _execute

    def _take_after(
        self, origin: CommandClient, overrides: dict[str, Any], *, cache: bool | float | timedelta | EllipsisType
    ) -> None:
        super()._take_after(origin, overrides, cache=cache)
        self._be_observed()

    async def _take_detour(self, plan: Plan, lane: Lane, args: tuple[Any, ...], options: dict[str, Any] | None) -> Any:
        if lane is Lane.QUIT:
            await self.close()
            return True
        decode = self._read_options(options or {})
        try:
            reply = await self._execute_alone(args, decode=decode)
        except ResponseError:
            if options and EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        response = plan.make(reply, options)
        return await response if isawaitable(response) else response

    async def _execute_alone(self, args: tuple[Any, ...], *, decode: bool) -> Any:
        """Execute what changes the connection's state, or blocks it; return its reply."""
        core = self._core
        traits = core.equipment.commands.classify(args)
        due = core.client.due(self._options)
        attempt = 0
        while True:
            reply = await self._try_alone(args, traits, decode=decode)
            if not isinstance(reply, BaseException):
                break
            delay = delay_after_refusal(attempt)
            has_time = core.equipment.clock() + delay < due
            if not has_time or not isinstance(reply, Exception) or not core.may_go_again(None, reply):
                raise reply
            await asyncio.sleep(delay)
            attempt += 1
        if traits.name == "RESET":
            core.note_protocol(2)
        elif traits.name == "HELLO" and isinstance(reply, dict | list):
            core.note_protocol(3 if isinstance(reply, dict) else 2)
        return reply

    async def _try_alone(self, args: tuple[Any, ...], traits: CommandTraits, *, decode: bool) -> Any:
        """Execute it once; return its reply, or the exception that takes the place of one."""
        core = self._core
        lease, state = core.leased(), core.state
        payload = self._encode(args)
        state.issued(traits)
        core.reserve()
        try:
            if traits.block_time(args) is not None and not state.is_in_transaction:
                reply = await core.block(args, traits, self._options, decode=decode)
            else:
                command = new_command(lease.queue.loop, args, payload, decode=decode, options=self._options)
                reply = await core.send(command)
            state.answered(traits, is_refused=isinstance(reply, Exception) and not isinstance(reply, ExecAbortError))
        finally:
            core.reserve()
        return reply

    def client(self) -> Session:
        """Return another session of the same client, as redis-py's method of this name does."""
        return Session.begin_on(self, self._core.client, renews=True)

    # Pipelines.

    def own_session(self) -> Session:
        """See ``CommandClient``. A pipeline of a session watches on its connection."""
        return self

    async def end_session(self) -> None:
        """See ``CommandClient``. A session that is the user's stays, without a watch."""
        if self._is_pipelines:
            self._core.end()
        elif self._core.state.is_watching:
            with suppress(KitError):  # as redis-py: what ended the pipeline is of more interest
                await self.execute_command("UNWATCH")

    async def begin_units(self) -> Issuer:
        """See ``CommandClient``."""
        await self._core.begin()
        return self._core

    def _client_core(self) -> ClientCore:
        return self._core.client

    # Life.

    async def connect(self) -> Self:
        """Lease the connection, if there is none; return this session.

        Raises:
            PoolExhaustedError: None became free in time.
            ConnectionLostError: It was lost.
            ClientClosedError: The session has ended, or the client.

        Cancellation:
            Safe. Nothing was leased.
        """
        await self._core.begin()
        return self

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001  # as redis-py
        """Give the connection back. The client stays open. Idempotent.

        Args:
            close_connection_pool: redis-py's argument; without effect.

        Cancellation:
            Safe. It waits for nothing.
        """
        del close_connection_pool
        self._core.end()

    aclose = close

    @property
    def is_open(self) -> bool:
        """Whether it has a connection."""
        lease = self._core.lease
        return lease is not None and not lease.is_lost

    @property
    def is_ready(self) -> bool:
        """Whether a command issued now is written now."""
        lease = self._core.lease
        return lease is not None and lease.queue.is_ready

    async def __aenter__(self) -> Self:
        """Lease the connection.

        Raises:
            PoolExhaustedError: As ``connect``.
        """
        return await self.connect()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the connection back."""
        self._core.end()

    async def initialize(self) -> Self:
        """Return this session. Leasing is left to the first command, as in redis-py."""
        return self

    def __repr__(self) -> str:
        what = "open" if self.is_open else "without a connection"
        return f"<{type(self).__name__} {self._core.equipment.dialler.address} {what}>"

    def __del__(self, *_: Any) -> None:
        """Nothing: see ``_SessionKeeper``."""


class _SessionKeeper:
    """Shared by all views of a session; when the last one is collected, the connection is given back."""

    __slots__ = ("__weakref__", "_client")

    def __init__(self, core: SessionCore, client: CommandClient) -> None:
        self._client = client  # which is not to be collected before
        weakref.finalize(self, core.abandoned).atexit = False
