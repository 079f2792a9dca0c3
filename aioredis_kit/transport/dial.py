"""Open a socket: TCP, TLS or Unix."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from aioredis_kit.exceptions import ConnectError
from aioredis_kit.policy.tls_failures import explain, explain_reset, is_about_name, tls_error_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioredis_kit.options import SocketOptions
    from aioredis_kit.transport.tls import TLSContext

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

AddressInfo: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""What a look-up returns: the arguments for a socket, an official name, and where to connect it to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is.

    Attributes:
        host: Name or IP address; unused with ``path``.
        port: TCP port; unused with ``path``.
        path: Path of a Unix socket, if it is one.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialler:
    """Opens sockets to one address.

    Attributes:
        address: Where to.
        tls: The TLS context, if the connection is to be encrypted.
        server_hostname: The name that the certificate must bear; ``None`` is the host.
        options: Socket options.
    """

    address: Address
    tls: TLSContext | None
    server_hostname: str | None
    options: SocketOptions

    async def dial(self, protocol: Callable[[], ProtocolT], *, timeout: float) -> tuple[asyncio.Transport, ProtocolT]:
        """Open a socket, and TLS on it.

        The addresses of a name are tried one after the other. This is done here and not left to asyncio, whose own
        race between them leaks sockets when it is cancelled.

        Args:
            protocol: Makes the protocol.
            timeout: How long all is going to take at most, in seconds: each address gets its share.

        Raises:
            ConnectError: TLS failed, and it is known why.
            OSError: It can't be opened otherwise.

        Cancellation:
            Safe. A half-open socket is closed.
        """
        if self.address.path is not None:
            return await asyncio.get_running_loop().create_unix_connection(protocol, self.address.path)
        now = asyncio.get_running_loop().time
        end = now() + timeout
        context = None if self.tls is None else await self.tls.current()
        try:
            return await self._open(protocol, context, timeout)
        except ssl.SSLError as error:
            names = await self._names(min(timeout / 4, (end - now()) / 2)) if is_about_name(error) else ()
            if (explained := self.explain(error, names)) is not None:
                raise explained from error
            raise

    async def look_up(self) -> Sequence[AddressInfo]:
        """Return the addresses of the host, in the order in which they are tried.

        Raises:
            OSError: It has none, or nobody can tell.

        Cancellation:
            Safe. A look-up that goes on in its thread is not waited for.
        """
        host, port = self.address.host, self.address.port
        try:  # an IP address needs no look-up, which would take a thread
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)

    def explain(self, error: BaseException | None, names: Sequence[str] = ()) -> ConnectError | None:
        """Return why TLS failed in words, with the option that mends it; ``None`` if that is not known.

        Args:
            error: How the connection ended.
            names: The names in the server's certificate, as far as they are known.
        """
        failure = tls_error_behind(error)
        if self.tls is None or failure is None:
            return None
        text = explain(failure, self.tls.options, self.certified_name, names)
        return ConnectError(f"{self.address}: {text}", address=str(self.address)) if text else None

    def explain_reset(self, transport: asyncio.Transport) -> str:
        """Return what may be behind a connection that the server resets before it has said a word."""
        secured = transport.get_extra_info("ssl_object")
        if self.tls is None or secured is None or secured.version() != "TLSv1.3":
            return ""
        return f"; {explain_reset(self.tls.options)}"

    @property
    def certified_name(self) -> str:
        """The name that the certificate must bear."""
        return (self.server_hostname or self.address.host).removesuffix(".")  # which ends no name in a certificate

    async def _names(self, timeout: float) -> tuple[str, ...]:
        """Return the names in a certificate that is trusted, but for another name: ask for it again, send nothing."""
        context = await self.tls.without_name() if self.tls is not None else None
        if context is None:
            return ()
        with contextlib.suppress(OSError):  # a time-out is one, too: the names are not known then
            async with asyncio.timeout(timeout):
                transport, _ = await self._open(asyncio.Protocol, context, timeout)
                certificate = transport.get_extra_info("peercert")
                transport.abort()
                return tuple(value for _, value in certificate.get("subjectAltName", ()))
        return ()

    async def _open(
        self, protocol: Callable[[], ProtocolT], context: ssl.SSLContext | None, timeout: float
    ) -> tuple[asyncio.Transport, ProtocolT]:
        sock = await self._connect(timeout)
        try:
            self._set_options(sock)
            if context is not None:
                return await self._secure(sock, context, protocol())
            return await asyncio.get_running_loop().create_connection(protocol, sock=sock)
        except BaseException:  # cancelled too: nobody else would close the socket
            sock.close()
            raise

    async def _secure(
        self, sock: socket.socket, tls: ssl.SSLContext, protocol: ProtocolT
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Speak TLS on a socket.

        In two steps, because asyncio's way to do it in one closes politely when it is cancelled as the handshake ends:
        the transport waits for an answer on a socket that is already closed, and its number can't be used again.
        """
        loop = asyncio.get_running_loop()
        raw, _ = await loop.create_connection(_Unread, sock=sock)
        try:
            transport = await loop.start_tls(raw, protocol, tls, server_hostname=self.certified_name)
        except BaseException:  # cancelled too: nobody else knows of the transport
            raw.abort()
            raise
        if transport is None:  # asyncio's way to say that it was closed meanwhile
            raise ConnectionResetError("the connection was closed during the TLS handshake")
        return transport, protocol

    async def _connect(self, timeout: float) -> socket.socket:
        loop = asyncio.get_running_loop()
        error: OSError = socket.gaierror(socket.EAI_NONAME, "the name has no address")
        addresses = await self.look_up()
        for family, kind, number, _, where in addresses:
            sock = socket.socket(family, kind, number)
            try:
                sock.setblocking(False)  # noqa: FBT003  # it takes no keyword
                async with asyncio.timeout(timeout / len(addresses)):
                    await loop.sock_connect(sock, where)
            except OSError as failure:  # a time-out is one, too
                sock.close()
                error = failure
            except BaseException:  # cancelled too: nobody else would close the socket
                sock.close()
                raise
            else:
                return sock
        raise error

    def _set_options(self, sock: socket.socket) -> None:
        options = self.options
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.no_delay)
        if options.keep_alive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            idle, interval, probes = options.keep_alive
            _set_tcp(sock, ("TCP_KEEPIDLE", "TCP_KEEPALIVE"), round(idle))
            _set_tcp(sock, ("TCP_KEEPINTVL",), round(interval))
            _set_tcp(sock, ("TCP_KEEPCNT",), probes)
        if options.tcp_user_timeout is not None:
            _set_tcp(sock, ("TCP_USER_TIMEOUT",), round(options.tcp_user_timeout * 1000))


class _Unread(asyncio.Protocol):
    """Leaves what comes before TLS unread."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).pause_reading()


def _set_tcp(sock: socket.socket, names: tuple[str, ...], value: int) -> None:
    """Set the first of these options that the platform has."""
    for name in names:
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
            return
