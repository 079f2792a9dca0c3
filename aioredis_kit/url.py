"""Read the URL of a server.

::

    redis://[[user]:password@][host[:port]][/db][?option=value&…]      also valkey:// and garnet://
    rediss://…                                                         the same over TLS; also valkeys://
    unix://[[user]:password@]/path/to/socket[?option=value&…]

Rules of this file:

1. Any option of a simple type may stand in the query. Its value stays text here: the option reads it.
2. An error shows no piece of the URL and has no context that does. If somebody forgot to percent-encode a
   password with a ``/`` or ``#`` in it, any piece may be a part of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["parse_url"]

T = TypeVar("T")

_IS_TLS: Final = {"redis": False, "rediss": True, "valkey": False, "valkeys": True, "garnet": False}
_SCHEMES: Final = ", ".join(f"{scheme}://" for scheme in (*_IS_TLS, "unix"))
_ADDRESS: Final = re.compile(r"(?:\[(?P<ip>[^\[\]]+)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]{0,5}))?")
_DATABASE: Final = re.compile(r"(?:/(?P<db>[0-9]{1,10})?)?")


def parse_url(url: str) -> dict[str, object]:
    """Return the options that a URL gives, by their names.

    ``port``, ``db`` and ``tls`` are values; all others are text, those of the query not yet looked at.

    Raises:
        ConfigurationError: It is not the URL of a server.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be text such as redis://localhost:6379, not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in {*_IS_TLS, "unix"}:
        raise ConfigurationError(
            f"url must begin with one of {_SCHEMES}; put redis:// before a plain host or host:port, and give a "
            "connection string of StackExchange.Redis to aioredis_kit.config"
        )
    parts = _split(url)
    options = _unix_socket(parts) if scheme == "unix" else {**_server(parts), "tls": _IS_TLS[scheme]}
    for name, text in [*_user(parts), *_query(parts)]:
        if str(options.setdefault(name, text)) != text:
            raise ConfigurationError(f"url says more than once what {name} is: keep one of them")
    return options


def _split(url: str) -> SplitResult:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ConfigurationError("url contains a space or control character: remove or percent-encode it")
    parts = _checked("url has a malformed address: an IPv6 address belongs in brackets", urlsplit, url)
    if "#" in url or "@" in parts.path + parts.query:
        raise ConfigurationError(
            "url contains a '#', or an '@' after the address: percent-encode what is special in user name, "
            "password and path ('/' is %2F, '?' %3F, '#' %23, '@' %40)"
        )
    return parts


def _server(parts: SplitResult) -> dict[str, object]:
    address = _ADDRESS.fullmatch(parts.netloc.rpartition("@")[2])
    if address is None:
        raise ConfigurationError(
            "url has a malformed address: it must be host, host:port or [IPv6 address]:port; percent-encode "
            "what is special in user name and password"
        )
    path = _DATABASE.fullmatch(parts.path)
    if path is None:
        raise ConfigurationError("url has a malformed path: it must be the number of a database, such as /0")
    options: dict[str, object] = {}
    if host := address["ip"] or address["name"]:
        options["host"] = _decoded("host", host)
    if address["port"]:
        options["port"] = int(address["port"])
        if not 0 < int(address["port"]) < 65536:
            raise ConfigurationError("url has a port that is out of range: it must be from 1 to 65535")
    if path["db"]:
        options["db"] = int(path["db"])
    return options


def _unix_socket(parts: SplitResult) -> dict[str, object]:
    if parts.netloc.rpartition("@")[2]:
        raise ConfigurationError("url with unix:// must have an absolute path: unix:///path/to/socket")
    if parts.path in {"", "/"}:
        raise ConfigurationError("url names no Unix socket: it must be unix:///path/to/socket")
    return {"unix_socket_path": _decoded("path", parts.path)}


def _user(parts: SplitResult) -> list[tuple[str, str]]:
    said = {"username": parts.username, "password": parts.password}
    return [(name, _decoded(name, text)) for name, text in said.items() if text]


def _query(parts: SplitResult) -> list[tuple[str, str]]:
    strictly: dict[str, Any] = {"keep_blank_values": True, "strict_parsing": True, "errors": "strict"}
    problem = "url has a malformed query: it must be ?option=value&option=value"
    return _checked(problem, lambda: parse_qsl(parts.query, **strictly))


def _decoded(name: str, text: str) -> str:
    problem = f"url has a {name} with percent-encoded bytes that are not UTF-8: encode it as UTF-8"
    return _checked(problem, lambda: unquote(text, errors="strict"))


def _checked(problem: str, read: Callable[..., T], *args: str) -> T:
    try:
        return read(*args)
    except ValueError:
        # Raised below rather than here: the error would carry this one, which quotes the URL.
        pass
    raise ConfigurationError(problem)
