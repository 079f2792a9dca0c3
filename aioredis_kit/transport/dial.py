"""Open a socket: TCP, TLS or Unix."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from aioredis_kit.options import SocketOptions

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)

_HAPPY_EYEBALLS_DELAY = 0.25  # RFC 8305, section 5: the recommended connection attempt delay, in seconds


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
    tls: ssl.SSLContext | None
    server_hostname: str | None
    options: SocketOptions

    async def dial(self, protocol: Callable[[], ProtocolT]) -> tuple[asyncio.Transport, ProtocolT]:
        """Open a socket, and TLS on it.

        Raises:
            OSError: It can't be opened, or a certificate does not verify.

        Cancellation:
            Safe. A half-open socket is closed.
        """
        loop = asyncio.get_running_loop()
        address = self.address
        if address.path is not None:
            return await loop.create_unix_connection(protocol, address.path)
        # Only asyncio's own loops know how to try several addresses at once.
        extra = {"happy_eyeballs_delay": _HAPPY_EYEBALLS_DELAY}
        connect: Callable[..., Awaitable[tuple[asyncio.Transport, ProtocolT]]] = loop.create_connection
        transport, made = await connect(
            protocol,
            address.host,
            address.port,
            ssl=self.tls,
            server_hostname=self._server_hostname(),
            **(extra if isinstance(loop, asyncio.BaseEventLoop) else {}),
        )
        self._set_options(transport.get_extra_info("socket"))
        return transport, made

    def _server_hostname(self) -> str | None:
        if self.tls is None:
            return None
        return self.server_hostname or self.address.host

    def _set_options(self, sock: socket.socket | None) -> None:
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
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


def _set_tcp(sock: socket.socket, names: tuple[str, ...], value: int) -> None:
    """Set the first of these options that the platform has."""
    for name in names:
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
            return
