"""``RedisClient``: redis-py's asynchronous client, with our connections under it."""

from __future__ import annotations

import logging
import weakref
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from aioredis_kit._redispy import EMPTY_RESPONSE, NEVER_DECODE, Encoder
from aioredis_kit.client.base import ClientCore, ClientState
from aioredis_kit.client.equip import equip
from aioredis_kit.client.later import NotYet
from aioredis_kit.client.observing import Observing
from aioredis_kit.client.plans import Plans
from aioredis_kit.client.pool import PoolView
from aioredis_kit.options import CommandOptions, Options, resolve_options
from aioredis_kit.transport.command import Command, wait
from aioredis_kit.wire.encoder import LARGE
from aioredis_kit.wire.inflight import UNWRITTEN

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import timedelta
    from types import EllipsisType, TracebackType
    from typing import Self

    from aioredis_kit.options import RetryUnanswered

logger = logging.getLogger(__name__)

PLAIN: Final = frozenset({bytes, str, int, list, dict, float, bool, type(None)})
"""What replies are made of. Anything else takes the place of a reply: an exception."""

_VIEW_OPTIONS: Final = {
    "command_timeout": "timeout",
    "decode_responses": "decode_responses",
    "retry_unanswered": "retry_unanswered",
}

_set_unchecked: Final = Redis.set.__wrapped__  # type: ignore[attr-defined]  # beneath the check for experimental arguments


