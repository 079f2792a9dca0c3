"""Find the server in the environment: which variables are looked at, in which order.

For a client with the name ``cache``:

1. ``ConnectionStrings__cache``: a connection string of StackExchange.Redis, or a URL. Aspire and .NET.
2. ``CACHE_URI``: a URL. Aspire.
3. ``CACHE_HOST``, with ``CACHE_PORT``, ``CACHE_USERNAME``, ``CACHE_PASSWORD``, ``CACHE_SSL`` and so on: ``SUFFIXES``,
   where what is often called otherwise has both names: who says ``CACHE_TLS`` is not to be served in the clear.
4. ``REDIS_URL``.
5. ``REDIS_HOST``, with ``REDIS_PORT`` and so on.
6. ``AZURE_CACHE_FOR_REDIS_HOST_NAME``, with ``AZURE_CACHE_FOR_REDIS_ACCESS_KEY`` or ``REDIS_SERVICE_PRINCIPAL_ID``, the
   user of Microsoft Entra ID. Azure's quickstarts.

A client without a name begins with ``REDIS_URL``. The first that is set says all; nothing is mixed. One that is set and
empty is an error rather than a reason to go on: who has forgotten to fill it in does not want another server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from aioredis_kit.config.connection_string import read_connection_string
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.options import Statement, read_text, read_url, state
from aioredis_kit.presets import azure_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["SUFFIXES", "Reading", "read_environment", "read_string"]

SUFFIXES: Final[Mapping[str, str]] = {
    "PORT": "port",
    "USERNAME": "username",
    "USER": "username",
    "PASSWORD": "password",
    "DB": "db",
    "DATABASE": "db",
    "SSL": "ssl",
    "TLS": "tls",
    "SSL_CA_CERTS": "ssl_ca_certs",
    "SSL_CERTFILE": "ssl_certfile",
    "SSL_KEYFILE": "ssl_keyfile",
    "SSL_CHECK_HOSTNAME": "ssl_check_hostname",
    "SSL_CERT_REQS": "ssl_cert_reqs",
    "SOCKET_TIMEOUT": "socket_timeout",
    "MAX_CONNECTIONS": "max_connections",
}
"""What may go with ``CACHE_HOST`` and ``REDIS_HOST``, and the options that it says."""

_Reader: TypeAlias = "Callable[[str, Mapping[str, str]], Reading]"
_AZURE_HOST: Final = "AZURE_CACHE_FOR_REDIS_HOST_NAME"
_AZURE_KEY: Final = "AZURE_CACHE_FOR_REDIS_ACCESS_KEY"
_AZURE_USER: Final = "REDIS_SERVICE_PRINCIPAL_ID"
_MAY_BE_EMPTY: Final = {"USERNAME", "USER", "PASSWORD"}  # Aspire's are with Microsoft Entra ID


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found.

    Attributes:
        said: What it says of the options.
        notes: What was found and not read, and why.
    """

    said: tuple[Statement, ...]
    notes: tuple[str, ...] = ()


def read_environment(name: str | None, environ: Mapping[str, str]) -> Reading:
    """Return what the environment says of a client.

    Args:
        name: The client's name, if it has one.
        environ: The environment.

    Raises:
        ConfigurationError: It names no server, or says something wrong.
    """
    candidates = _candidates(name)
    variable = next((each for each in candidates if each in environ), None)
    if variable is None:
        raise ConfigurationError(
            f"the environment names no server: set one of these; {_order(candidates, environ)}"
            + "".join(f"; {each} is set, and is none of these" for each in _nearly(candidates, environ))
        )
    if not environ[variable].strip():
        raise ConfigurationError(
            f"{variable} is empty: set it, or unset it for what comes next; {_order(candidates, environ)}"
        )
    reading = candidates[variable](variable, environ)
    rest = list(candidates)[list(candidates).index(variable) + 1 :]
    unread = tuple(f"{each} is set and was not read: {variable} comes first" for each in rest if environ.get(each))
    return Reading(reading.said, reading.notes + unread)


