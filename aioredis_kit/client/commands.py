"""The part of redis-py's client that issues commands: what a client and a session have in common."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aioredis_kit._redispy import EMPTY_RESPONSE, NEVER_DECODE, Encoder
from aioredis_kit.client.himport import NoImports
from aioredis_kit.client.objects import Objects
from aioredis_kit.client.observed import ObservedCommands
from aioredis_kit.client.pipelines import Pipeline
from aioredis_kit.client.plans import PLAIN
from aioredis_kit.client.pool import PoolView
from aioredis_kit.client.quick import Quick
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.transport.command import Command, wait
from aioredis_kit.wire.encoder import LARGE
from aioredis_kit.wire.inflight import UNWRITTEN

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta
    from types import EllipsisType
    from typing import Self

    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.client.caching import CachedCommands
    from aioredis_kit.client.issuing import Issuer
    from aioredis_kit.client.observed import Observation
    from aioredis_kit.client.plans import Plan, Plans
    from aioredis_kit.client.session import SessionCore
    from aioredis_kit.options import CommandOptions, RetryUnanswered
    from aioredis_kit.policy.commands import Lane

VIEW_OPTIONS: Final = {
    "command_timeout": "timeout",
    "decode_responses": "decode_responses",
    "retry_unanswered": "retry_unanswered",
}
"""The options that a view may have otherwise than its client, and their fields in ``CommandOptions``."""


class CommandClient(Quick, Objects, NoImports, Redis):  # type: ignore[misc]  # redis-py's own mixins disagree about command_info
    """Redis-py's command methods on our connections."""

    _core: Any  # an Issuer, each subclass has its own
    _take_detour: Callable[[Plan, Lane, tuple[Any, ...], dict[str, Any] | None], Coroutine[Any, Any, Any]]
    """Executes what is not simply one command on the lane that the others take; returns its response."""
    cached_commands: CachedCommands | None = None
    """Takes all commands, if there is a cache."""
    observation: Observation | None = None
    """Tells the hooks of all calls, if there is one that wants to be told."""

    def _attach(self, core: ClientCore | SessionCore, plans: Plans, options: CommandOptions, keeper: object) -> None:
        """Make this object a view of a core. ``__init__`` of redis-py's class, which would open a pool, is not run."""
        self._core = core
        self._keeper = keeper
        self._plans = plans
        self._by_name = plans.by_name
        self._options = options
        self._decode = options.decode_responses
        self._encode = core.equipment.encoder.encode
        core.add_view(plans, options)
        # What redis-py's own methods and helpers read.
        self.response_callbacks = plans.callbacks  # type: ignore[assignment]  # a MutableMapping with other key types
        self.connection_pool = PoolView(core.client, options)
        self.connection = None
        self.single_connection_client = False
        self.auto_close_connection_pool = True
        self._uses = 0

    def _take_commands(self, execute: Any, command: Any) -> None:
        """Issue all commands by something else, unless a subclass takes them."""
        self._execute = execute  # type: ignore[method-assign]
        if type(self)._command is not _through_execute_command:  # noqa: SLF001  # no subclass takes all commands
            self._command = command

    def _be_observed(self, execute: Any = None) -> None:
        """Tell the hooks of all commands, if one wants to be told.

        Args:
            execute: What issues them, if that is another stage. It must not refer to this client, which would keep it
                from being collected.
        """
        self.observation = self._core.client.observation
        if self.observation is not None:
            execute = execute or self._twin()._execute  # noqa: SLF001  # of its own class
            observed = ObservedCommands(self.observation, self._core, execute)
            self._take_commands(observed.execute, observed.execute)

    def _twin(self) -> Self:
        """Return another object that is this view, without its stages: for a stage to refer to."""
        twin = object.__new__(type(self))
        twin._attach(self._core, self._plans, self._options, self._keeper)  # of its own class
        return twin

    # Commands.

    def execute_command(self, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        """Send one command and return its response.

        Concurrent calls share a connection; those on one first key are sent in the order in which they were made.

        Args:
            args: The command's name, then its arguments. The name may hold a sub-command: ``"CONFIG GET"``.
            options: For redis-py's response callback of that command.

        Raises:
            DataError: An argument can't be encoded. Nothing was sent.
            ConfigurationError: The command can't be sent on a shared connection. Nothing was sent.
            ClientClosedError: The client is closed.
            NotConnectedError: It is not connected, and ``disable_offline_queue`` is set.
            QueueFullError: The limits are reached, and ``queue_full`` is ``"raise"``.
            ConnectError: The reconnect strategy gave up while the command waited.
            ConnectionLostError: The connection broke before the reply came.
            CommandTimeoutError: It was not answered within ``command_timeout``.
            ResponseError: The server refused it; as all error replies, redis-py's exception for it.
            RuntimeError: The client belongs to another event loop, thread or process.

        Cancellation:
            Safe at any point. If the command was not yet written it never is. Otherwise the server may still run it;
            its reply is read and dropped.
        """
        return self._execute(args, options)

    async def _execute(self, args: tuple[Any, ...], options: dict[str, Any] | None = None) -> Any:  # noqa: C901  # calls cost
        """See ``execute_command``."""
        # The path of every command: what looks unrolled here was measured.
        core = self._core
        loop = core.loop or core.admit()
        try:
            plan = self._by_name[args[0]]
        except (KeyError, IndexError, TypeError):
            plan = self._plans.make(args)
        if plan.prepare is not None:
            args, detour = plan.prepare(args)
            if detour is not None:
                return await self._take_detour(plan, detour, args, options)
        decode = self._decode if not options else self._read_options(options)
        command = Command()  # what new_command and dispatch do
        command._loop = loop  # noqa: SLF001  # as there
        command.args = args
        command.payload = payload = self._encode(args)
        command.decode = decode
        command.options = self._options
        command.deadline = 0.0
        command.state = UNWRITTEN
        command.lane = lane = core.lane
        try:
            (lane.take if type(payload) is bytes and len(payload) < LARGE else lane.take_large)(command)
        except RuntimeError as error:
            command = core.dispatch_anew(command, error)
        try:
            await wait(command)
        except BaseException as error:  # noqa: BLE001  # cancelled, or on a foreign loop: raised again there
            command = await core.forsake(command, error)
        reply = command.reply
        if type(reply) not in PLAIN:
            try:
                reply = command.reply = await core.settle(command, reply)
            except ResponseError:
                if options and EMPTY_RESPONSE in options:
                    return options[EMPTY_RESPONSE]
                raise
        if plan.is_plain:
            return reply
        if (
            plan.response_to_ok is not None
            and not options
            and (reply == b"OK" if type(reply) is bytes else reply == "OK")
        ):
            return plan.response_to_ok
        response = plan.respond(command, options)
        return await response if type(response) not in PLAIN and isawaitable(response) else response

    _command: Any = _execute  # what methods with a shorter way call

    def _read_options(self, options: dict[str, Any]) -> bool:
        """Take what isn't for the response callback out; return whether the reply is decoded."""
        options.pop("keys", None)
        if NEVER_DECODE in options:
            del options[NEVER_DECODE]
            return False
        return self._decode

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Send all commands of a subclass through its own ``execute_command``, if it has one."""
        super().__init_subclass__(**kwargs)
        if cls.execute_command is not CommandClient.execute_command:
            cls._command = _through_execute_command

    # Pipelines.

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002  # as redis-py
        """Return a pipeline: commands that are sent together. See redis-py.

        Args:
            transaction: Whether they are a ``MULTI`` block.
            shard_hint: redis-py's argument; without effect.
        """
        return Pipeline(self, transaction=transaction, shard_hint=shard_hint)

    def sender(self) -> CommandClient:
        """Return what the commands are sent by: this client, or the session that takes them all."""
        return self

    def own_session(self) -> CommandClient:
        """Return a client whose commands have one connection to themselves, for one pipeline."""
        raise AssertionError  # each subclass knows how

    async def end_session(self) -> None:
        """Give up what ``own_session`` returned.

        Cancellation:
            Safe.
        """

    async def begin_units(self) -> Issuer:
        """Return what sends the units of a pipeline.

        Raises:
            KitError: Nothing can be sent.

        Cancellation:
            Safe.
        """
        core: Issuer = self._core
        if core.loop is not None and core.loop is not asyncio.get_running_loop():
            core.check_home()
        _ = core.loop or core.admit()
        return core

    def with_options(
        self,
        *,
        command_timeout: float | timedelta | EllipsisType | None = ...,
        decode_responses: bool | EllipsisType = ...,
        retry_unanswered: RetryUnanswered | EllipsisType = ...,
        cache: bool | float | timedelta | EllipsisType = ...,
    ) -> Self:
        """Return a view: the same client, whose commands have other options.

        A view has response callbacks of its own, copied from this one. It shares all else; closing it closes the
        client.

        Args:
            command_timeout: How long a command may take, in seconds; ``None``: no limit.
            decode_responses: Whether replies are decoded to text.
            retry_unanswered: What is sent again if the connection is lost before the reply.
            cache: Whether reads are answered from the client's cache; or how long replies are kept at most, in seconds.

        Raises:
            ConfigurationError: A value is of another type or out of range, or there is no cache.
        """
        given = {
            "command_timeout": command_timeout,
            "decode_responses": decode_responses,
            "retry_unanswered": retry_unanswered,
        }
        overrides = {name: value for name, value in given.items() if value is not ...}
        options = self._core.equipment.options.replaced(overrides).command
        fields = [VIEW_OPTIONS[name] for name in overrides]
        kept = replace(self._options, **{field: getattr(options, field) for field in fields})
        view = self.__new__(type(self))
        view._attach(self._core, self._plans.copy(), kept, self._keeper)  # noqa: SLF001  # of its own class
        view._take_after(self, overrides, cache=cache)  # noqa: SLF001  # as above
        return view

    def _take_after(
        self, origin: CommandClient, overrides: dict[str, Any], *, cache: bool | float | timedelta | EllipsisType
    ) -> None:
        """Be what ``origin`` is beyond its options, as a view of it with other options.

        Raises:
            ConfigurationError: There is no cache.
        """
        del origin, overrides
        if cache is not ... and cache is not False:
            raise ConfigurationError("cache: nothing of a session is cached, as it may watch what it reads")

    # What redis-py's own code asks of a client.

    def get_encoder(self) -> Encoder:
        """Return redis-py's encoder with this client's encoding."""
        encoder: Encoder = self.connection_pool.get_encoder()  # type: ignore[no-untyped-call]  # redis-py's
        return encoder

    def get_connection_kwargs(self) -> dict[str, Any]:
        """Return the options under redis-py's names."""
        kwargs: dict[str, Any] = self.connection_pool.connection_kwargs
        return kwargs


def _through_execute_command(client: CommandClient, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
    return client.execute_command(*args)
