"""``client.connection_pool``: redis-py's pool, for code of redis-py's or of others that insists on one.

What such code mostly wants is to know the options: that is answered without a pool. Whatever else is touched makes it
the stock pool that it is a kind of, with our address, credentials, TLS context and name, and without retries and
maintenance notifications.

Rules of this file:

1. A connection of the pool belongs to a life of the client: it is opened while that lasts, and closed at its end.
2. What is promised of commands ends here; that is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import weakref
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.driver_info import DriverInfo
from redis.himport import HImportRegistry
from redis.maint_notifications import MaintNotificationsConfig

from aioredis_kit._redispy import Encoder, hang_up
from aioredis_kit.exceptions import ClientClosedError
from aioredis_kit.options import TLSOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.options import CommandOptions, Options

logger = logging.getLogger(__name__)

_STATE: Final = frozenset(
    {
        "_available_connections",
        "_event_dispatcher",
        "_in_use_connections",
        "_lock",
        "_maint_notifications_pool_handler",
        "_oss_cluster_maint_notifications_handler",
    }
)
"""The attributes that only a pool in use has."""
_SECRETS: Final = frozenset({"credential_provider", "password", "ssl_password"})


class ConnectionKwargs(dict[str, Any]):
    """Options under redis-py's names. Its ``repr`` shows no secret."""

    def __repr__(self) -> str:
        shown = {name: "<hidden>" if name in _SECRETS and value else value for name, value in self.items()}
        return repr(shown)

    def copy(self) -> ConnectionKwargs:
        """Return a copy that shows no secret either."""
        return ConnectionKwargs(self)


