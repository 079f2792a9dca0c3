"""``RedisClient``: redis-py's asynchronous client, with our connections under it."""

from __future__ import annotations

import logging
import weakref
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from aioredis_kit._redispy import EMPTY_RESPONSE
from aioredis_kit.client.base import ClientCore, ClientState
from aioredis_kit.client.caching import CachedCommands
from aioredis_kit.client.commands import VIEW_OPTIONS, CommandClient
from aioredis_kit.client.detours import execute_blocking, execute_fence
from aioredis_kit.client.equip import equip
from aioredis_kit.client.health import look
from aioredis_kit.client.observing import Observing
from aioredis_kit.client.plans import Plans
from aioredis_kit.client.session import Session
from aioredis_kit.client.single import SingleConnection
from aioredis_kit.client.subscribing import Subscribing
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import to_seconds
from aioredis_kit.options import Options, resolve_options
from aioredis_kit.policy.commands import Lane

if TYPE_CHECKING:
    from datetime import timedelta
    from types import EllipsisType, TracebackType
    from typing import Self

    from redis.asyncio import ConnectionPool

    from aioredis_kit.cache.store import ClientSideCache
    from aioredis_kit.client.plans import Plan
    from aioredis_kit.health import Health
    from aioredis_kit.statistics import Statistics

logger = logging.getLogger(__name__)