class RedisClient(Observing, NotYet, Redis):  # type: ignore[misc]  # redis-py's own mixins disagree about command_info
    """A client for one Redis, Valkey or Garnet server.

    Made with ``create_client``. Every command method is redis-py's, with its signature and its response; all of them
    may be awaited concurrently, by any number of tasks of one event loop, over the same connection.

    Lifecycle: opened by ``connect``, ``async with`` or the first command; closed by ``close``, ``destroy``, the end of
    ``async with``, or a reconnect strategy that gives up. After that only ``connect`` opens it again.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        """See ``create_client``."""
        self._build(resolve_options(url, options))

    @classmethod
    def _of(cls, options: Options) -> Self:
        client = cls.__new__(cls)
        client._build(options)  # noqa: SLF001  # its own class
        return client

    @classmethod
    def _view(cls, core: ClientCore, plans: Plans, options: CommandOptions, keeper: _Keeper) -> Self:
        view = cls.__new__(cls)
        view._attach(core, plans, options, keeper)  # noqa: SLF001  # its own class
        return view

    def _build(self, options: Options) -> None:
        if options.ignored:
            logger.info("options that are accepted and have no effect: %s", ", ".join(options.ignored))
        core = ClientCore(equip(options))
        plans = Plans(
            core.equipment.commands,
            core.name_connections,
            protocol=options.protocol,
            legacy_responses=options.legacy_responses,
        )
        self._attach(core, plans, options.command, _Keeper(core))

    def _attach(self, core: ClientCore, plans: Plans, options: CommandOptions, keeper: _Keeper) -> None:
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
        self.connection_pool = PoolView(core.equipment.options, options)  # type: ignore[assignment]  # what is used of one
        self.connection = None
        self.single_connection_client = False
        self.auto_close_connection_pool = True
        self._uses = 0

    @classmethod
    def from_url(
        cls,
        url: str,
        single_connection_client: bool = False,  # noqa: FBT001, FBT002  # as redis-py
        auto_close_connection_pool: bool | None = None,  # noqa: FBT001  # as redis-py
        **options: Any,
    ) -> Self:
        """Make a client from a URL, as redis-py does.

        Raises:
            ConfigurationError: As ``create_client``.
        """
        if auto_close_connection_pool is not None:
            options["auto_close_connection_pool"] = auto_close_connection_pool
        return cls(url, single_connection_client=single_connection_client, **options)

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
            args = plan.prepare(args)
            if not args:
                await self.close()
                return True
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
        if cls.execute_command is not RedisClient.execute_command:
            cls._command = _through_execute_command

    if not TYPE_CHECKING:  # a type checker sees redis-py's own

        def get(self, name: Any) -> Any:
            """See redis-py. Only the list of keys is left out, which is for a cache of redis-py's."""
            return self._command(("GET", name))

        def hgetall(self, name: Any) -> Any:
            """See redis-py. As ``get``."""
            return self._command(("HGETALL", name))

        def set(  # noqa: PLR0913, PLR0917  # redis-py's parameters; gathering them in a dict costs 0.1 µs
            self,
            name: Any,
            value: Any,
            ex: Any = None,
            px: Any = None,
            nx: Any = False,  # noqa: FBT002  # redis-py's
            xx: Any = False,  # noqa: FBT002  # redis-py's
            keepttl: Any = False,  # noqa: FBT002  # redis-py's
            get: Any = False,  # noqa: FBT002  # redis-py's
            exat: Any = None,
            pxat: Any = None,
            ifeq: Any = None,
            ifne: Any = None,
            ifdeq: Any = None,
            ifdne: Any = None,
        ) -> Any:
            """See redis-py. Its check for experimental arguments takes 3 µs; it is left out where there are none."""
            if ifeq is ifne is ifdeq is ifdne is None:
                if ex is px is exat is pxat is None and not (nx or xx or keepttl or get):
                    return self._command(("SET", name, value))
                return _set_unchecked(self, name, value, ex, px, nx, xx, keepttl, get, exat, pxat)
            return Redis.set(self, name, value, ex, px, nx, xx, keepttl, get, exat, pxat, ifeq, ifne, ifdeq, ifdne)

    def register_command(
        self, name: str, *, readonly: bool = False, blocking: bool = False, keys: int | str = ""
    ) -> None:
        """Tell what a command does that the command table lacks. Otherwise it counts as a write without keys.

        Args:
            name: Its name, with its sub-command if it has one: ``"MYMODULE.GET"``.
            readonly: It changes nothing, so that it may be sent again after a lost connection.
            blocking: Its reply may wait for somebody else's doing.
            keys: Where its keys are: ``1`` is the first argument, ``"1..-1"`` all, ``"1..-1/2"`` every second,
                ``"#1"`` those after their number. None by default.

        Raises:
            ConfigurationError: The name is none, or the table knows that the command blocks or acts on its
                connection.
        """
        self._core.equipment.commands.register(name, readonly=readonly, blocking=blocking, keys=keys)
        self._core.forget_plans()

    # Life.

    async def connect(self) -> Self:
        """Connect, and return this client when it is ready. Does nothing while it is ready.

        Raises:
            ConnectTimeoutError: It was not ready within ``initial_connect_timeout``.
            ConnectError: The reconnect strategy gave up; by default it does so at once when a password is refused or
                a certificate does not verify.
            ClientClosedError: It was closed meanwhile.
            RuntimeError: It is open on another event loop, or in another thread or process.

        Cancellation:
            Leaves the client closed, unless others wait for it to be ready.
        """
        await self._core.connect()
        return self

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001  # as redis-py
        """Close the client for good: take no command any more, wait for the replies that are due, hang up.

        What is queued still goes out if there is a connection; if there is none it ends at once, not executed. After
        ``close_timeout`` what is left is ended as by ``destroy``. Closing a view closes the client. Idempotent.

        Args:
            close_connection_pool: redis-py's argument; without effect.

        Cancellation:
            Closing becomes destroying.
        """
        del close_connection_pool
        await self._core.close(is_final=True)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001  # as redis-py
        """Close the client as ``close`` does, but leave it as never connected: the next command opens it again.

        Args:
            close_connection_pool: redis-py's argument; without effect.

        Cancellation:
            Closing becomes destroying.
        """
        del close_connection_pool
        await self._core.close(is_final=False)

    def destroy(self) -> None:
        """Close the client for good, at once. What is pending ends with ``ClientClosedError``. Idempotent."""
        self._core.destroy()

    def duplicate(self, **overrides: Any) -> Self:
        """Return a new client with the same options, except for those given; it is not connected.

        Raises:
            ConfigurationError: As ``create_client``.
        """
        mine = {option: getattr(self._options, field) for option, field in _VIEW_OPTIONS.items()}
        return self._of(self._core.equipment.options.replaced({**mine, **overrides}))

    def with_options(
        self,
        *,
        command_timeout: float | timedelta | EllipsisType | None = ...,
        decode_responses: bool | EllipsisType = ...,
        retry_unanswered: RetryUnanswered | EllipsisType = ...,
    ) -> Self:
        """Return a view: the same client, whose commands have other options.

        A view has response callbacks of its own, copied from this one. It shares all else; closing it closes the
        client.

        Args:
            command_timeout: How long a command may take, in seconds; ``None``: no limit.
            decode_responses: Whether replies are decoded to text.
            retry_unanswered: What is sent again if the connection is lost before the reply.

        Raises:
            ConfigurationError: A value is of another type or out of range.
        """
        given = {
            "command_timeout": command_timeout,
            "decode_responses": decode_responses,
            "retry_unanswered": retry_unanswered,
        }
        overrides = {name: value for name, value in given.items() if value is not ...}
        options = self._core.equipment.options.replaced(overrides).command
        fields = [_VIEW_OPTIONS[name] for name in overrides]
        kept = replace(self._options, **{field: getattr(options, field) for field in fields})
        return self._view(self._core, self._plans.copy(), kept, self._keeper)

    @property
    def is_open(self) -> bool:
        """Whether it is connected or will be: from ``connect`` or the first command to the end."""
        return self._core.is_open

    @property
    def is_ready(self) -> bool:
        """Whether a command issued now is written now."""
        return self._core.is_ready

    @property
    def socket_writes(self) -> int:
        """How many times it wrote to a socket since it was last opened: many commands share one write."""
        return self._core.socket_writes

    @property
    def state(self) -> ClientState:
        """What it is doing."""
        return self._core.state

    async def __aenter__(self) -> Self:
        """Connect. May be entered several times; the last exit closes.

        Raises:
            ConnectError: As ``connect``.
        """
        self._uses += 1
        try:
            return await self.connect()
        except BaseException:
            self._uses -= 1
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self._uses -= 1
        if self._uses == 0:
            await self.close()

    async def initialize(self) -> Self:
        """Return this client: what ``await client`` does. Connecting is left to the first command, as in redis-py."""
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.equipment.dialler.address} {self.state.value}>"

    def __del__(self, *_: Any) -> None:
        """Nothing: see ``_Keeper``."""

    # What redis-py's own code asks of a client.

    def get_encoder(self) -> Encoder:
        """Return redis-py's encoder with this client's encoding."""
        encoder: Encoder = self.connection_pool.get_encoder()  # type: ignore[no-untyped-call]  # redis-py's
        return encoder

    def get_connection_kwargs(self) -> dict[str, Any]:
        """Return the options under redis-py's names."""
        kwargs: dict[str, Any] = self.connection_pool.connection_kwargs
        return kwargs


def _through_execute_command(client: RedisClient, args: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
    return client.execute_command(*args)


class _Keeper:
    """Shared by all views of a client; when the last one is collected, an open client is destroyed."""

    __slots__ = ("__weakref__",)

    def __init__(self, core: ClientCore) -> None:
        weakref.finalize(self, core.abandoned).atexit = False