class PoolView(ConnectionPool):
    """A view's pool.

    Lifecycle: it is nothing but options until something is touched that needs a pool; then it is redis-py's, until the
    client is closed. After that it is nothing but options again.

    Args:
        core: The client's core.
        view: The options of the view.

    Attributes:
        options: The client's options.
    """

    def __init__(self, core: ClientCore, view: CommandOptions) -> None:
        self.options: Options = core.equipment.options
        self.max_connections = self.options.max_dedicated_connections
        self.himport_registry = HImportRegistry()
        self.encoder_class = Encoder
        self.connection_class: type[Any] = _connection_class(self.options)
        self._core = core
        self._connection_kwargs = _kwargs(self.options, view)
        self._has_told = False
        self._endpoint: Endpoint | None = None  # of the life that its connections belong to
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()  # in this life
        self._limits: dict[asyncio.Timeout, asyncio.Future[None]] = {}  # of those that are being opened, and their ends
        self._closing: list[asyncio.StreamWriter] = []

    def __getattr__(self, name: str) -> Any:
        if name not in _STATE or "_core" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._open()
        return vars(self)[name]

    def __del__(self) -> None:
        """Nothing: what it opened is the client's life's to close."""

    @property
    def is_in_use(self) -> bool:
        """Whether it is a pool now."""
        return "_lock" in vars(self)

    # What is answered without a pool, or needs none where there is none.

    def get_encoder(self) -> Encoder:
        """Return redis-py's encoder with the client's encoding."""
        kwargs = self._connection_kwargs
        names = ("encoding", "encoding_errors", "decode_responses")
        return Encoder(*(kwargs[name] for name in names))  # type: ignore[no-untyped-call]  # redis-py's

    def set_retry(self, retry: Retry) -> None:
        """Note what ``get_retry`` returns. It has no other effect: nothing makes a client send a write twice."""
        logger.info("set_retry has no effect: see the option retry_unanswered")
        self._connection_kwargs["retry"] = retry

    def reset(self) -> None:
        """Forget all connections, after closing them."""
        if self.is_in_use:
            self.hang_up()

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002  # as redis-py
        """See redis-py."""
        if self.is_in_use:
            await super().disconnect(inuse_connections)

    async def aclose(self) -> None:
        """See redis-py."""
        if self.is_in_use:
            await super().aclose()

    # Being a pool.

    def _open(self) -> None:
        if not self._has_told:
            self._has_told = True
            logger.warning(
                "connection_pool is in use as a pool of redis-py's own: its connections to %s are apart from the "
                "client's, and what the client promises of commands does not hold for them",
                self._core.equipment.dialler.address,
            )
        kept = {name: vars(self)[name] for name in ("_connection_kwargs", "himport_registry", "encoder_class")}
        super().__init__(
            connection_class=self.connection_class,
            max_connections=self.max_connections,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            himport_registry=self.himport_registry,
        )
        vars(self).update(kept)

    def _admit(self) -> Endpoint:
        """Make it belong to the client's present life; open the client if it was never connected.

        Raises:
            ClientClosedError: The client is closed.
            RuntimeError: It belongs to another event loop, thread or process.
        """
        endpoint = self._core.adopt(self)
        if endpoint is not self._endpoint:  # whose loop may have been closed before its end
            self.hang_up()
            self._endpoint = endpoint
        return endpoint

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        """See redis-py.

        Raises:
            ClientClosedError: The client is closed.
        """
        self._admit()
        return await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's

    def make_connection(self) -> Any:
        """Return a new connection, not yet connected.

        Raises:
            ClientClosedError: The client is closed.
            RuntimeError: It belongs to another event loop, thread or process.
        """
        endpoint = self._admit()
        desired = endpoint.desired
        # What TLS needs is in the context; who to be is asked for at every handshake.
        own = {name: value for name, value in self._connection_kwargs.items() if not name.startswith("ssl_")}
        for name in ("username", "password", "credential_provider"):
            own.pop(name)
        info = dict(desired.client_info)
        own.update(
            db=desired.db,
            client_name=desired.client_name,
            driver_info=DriverInfo(info.get("LIB-NAME"), info.get("LIB-VER")),
            retry=_no_retry(),
            himport_registry=self.himport_registry,
        )
        if desired.credentials is not None or self.options.credential_provider is not None:
            own["credential_provider"] = _Provider(endpoint)
        connection = self.connection_class(**own)
        connection.belong(self, desired.version)
        self._made.add(connection)
        return connection

    def get_available_connection(self) -> Any:
        """See redis-py. What the client is no more, its connections are not used for either."""
        version = self._admit().desired.version
        idle: list[Any] = self._available_connections  # of _Belonging
        for connection in list(idle):
            if connection.version != version:
                idle.remove(connection)
                self._hang_up(connection)
        return super().get_available_connection()  # type: ignore[no-untyped-call]  # redis-py's

    async def release(self, connection: Any) -> None:
        """See redis-py. A connection of an earlier life of the client is closed already."""
        if connection in self._made:
            await super().release(connection)

    @asynccontextmanager
    async def connecting(self, connection: Any) -> AsyncIterator[None]:
        """Let one of its connections connect, unless the client is closed before or meanwhile.

        Raises:
            ClientClosedError: It was.
        """
        if connection not in self._made:
            raise ClientClosedError("the client was closed, and with it the pool that this connection is of")
        limit = asyncio.timeout(None)
        self._limits[limit] = ended = asyncio.get_running_loop().create_future()
        try:
            async with limit:
                yield
            if connection not in self._made:  # closed in the very turn in which it was ready
                raise TimeoutError  # noqa: TRY301  # the same as when it is noticed before
        except BaseException as error:  # cancelled too: in the middle of a handshake it is of no use any more
            self._hang_up(connection)
            if isinstance(error, Exception) and connection not in self._made:  # whatever redis-py makes of it
                raise ClientClosedError("the client was closed while its pool opened a connection") from None
            raise
        finally:
            del self._limits[limit]
            ended.set_result(None)

    # What the client's life asks.

    def hang_up(self) -> None:
        """Close all connections at once: the client's life ends."""
        for limit in self._limits:
            limit.reschedule(0.0)
        for connection in self._made:
            self._hang_up(connection)
        self._made.clear()
        for name in _STATE & vars(self).keys():
            delattr(self, name)

    async def wait_hung_up(self) -> None:
        """Wait until none of their sockets is open any more.

        Cancellation:
            Safe.
        """
        if self._limits:  # who is connecting learns of it in the next turn
            await asyncio.wait(list(self._limits.values()))
        while self._closing:
            with suppress(OSError):
                await self._closing.pop().wait_closed()

    def _hang_up(self, connection: Any) -> None:
        writer = hang_up(connection)
        if writer is not None:
            self._closing.append(writer)