class RedisClient(Observing, Subscribing, CommandClient):  # type: ignore[misc]  # redis-py's own mixins disagree
    """A client for one Redis, Valkey or Garnet server.

    Made with ``create_client``. Every command method is redis-py's, with its signature and its response; all of them
    may be awaited concurrently, by any number of tasks of one event loop, over the same connection.

    Lifecycle: opened by ``connect``, ``async with`` or the first command; closed by ``close``, ``destroy``, the end of
    ``async with``, or a reconnect strategy that gives up. After that only ``connect`` opens it again.
    """

    _core: ClientCore
    _session: Session | None = None  # takes all commands, if there is to be a single connection

    def __init__(self, url: str | None = None, **options: Any) -> None:
        """See ``create_client``."""
        self._build(resolve_options(url, options))

    @classmethod
    def _of(cls, options: Options) -> Self:
        client = cls.__new__(cls)
        client._build(options)  # noqa: SLF001  # its own class
        return client

    def _build(self, options: Options) -> None:
        if options.ignored:
            logger.info("options that are accepted and have no effect: %s", ", ".join(options.ignored))
        core = ClientCore(equip(options))
        plans = Plans(
            core.equipment.commands,
            core.name_connections,
            protocol=options.protocol,
            legacy_responses=options.legacy_responses,
            changed=None if core.caching is None else core.caching.changed,
        )
        keeper = _Keeper(core)
        self._attach(core, plans, options.command, keeper)
        self._use_stages(reads=core.caching is not None and not core.caching.is_optin, ttl=None)
        if options.single_connection_client:
            # The session refers to a view of its own: one to this client would keep it from being collected.
            view = object.__new__(RedisClient)
            view._attach(core, plans, options.command, keeper)  # its own class
            self._use(SingleConnection.begin_on(view, core, renews=True))

    def _use_stages(self, *, reads: bool, ttl: float | None) -> None:
        """Put before the commands what comes before them: the cache, if there is one, and around it the hooks.

        In any case what is cached ends of the keys that are written.

        Args:
            reads: Whether reads are cached.
            ttl: How long replies are kept at most, in seconds; ``None``: as the cache wants it.
        """
        if self._core.caching is None:
            self._be_observed()
            return
        self.cached_commands = CachedCommands(self._twin(), self._core.caching, reads=reads, ttl=ttl)
        self._take_commands(self.cached_commands.execute, self.cached_commands.execute)
        self._be_observed(self.cached_commands.execute)

    def _use(self, session: Session) -> None:
        """Send all commands through a session."""
        self._session = session
        self.observation = session.observation
        self.single_connection_client = True
        self.response_callbacks = session.response_callbacks
        self._plans = session._plans  # noqa: SLF001  # of the same family
        self._take_commands(session._execute, session._command)  # noqa: SLF001  # as above

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

    @classmethod
    def from_pool(cls, connection_pool: ConnectionPool) -> Self:
        """Make a client from a pool of redis-py's: its options are read, the pool itself is not used.

        Raises:
            ConfigurationError: An option of the pool is not supported.
        """
        return cls(connection_pool=connection_pool)

    def _take_after(
        self, origin: CommandClient, overrides: dict[str, Any], *, cache: bool | float | timedelta | EllipsisType
    ) -> None:
        if cache is not ... and cache is not False and self._core.caching is None:
            raise ConfigurationError("cache: this client has none; create it with client_side_cache=CacheOptions()")
        before = origin.cached_commands if isinstance(origin, RedisClient) else None
        if cache is ... and before is not None:
            self._use_stages(reads=before.reads, ttl=before.ttl)
        elif cache is ... or isinstance(cache, bool):
            self._use_stages(reads=cache is True, ttl=None)
        else:
            self._use_stages(reads=True, ttl=_seconds(cache))
        session = origin._session if isinstance(origin, RedisClient) else None  # noqa: SLF001  # of the same class
        if session is not None:
            self._use(session.with_options(**overrides))

    @property
    def client_side_cache(self) -> ClientSideCache | None:
        """Its cache, if it has one."""
        return None if self._core.caching is None else self._core.caching.cache

    # Commands.

    async def _take_detour(self, plan: Plan, lane: Lane, args: tuple[Any, ...], options: dict[str, Any] | None) -> Any:
        """Execute what is not simply one command on the lane that the others take."""
        if lane is Lane.QUIT:
            await self.close()
            return True
        decode = self._read_options(options or {})
        try:
            if lane is Lane.BLOCKING:
                reply = await execute_blocking(self._core, args, self._options, decode=decode)
            else:
                reply = await execute_fence(self._core, args, self._options, decode=decode)
        except ResponseError:
            if options and EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        response = plan.make(reply, options)
        return await response if isawaitable(response) else response

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

    def _client_core(self) -> ClientCore:
        return self._core

    # Sessions.

    def dedicated(self) -> Session:
        """Return a session: a client whose commands have one connection to themselves.

        ::

            async with client.dedicated() as session:
                await session.client_no_evict("ON")

        The connection is leased at the beginning of ``async with``, within ``command_timeout``; at most
        ``max_dedicated_connections`` are leased at a time.
        """
        return Session.begin_on(self, self._core, renews=False)

    def sender(self) -> CommandClient:
        """See ``CommandClient``."""
        return self if self._session is None else self._session

    def own_session(self) -> Session:
        """See ``CommandClient``."""
        return Session.begin_on(self, self._core, renews=False, is_pipelines=True)

    def client(self) -> Session:
        """Return a session, as redis-py's method of this name does.

        Other than that of ``dedicated``, it goes on on another connection when its own was lost.
        """
        return Session.begin_on(self, self._core, renews=True)

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

        That goes for one that gave up reconnecting, too; ``close`` and ``destroy`` before it stay final.

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
        mine = {option: getattr(self._options, field) for option, field in VIEW_OPTIONS.items()}
        return self._of(self._core.equipment.options.replaced(mine).replaced(overrides))

    @property
    def is_open(self) -> bool:
        """Whether it is connected or will be: from ``connect`` or the first command to the end."""
        return self._core.is_open

    @property
    def is_ready(self) -> bool:
        """Whether a command issued now is written now."""
        return self._core.is_ready

    @property
    def state(self) -> ClientState:
        """What it is doing."""
        return self._core.state

    def statistics(self) -> Statistics:
        """Return what it has done since it was last opened, as numbers. It may be called in any thread."""
        return self._core.statistics()

    async def health(self, *, timeout: float | timedelta = 0.5) -> Health:
        """Tell how it is: whether it is live, whether it is ready, and what is wrong.

        One ping goes over each shared connection, ahead of all that waits. A client that was never connected is opened,
        as by a command; one that is reconnecting is waited for. A ping that is not answered raises a doubt about its
        connection: after ``ping_timeout`` that is given up. It never raises because of the server, the network or the
        client's end: those are what it is about.

        Args:
            timeout: For how long to wait at most, in seconds; 0: not at all, and nothing is sent or opened. A client
                counts as ready if it answers in that time.

        Raises:
            ConfigurationError: ``timeout`` is no duration.
            RuntimeError: The client is open on another event loop, or in another thread or process.

        Cancellation:
            Safe.
        """
        try:
            seconds = to_seconds(timeout)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"timeout must be seconds (also as a timedelta): {error}") from None
        return await look(self._core, seconds)

    async def __aenter__(self) -> Self:
        """Connect. May be entered several times; the last exit closes.

        Raises:
            ConnectError: As ``connect``.
        """
        self._uses += 1
        try:
            return await self.connect()
        except BaseException:  # failed or cancelled: what was never entered is never exited
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
        preset = self._core.equipment.options.preset
        assumed = f", by its name: {' and '.join(preset)}" if preset else ""
        return f"<{type(self).__name__} {self._core.equipment.dialler.address} {self.state.value}{assumed}>"

    def __del__(self, *_: Any) -> None:
        """Nothing: see ``_Keeper``."""


def _seconds(ttl: object) -> float:
    try:
        seconds = to_seconds(ttl)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"cache must be True, False, or seconds (also as a timedelta): {error}") from None
    if not seconds:
        raise ConfigurationError("cache must be True, False, or more than 0 seconds")
    return seconds


class _Keeper:
    """Shared by all views of a client; when the last one is collected, an open client is destroyed."""

    __slots__ = ("__weakref__",)

    def __init__(self, core: ClientCore) -> None:
        weakref.finalize(self, core.abandoned).atexit = False
