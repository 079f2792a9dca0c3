"""A blocking client of a few lines, for what the kit itself has to ask a server.

It needs neither an event loop nor redis-py, so that starting a server or emptying a database
imports neither.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from aioredis_kit.testing import resp

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ErrorReply", "Flavour", "Probe", "ServerAddress", "Version"]

Flavour = Literal["redis", "valkey"]
Version = tuple[int, ...]

_PLAIN_SCHEMES = frozenset({"redis", "valkey", "garnet"})
_TLS_SCHEMES = frozenset({"rediss", "valkeys"})


class ErrorReply(Exception):  # noqa: N818 -- it is the server's reply, by its name in the protocol
    """The server answered with an error; the text is the server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where a server listens and how to get in.

    Attributes:
        host: Empty for a Unix socket.
        port: 0 for a Unix socket.
        unix_socket_path: Empty for TCP.
        username: Empty for the default user.
        password: Empty for none. Never shown.
        database: None if none is named.
        tls: None for a plain connection.
    """

    host: str = ""
    port: int = 0
    unix_socket_path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    database: int | None = None
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take a URL apart: ``redis``, ``rediss``, ``unix`` and their synonyms.

        Raises:
            ValueError: The scheme, the port or the database isn't one.
        """
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        is_unix = parts.scheme == "unix"
        if not is_unix and parts.scheme not in _PLAIN_SCHEMES | _TLS_SCHEMES:
            raise ValueError(
                f"the URL of a test server can't have the scheme {parts.scheme!r}; use redis://, rediss:// or unix://"
            )
        port = -1
        with suppress(ValueError):  # it quotes what it took for the port: the password's start, if that has a "/"
            port = parts.port or 0
        if port < 0:
            raise ValueError(
                'the URL of a test server has no valid port; percent-encode "/", "#" and "?" in its password'
            )
        database = query.get("db", "" if is_unix else parts.path.strip("/"))
        if database and not database.isdigit():
            raise ValueError(  # not quoted: it is the password's end, if that has a "/"
                'the URL of a test server names its database by what is no number; percent-encode "/", "#" and "?" in '
                "its password"
            )
        return cls(
            host="" if is_unix else parts.hostname or "localhost",
            port=0 if is_unix else port or 6379,
            unix_socket_path=unquote(parts.path) if is_unix else "",
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=int(database) if database else None,
            tls=_tls_context(query) if parts.scheme in _TLS_SCHEMES else None,
        )


class Probe:
    """One blocking connection.

    Lifecycle: connected, authenticated and on its database when constructed; a context manager.

    Args:
        address: Where to connect.
        timeout: Seconds for connecting and for each reply.

    Raises:
        OSError: Nobody listens there, or not in time.
        ErrorReply: The server refused the credentials or the database.
    """

    def __init__(self, address: ServerAddress, *, timeout: float = 5.0) -> None:
        self._sock = _connect(address, timeout)
        self._replies = self._sock.makefile("rb")
        try:
            if address.password:
                user = [address.username] if address.username else []
                self.call("AUTH", *user, address.password)
            if address.database:
                self.call("SELECT", address.database)
        except BaseException:  # refused, late or an interrupt: nobody else would close the socket
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._sock.close()

    def call(self, *words: bytes | str | int) -> Any:
        """Send one command and return its reply: bytes, a number, None or a list of these.

        Raises:
            OSError: The connection was lost, or no reply came in time.
            ErrorReply: The server refused it.
        """
        self._sock.sendall(resp.command(*words))
        return self._read_reply()

    def info(self, section: str) -> dict[str, str]:
        """Return one section of INFO."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def flavour(self) -> Flavour:
        """Return what kind of server this is."""
        return "valkey" if "valkey_version" in self.info("server") else "redis"

    def version(self) -> Version:
        """Return the server's version."""
        info = self.info("server")
        text = info.get("valkey_version") or info.get("redis_version", "")
        return tuple(int(number) for number in re.findall(r"\d+", text)[:3])

    def _read_reply(self) -> Any:
        line = self._replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection before it replied")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ErrorReply(rest.decode())
        if kind == b"+":
            return rest
        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        if kind == b"*":
            return [self._read_reply() for _ in range(number)]
        return self._replies.read(number + 2)[:-2]


def _connect(address: ServerAddress, timeout: float) -> socket.socket:
    if address.unix_socket_path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(address.unix_socket_path)
        except BaseException:  # nobody there, or an interrupt: nobody else would close the socket
            sock.close()
            raise
        return sock
    sock = socket.create_connection((address.host, address.port), timeout)
    if address.tls is None:
        return sock
    try:
        return address.tls.wrap_socket(sock, server_hostname=address.host)
    except BaseException:  # late, distrusted or an interrupt: nobody else would close the socket
        sock.close()
        raise


def _tls_context(query: dict[str, str]) -> ssl.SSLContext:
    """Read the options for which redis-py's URLs have names."""
    context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
    if query.get("ssl_check_hostname", "").lower() in {"false", "no", "0"}:
        context.check_hostname = False
    if query.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