def read_string(text: str, source: str = "") -> list[Statement]:
    """Return what a URL or a connection string of StackExchange.Redis says.

    Args:
        text: Either of them.
        source: The variable that it was found in, if it was in one.

    Raises:
        ConfigurationError: It is neither, or says something wrong.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return read_url(text, source or "the URL")
    return read_connection_string(text, source or "the connection string")


def check_name(name: str) -> None:
    """Refuse what can't be a client's name.

    Raises:
        ConfigurationError: It can't.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"a client's name must be text, not {type(name).__name__}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", name):
        raise ConfigurationError(
            "a client's name must be letters, digits, '-', '_' and '.', and begin with a letter: it is a part of the "
            "names of variables"
        )


def _candidates(name: str | None) -> dict[str, _Reader]:
    """Return the variables that may name the server, in order, and what reads each."""
    general: dict[str, _Reader] = {"REDIS_URL": _read_url, "REDIS_HOST": _read_host, _AZURE_HOST: _read_azure}
    if name is None:
        return general
    check_name(name)
    prefix = re.sub("[.-]", "_", name.upper())
    return {
        f"ConnectionStrings__{name}": _read_string,
        f"{prefix}_URI": _read_url,
        f"{prefix}_HOST": _read_host,
    } | general


def _order(candidates: Iterable[str], environ: Mapping[str, str]) -> str:
    states = (f"{each} ({'empty' if each in environ else 'not set'})" for each in candidates if not environ.get(each))
    return f"looked for, in this order: {', '.join(states)}"


def _nearly(candidates: Iterable[str], environ: Iterable[str]) -> list[str]:
    """Return what is set and may have been meant: in another case, or a URL where it is a URI."""

    def form(variable: str) -> str:
        return re.sub("_UR[IL]$", "_URL", variable.upper())

    forms = set(map(form, candidates))
    return [each for each in environ if form(each) in forms]


def _read_string(variable: str, environ: Mapping[str, str]) -> Reading:
    return Reading(tuple(read_string(environ[variable], variable)))


def _read_url(variable: str, environ: Mapping[str, str]) -> Reading:
    return Reading(tuple(read_url(environ[variable], variable)))


def _read_host(variable: str, environ: Mapping[str, str]) -> Reading:
    prefix = variable.removesuffix("HOST")
    said = [state("host", environ[variable], variable)]
    for suffix, option in SUFFIXES.items():
        other = f"{prefix}{suffix}"
        text = environ.get(other)
        if text is None or (text == "" and suffix in _MAY_BE_EMPTY):
            continue
        if not text.strip():
            raise ConfigurationError(f"{other} is empty: set it, or unset it")
        if suffix == "PORT" and text.startswith("tcp://"):
            raise ConfigurationError(
                f"{other} is what Kubernetes puts there for a service of that name: set it to the port, or switch that "
                "off in the pod (enableServiceLinks: false)"
            )
        said.append(read_text(state(option, text, other)))
    return Reading(tuple(said))


def _read_azure(variable: str, environ: Mapping[str, str]) -> Reading:
    host, _, port = environ[variable].partition(":")
    if azure_port(host) is None:
        raise ConfigurationError(
            f"{variable} is no host on Azure: it must be one such as NAME.redis.cache.windows.net or "
            "NAME.REGION.redis.azure.net; another server is named by REDIS_URL"
        )
    said = [state("host", host, variable)]
    if port:
        said.append(read_text(state("port", port, variable)))
    key, user = environ.get(_AZURE_KEY), environ.get(_AZURE_USER)
    if key:
        unread = (f"{_AZURE_USER} is set and was not read: {_AZURE_KEY} comes first",) if user else ()
        return Reading((*said, state("password", key, _AZURE_KEY)), unread)
    if user:
        said.append(state("username", user, _AZURE_USER))
    return Reading(tuple(said))
