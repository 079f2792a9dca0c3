"""The options of the pytest plugin, from the command line, the environment and the ini file.

For the server, the command line goes before variables, these before ini: all of one place, as a URL there and a binary
here would leave open which of them is meant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import pytest

if TYPE_CHECKING:
    from aioredis_kit.testing.binaries import FoundServer

__all__ = ["Isolation", "ServerOptions", "add_options", "fails_open_clients", "isolation"]

Isolation = Literal["server", "database"]

_SERVERS = {
    "url": "URL of a running server to test against, instead of starting one",
    "server": "path of the redis-server or valkey-server to start",
    "container": "image of a container to start: redis:8, valkey/valkey:9 …",
}
_CHOICES = {
    "isolation": (
        ("server", "database"),
        "what each worker of xdist has of its own: a server (the default, where tests start it) or databases of one",
    ),
    "open-clients": (("fail", "ignore"), "what becomes of a test that leaves a client open (default: fail)"),
}


def add_options(parser: pytest.Parser) -> None:
    """Add the options to the command line (``--aioredis-kit-url``) and to the ini file (``aioredis_kit_url``)."""
    group = parser.getgroup("aioredis_kit", "the server behind aioredis_kit's fixtures")
    for name, meaning in _SERVERS.items():
        group.addoption(f"--aioredis-kit-{name}", metavar=name.upper(), help=meaning)
        parser.addini(f"aioredis_kit_{name}", help=meaning, default="")
    for name, (choices, meaning) in _CHOICES.items():
        group.addoption(f"--aioredis-kit-{name}", choices=choices, help=meaning)
        parser.addini(f"aioredis_kit_{name.replace('-', '_')}", help=meaning, default="")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Which server is to be tested against; at most one of them is set.

    Attributes:
        url: A running one.
        server: A binary's path.
        container: A container's image.
    """

    url: str | None = field(default=None, repr=False)  # with its password
    server: str | None = None
    container: str | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> ServerOptions:
        """Return what was given.

        Raises:
            UsageError: Two of them exclude each other.
        """
        given = {name: config.getoption(f"aioredis_kit_{name}") for name in _SERVERS}
        _require_one(given, "--aioredis-kit-{}")
        variables = (os.environ.get(f"AIOREDIS_KIT_TEST_{name.upper()}") for name in _SERVERS)
        if not any(given.values()) and not any(variables):
            given = {name: config.getini(f"aioredis_kit_{name}") for name in _SERVERS}
            _require_one(given, "aioredis_kit_{}")
        return cls(**given)

    def find(self) -> FoundServer:
        """Find the server, see `find_server`.

        Raises:
            ServerNotFoundError: There is none.
        """
        from aioredis_kit.testing.binaries import find_server  # noqa: PLC0415 -- loading the plugin is to be cheap

        return find_server(url=self.url, binary=self.server, container=self.container)


def isolation(config: pytest.Config) -> Isolation | None:
    """Return what the workers of xdist have of their own, if that was given.

    Raises:
        UsageError: It is none of the two.
    """
    return cast("Isolation | None", _choice(config, "isolation"))


def fails_open_clients(config: pytest.Config) -> bool:
    """Return whether a test fails that leaves a client open.

    Raises:
        UsageError: The option has another value than its two.
    """
    return _choice(config, "open-clients") != "ignore"


def _choice(config: pytest.Config, name: str) -> str | None:
    choices, _ = _CHOICES[name]
    option = f"aioredis_kit_{name.replace('-', '_')}"
    given: str | None = config.getoption(option) or config.getini(option) or None
    if given is not None and given not in choices:
        raise pytest.UsageError(f"{option} is {given!r}; it can be {' or '.join(choices)}")
    return given


def _require_one(given: dict[str, str | None], form: str) -> None:
    names = [form.format(name) for name, value in given.items() if value]
    if len(names) > 1:
        raise pytest.UsageError(f"{' and '.join(names)} exclude each other: give one of them")
