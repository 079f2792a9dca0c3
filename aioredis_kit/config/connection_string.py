"""Read a connection string of StackExchange.Redis, as .NET, Aspire and the Azure portal give it.

::

    cache.example.com:6380,password=…,ssl=true,abortConnect=false

Rules of this file:

1. Every key of StackExchange.Redis is in ``KEYS``: it is another name of an option, has no effect, or is refused; the
   latter two with a reason. What has no effect and matters is told by a warning, see ``ClientConfiguration``.
2. The format can't escape a comma. So whatever stands behind a password, or a sentinel's, may be a part of it, and
   is not shown.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import FLAG, INTERVAL, OPPOSITE, Kind, one_of, seconds
from aioredis_kit.options import Statement, read_text, state
from aioredis_kit.presets import azure_port
from aioredis_kit.spellings import Alias, Ignored, Meaning, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KEYS", "read_connection_string"]

_TLS_PORT: Final = 6380  # what StackExchange.Redis assumes with ssl
_ENDPOINT: Final = re.compile(
    r"(?:\[(?P<ip>[^\[\]]+)\]|(?P<name>[^\[\]:!=]+))(?::(?P<port>[0-9]{1,5}))?|!(?P<path>/.+)"
)
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z_ ]{0,39}")
_PASSWORDS: Final = {"password", "sentinelpassword"}
_COMMAND: Final = re.compile(r"\$[A-Za-z]{1,40}")
_COMMA: Final = "; if the password contains a comma, which this format can't escape, give a URL with %2C in its place"


def _parse_whole_number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError
    return int(text)


def _parse_milliseconds(text: str) -> float:
    return _parse_whole_number(text) / 1000


def _parse_oldest_version(text: str) -> str:
    names = {"tls12": "TLSv1.2", "tls13": "TLSv1.3"}
    return min(names[name.strip().lower()] for name in text.split("|"))


_MILLISECONDS: Final = Kind("a whole number of milliseconds greater than 0", seconds().read, _parse_milliseconds)
_KEEP_ALIVE: Final = Kind(
    "a whole number of seconds, 0 for off, or -1 for the default", INTERVAL.read, _parse_whole_number
)
_VERSIONS: Final = Kind("Tls12, Tls13, or both with a bar between", str, _parse_oldest_version)
_PROTOCOL: Final = Kind("resp2 or resp3", one_of(2, 3).read, lambda text: int(text.lower().removeprefix("resp")))
_WHOLE_NUMBER: Final = Kind("a whole number", int, _parse_whole_number)
_LOWER: Final = Kind("text", str, str.lower)

_EMPTY: Final = ("",)
_SENTINEL: Final = Refused("is not supported: there is no sentinel client yet; name the server itself", _EMPTY)
_ONE_SERVER: Final = "There is one server, whose topology is not asked for."
_MAINTENANCE: Final = Ignored("The server is not asked for maintenance notifications.")
_OBSOLETE: Final = Ignored("It is obsolete, and without effect in StackExchange.Redis as well.", unset=_EMPTY)

KEYS: Final[Mapping[str, Meaning]] = {
    "abortConnect": Ignored(
        "connect() raises if no server answers within initial_connect_timeout; without connect(), the first command "
        "begins to connect in the background.",
        FLAG,
        (False,),
    ),
    "allowAdmin": Ignored("No command is forbidden by the client: give its user fewer rights.", FLAG, (True,)),
    "asyncTimeout": Alias("command_timeout", _MILLISECONDS),
    "channelPrefix": Refused("is not supported: channels are named as they are, so put it into their names", _EMPTY),
    "checkCertificateRevocation": Ignored(
        "Python has no lists of revoked certificates: load them into an SSLContext, and pass that as tls.",
        FLAG,
        (False,),
    ),
    "configChannel": Ignored(_ONE_SERVER, unset=_EMPTY),
    "configCheckSeconds": Ignored(_ONE_SERVER, _WHOLE_NUMBER, ()),
    "connectRetry": Ignored(
        "connect() tries for initial_connect_timeout seconds, however often that is.", _WHOLE_NUMBER, ()
    ),
    "connectTimeout": Alias("connect_timeout", _MILLISECONDS),
    "defaultDatabase": Alias("db", unset=_EMPTY),
    "defaults": Ignored("Defaults are those of this client.", unset=_EMPTY),
    "highIntegrity": Ignored("A connection whose replies are out of step is given up anyway.", FLAG, (False,)),
    "highPriorityThreads": _OBSOLETE,
    "keepAlive": Alias("ping_interval", _KEEP_ALIVE, (-1,)),
    "maintMovingEndpointType": _MAINTENANCE,
    "maintNotifications": Ignored(_MAINTENANCE.reason, _LOWER, ("disabled", "")),
    "maintPostEventRelaxed": _MAINTENANCE,
    "maintRelaxedTimeout": _MAINTENANCE,
    "maintRelaxedWindowMax": _MAINTENANCE,
    "name": Alias("client_name", unset=_EMPTY),
    "password": Alias("password", unset=_EMPTY),
    "preserveAsyncOrder": _OBSOLETE,
    "protocol": Alias("protocol", _PROTOCOL, _EMPTY),
    "proxy": Refused("is not supported: such proxies know too few commands; name the server itself", ("", "none")),
    "resolveDns": Ignored("The name is resolved anew for each connection.", FLAG, (False,)),
    "responseTimeout": _OBSOLETE,
    "sentinelPassword": _SENTINEL,
    "sentinelUser": _SENTINEL,
    "serviceName": _SENTINEL,
    "setlib": Alias("disable_client_info", OPPOSITE),
    "ssl": Alias("tls", FLAG),
    "sslHost": Alias("tls.server_hostname", unset=_EMPTY),
    "sslProtocols": Alias("tls.minimum_version", _VERSIONS, ("", "None", "none")),
    "syncTimeout": Alias("command_timeout", _MILLISECONDS),
    "tcpKeepAlive": Alias("keep_alive"),
    "tiebreaker": Ignored(_ONE_SERVER, unset=_EMPTY),
    "tunnel": Refused("is not supported: connections are made directly", _EMPTY),
    "user": Alias("username", unset=_EMPTY),
    "version": Ignored("The server says what it is.", unset=_EMPTY),
    "writeBuffer": _OBSOLETE,
}
_BY_LOWER: Final = {name.lower(): name for name in KEYS}
_DISABLED: Final = Ignored("No command is kept from being sent: give the client's user fewer rights.")
_RENAMED: Final = Refused("is not supported: commands have the names that they have")


def read_connection_string(text: str, source: str) -> list[Statement]:
    """Return what a connection string says.

    Args:
        text: The string.
        source: Where it was found, for errors and explanations.

    Raises:
        ConfigurationError: It is malformed, names no server or several, has an unknown key, a wrong value, or a key
            that can't be honoured.
    """
    parts = [part for part in (part.strip() for part in text.split(",")) if part]
    pairs = {number: part.split("=", 1) for number, part in enumerate(parts) if part.find("=") > 0}
    places = [number for number in range(len(parts)) if number not in pairs]
    password = min((n for n, (key, _) in pairs.items() if key.strip().lower() in _PASSWORDS), default=len(parts))
    behind = [parts[number] for number in places if number > password]
    said = _endpoint(list(dict.fromkeys(parts[number] for number in places)), behind, source)
    for number, (key, value) in pairs.items():
        name = _name(key.strip(), number + 1, source, is_shown=number <= password)
        said.append(_stated(name, value.strip(), source))
    if any(each.name == "asyncTimeout" for each in said):
        said = [each for each in said if each.name != "syncTimeout"]
    return said + _port_of_ssl(said, source)


def _endpoint(endpoints: list[str], behind: list[str], source: str) -> list[Statement]:
    """Return where the server is.

    Args:
        endpoints: What has no key.
        behind: What of it stands behind a password, and may be a part of it.
        source: Where it was found.
    """
    if not endpoints:
        raise ConfigurationError(f"{source} names no server: add host:port to the connection string")
    comma = _COMMA if behind else ""
    if len(endpoints) > 1:
        raise ConfigurationError(
            f"{source} names {len(endpoints)} servers, and a client is for one: keep one host:port, as there is no "
            f"cluster and no sentinel client yet{comma}"
        )
    found = _ENDPOINT.fullmatch(endpoints[0])
    if found is None:
        raise ConfigurationError(
            f"{source} has a malformed address: it must be host, host:port, [IPv6 address]:port or "
            f"!/path/to/socket{comma}"
        )
    if behind and not found["port"]:
        raise ConfigurationError(f"{source} names no server before its password: begin with host:port{comma}")
    if found["path"]:
        return [state("unix_socket_path", found["path"], source)]
    said = [state("host", found["ip"] or found["name"], source)]
    return [*said, state("port", int(found["port"]), source)] if found["port"] else said


def _name(key: str, number: int, source: str, *, is_shown: bool) -> str:
    """Return a key as it is written in ``KEYS``; one that is about a command, with its dollar sign.

    Args:
        key: The key as it was given.
        number: Which part of the connection string it is in.
        source: Where that was found.
        is_shown: Whether it may be shown: it is no part of a password.
    """
    if (known := _BY_LOWER.get(key.lower())) is not None:
        return known
    if _COMMAND.fullmatch(key):
        return key if is_shown else "$…"
    found = difflib.get_close_matches(key.lower()[:50], _BY_LOWER, n=1, cutoff=0.0 if is_shown else 0.8)
    closest = f": the closest one is {_BY_LOWER[found[0]]!r}" if found else ""
    if not is_shown:
        raise ConfigurationError(f"{source} has an unknown key in its part {number}{closest}{_COMMA}")
    if not _KEY.fullmatch(key):
        raise ConfigurationError(f"{source} has a malformed key in its part {number}: it must be key=value,key=value")
    raise ConfigurationError(f"{source} has an unknown key {key!r}{closest}")


def _stated(name: str, text: str, source: str) -> Statement:
    if name.startswith("$"):
        return Statement(name, text or "disabled", _RENAMED if text else _DISABLED, source)
    meaning = KEYS[name]
    if isinstance(meaning, Refused):
        return Statement(name, text.lower(), meaning, source)
    said = Statement(name, text, meaning, source)
    return said if isinstance(meaning, Alias | Ignored) and text in meaning.unset else read_text(said)


def _port_of_ssl(said: list[Statement], source: str) -> list[Statement]:
    """Return the port that StackExchange.Redis assumes with ``ssl``, if none was said and none is known."""
    values = {each.name: each.value for each in said}
    if values.get("ssl") is not True or "host" not in values or "port" in values or azure_port(str(values["host"])):
        return []
    return [replace(state("port", _TLS_PORT, f"{source}, whose ssl is true"), is_implied=True)]
