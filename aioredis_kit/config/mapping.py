"""Read a mapping of options, such as a table of a TOML file.

::

    url = "rediss://cache.example.com"        # or host = …, port = …
    command_timeout = 2.0                     # "none" where an option may be None
    reconnect_strategy = 0.5
    keep_alive = [30, 5, 3]
    credential_provider = "entra"             # or a table with the arguments of EntraIdCredentials

    [tls]                                     # TLSOptions
    ca_file = "/etc/ssl/mine.pem"

    [client_side_cache]                       # CacheOptions
    max_entries = 10_000

Every option may be given, under any of its names. Text stands for what it stands for in the query of a URL.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import TEXT, Kind, kinds_of, to_seconds
from aioredis_kit.options import Statement, TLSOptions, read_text, read_url, state

if TYPE_CHECKING:
    import os

    from aioredis_kit.entra import EntraIdCredentials

__all__ = ["entra_credentials", "read_mapping", "read_toml"]

T = TypeVar("T", TLSOptions, CacheOptions)

_NUMBER: Final = Kind("a number that is not negative", to_seconds)
_ENTRA: Final[Mapping[str, Kind]] = dict.fromkeys(("username", "scope", "tenant_id", "claims"), TEXT) | dict.fromkeys(
    ("ratio", "margin", "jitter"), _NUMBER
)
_TABLES: Final = {"tls": TLSOptions, "ssl": TLSOptions, "client_side_cache": CacheOptions}
_PROVIDERS: Final = ("credential_provider", "credentials_provider")


def read_mapping(given: Mapping[str, object], source: str) -> list[Statement]:
    """Return what a mapping says.

    Args:
        given: Values by the options' names; ``url`` is the URL of the server.
        source: Where it comes from, for errors and explanations.

    Raises:
        ConfigurationError: It has an unknown key, or a value of another type or out of range.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{source} must be a mapping, not {type(given).__name__}")
    said: list[Statement] = []
    for name, value in given.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"{source} has a key of type {type(name).__name__}: it must be text")
        if name != "url":
            said.append(read_text(state(name, _value(name, value, source), source)))
        elif value is not None:
            said += read_url(_text(value, source), f"the url in {source}")
    return said


def read_toml(path: str | os.PathLike[str], table: str | None) -> tuple[Mapping[str, object], str]:
    """Return a table of a TOML file, and what it is called in errors and explanations.

    Args:
        path: The file.
        table: The table's name, with dots, such as ``tool.cache``; ``None``: all of the file.

    Raises:
        ConfigurationError: The file can't be read, is no TOML, or has no such table.
    """
    content: Any = _parsed_toml(path)
    if table is None:
        return content, str(path)
    for name in table.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} has no table [{table}]")
    return content, f"[{table}] of {path}"


def _parsed_toml(path: str | os.PathLike[str]) -> Mapping[str, object]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"can't be read: {error.strerror or type(error).__name__}"
    except ValueError as error:
        # Where it is wrong, and nothing more: the error may quote the file, so it is no context of ours either.
        place = re.search(r" \(at [a-z0-9 ,]+\)$", str(error))
        problem = f"is no TOML{place[0] if place else ''}"
    raise ConfigurationError(f"{path} {problem}")


def entra_credentials(arguments: Mapping[str, Any]) -> EntraIdCredentials:
    """Return a provider of tokens from Microsoft Entra ID.

    Raises:
        ConfigurationError: azure-identity is not installed, or an argument is out of range.
    """
    from aioredis_kit.entra import EntraIdCredentials  # noqa: PLC0415  # few need it

    return EntraIdCredentials(**arguments)


def _text(value: object, source: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"url in {source} must be text, not {type(value).__name__}")
    return value


def _value(name: str, value: object, source: str) -> object:
    """Return what a table or the name of a provider stands for, or the value as it is."""
    if isinstance(value, Mapping) and name in _TABLES:
        return _made(_TABLES[name], name, value, source)
    if name == "client_side_cache" and value is True:
        return CacheOptions()
    if name in _PROVIDERS and isinstance(value, str | Mapping):
        return _provider(name, value, source)
    return value


def _made(kind: type[T], name: str, given: Mapping[Any, Any], source: str) -> T:
    kinds = kinds_of(kind)
    _check_keys(name, given, kinds, source)
    values: dict[str, Any] = {
        key: kinds[key].parsed(f"{name}.{key} in {source}", value)
        if isinstance(value, str) and kinds[key].parse is not None
        else value
        for key, value in given.items()
    }
    try:
        return kind(**values)
    except ConfigurationError as error:
        problem = str(error)
    raise ConfigurationError(f"{problem} (in {source})")


def _provider(name: str, given: str | Mapping[Any, Any], source: str) -> EntraIdCredentials:
    """Return the provider of credentials that text or a table names; ``type`` of the latter is ``"entra"``, too."""
    arguments = {"type": given} if isinstance(given, str) else {"type": "entra", **given}
    _check_keys(name, arguments, {"type": TEXT, **_ENTRA}, source)
    if arguments.pop("type") != "entra":
        raise ConfigurationError(
            f"{name} in {source} must be 'entra', for Microsoft Entra ID, or a table of its arguments; pass another "
            "provider as an argument"
        )
    values = {key: _ENTRA[key].value(f"{name}.{key} in {source}", value) for key, value in arguments.items()}
    try:
        return entra_credentials(values)
    except ConfigurationError as error:
        problem = str(error)
    raise ConfigurationError(f"{name} in {source}: {problem}")


def _check_keys(name: str, given: Mapping[Any, Any], known: Mapping[str, Kind], source: str) -> None:
    for key in given:
        if key not in known:
            (closest,) = difflib.get_close_matches(str(key)[:50].lower(), known, n=1, cutoff=0)
            raise ConfigurationError(
                f"there is no option '{name}.{str(key)[:50]}' in {source}: the closest one is '{name}.{closest}'"
            )