class _Belonging:
    """What a connection of such a pool has beyond redis-py's.

    Attributes:
        version: Which version of what connections are to be it is.
    """

    version = -1
    _pool: weakref.ref[PoolView] | None = None

    def belong(self, pool: PoolView, version: int) -> None:
        """Note whose connection it is."""
        self._pool = weakref.ref(pool)
        self.version = version

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """See redis-py: every way to connect leads here."""
        pool = self._pool() if self._pool is not None else None
        if self.is_connected:  # type: ignore[attr-defined]  # redis-py's
            return
        if pool is None:
            raise ClientClosedError("the client that this connection belonged to is gone")
        async with pool.connecting(self):
            await super().connect_check_health(*args, **kwargs)  # type: ignore[misc]  # redis-py's


class PooledConnection(_Belonging, Connection):
    """One over TCP."""


class PooledUnixConnection(_Belonging, UnixDomainSocketConnection):
    """One over a Unix socket."""


class PooledTLSConnection(_Belonging, SSLConnection):
    """One over TCP with TLS, with the client's own context."""

    def belong(self, pool: PoolView, version: int) -> None:
        """Note whose connection it is."""
        super().belong(pool, version)
        self._dialler = pool._core.equipment.dialler  # noqa: SLF001  # of this file

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """See redis-py. The context is made anew where its files have changed."""
        if self._dialler.tls is not None and not self.is_connected:
            self.ssl_context.context = await self._dialler.tls.current()
        await super().connect_check_health(*args, **kwargs)

    def _connection_arguments(self) -> dict[str, Any]:
        arguments = dict(super()._connection_arguments())
        arguments["server_hostname"] = self._dialler.certified_name
        return arguments


class _Provider(CredentialProvider):
    """Gives redis-py's connection the credentials that the client's own get."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        raise NotImplementedError("this provider belongs to an asynchronous client")

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        credentials = (await self._endpoint.introduce()).credentials
        assert credentials is not None  # noqa: S101  # else there is no such provider
        if credentials.username is None:
            return (credentials.password,)
        return (credentials.username, credentials.password)


def _connection_class(options: Options) -> type[Any]:
    if options.unix_socket_path is not None:
        return PooledUnixConnection
    return PooledTLSConnection if options.tls else PooledConnection


def _kwargs(options: Options, view: CommandOptions) -> ConnectionKwargs:
    """Return the options under the names that they have in a pool of redis-py's."""
    kwargs = ConnectionKwargs(
        db=options.db,
        username=options.username,
        password=options.password,
        credential_provider=options.credential_provider,
        client_name=options.client_name,
        protocol=options.protocol,
        legacy_responses=options.legacy_responses,
        decode_responses=view.decode_responses,
        encoding=options.encoding,
        encoding_errors=options.encoding_errors,
        socket_timeout=view.timeout,
        socket_connect_timeout=options.connect_timeout,
        health_check_interval=options.ping_interval or 0,
        retry=_no_retry(),
    )
    if options.unix_socket_path is not None:
        kwargs["path"] = options.unix_socket_path
        return kwargs
    kwargs.update(host=options.host, port=options.port, socket_keepalive=options.keep_alive is not None)
    if options.keep_alive is not None:
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        known = {name: round(value) for name, value in zip(names, options.keep_alive, strict=True)}
        kwargs["socket_keepalive_options"] = {
            getattr(socket, name): value for name, value in known.items() if hasattr(socket, name)
        }
    if isinstance(options.tls, TLSOptions):
        kwargs.update(_tls_kwargs(options.tls))
    return kwargs


def _tls_kwargs(tls: TLSOptions) -> dict[str, Any]:
    return {
        "ssl_ca_certs": tls.ca_file,
        "ssl_ca_path": tls.ca_path,
        "ssl_ca_data": tls.ca_data,
        "ssl_certfile": tls.certificate_file,
        "ssl_keyfile": tls.key_file,
        "ssl_password": tls.key_password,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.check_hostname,
        "ssl_min_version": ssl.TLSVersion[str(tls.minimum_version).replace(".", "_")],
        "ssl_ciphers": tls.ciphers,
    }


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0)
