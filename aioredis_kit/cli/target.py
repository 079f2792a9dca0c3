"""What a command is about: the argument ``TARGET``, and the client's options that it stands for."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from aioredis_kit.config import ClientConfiguration
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.transport.dial import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aioredis_kit.options import Options

__all__ = ["Target", "probing", "read_target", "seconds", "target_argument", "timeout_option"]

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Target:
    """The server that a command is about.

    Attributes:
        configuration: The client's options.
        name: The name that was looked for in the environment; ``None``: it had none, or was no name.
        sources: Where the options came from, such as ``CACHE_URI``, the first being where the server is named.
    """

    configuration: ClientConfiguration
    name: str | None
    sources: tuple[str, ...]

    @property
    def options(self) -> Options:
        """The client's options."""
        return self.configuration.options

    @property
    def address(self) -> str:
        """Where the server is: ``host:port``, or the path of a Unix socket."""
        options = self.options
        return str(Address(host=options.host, port=options.port, path=options.unix_socket_path))

    @property
    def is_from_environment(self) -> bool:
        """Whether variables said where the server is."""
        return bool(self.sources) and self.sources[0] not in {"the URL", "the connection string"}

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return {"address": self.address, "db": self.options.db, "name": self.name, "sources": list(self.sources)}


def read_target(text: str | None, *, environ: Mapping[str, str] | None = None, **overrides: Any) -> Target:
    """Return what the argument ``TARGET`` stands for.

    Args:
        text: A URL, a connection string, or a name in the environment; ``None``: what ``create_client_from_env()``
            reads.
        environ: The environment, if it isn't the process's.
        overrides: Options that replace what it says.

    Raises:
        ConfigurationError: It says something wrong, or the environment names no server.
    """
    environ = os.environ if environ is None else environ
    if text is None or _NAME.fullmatch(text):
        configuration = _from_environment(text, environ, overrides)
        return Target(configuration, text, _sources(configuration))
    configuration = ClientConfiguration.from_string(text, **overrides)
    return Target(configuration, None, _sources(configuration))


def _from_environment(
    name: str | None, environ: Mapping[str, str], overrides: Mapping[str, Any]
) -> ClientConfiguration:
    try:
        return ClientConfiguration.from_env(name, environ=environ, **overrides)
    except ConfigurationError as error:
        problem = str(error)
    hint = "" if name is None else f"; if {name!r} is a host and no name in the environment, give redis://{name}"
    if not problem.startswith("the environment names no server"):
        hint = ""
    raise ConfigurationError(problem + hint)


def _sources(configuration: ClientConfiguration) -> tuple[str, ...]:
    said = (each.source for each in configuration.explain().settings)
    return tuple(dict.fromkeys(each for each in said if each not in {"", "an argument"}))


def probing(timeout: float | None) -> dict[str, Any]:
    """Return the overrides with which a command looks at a server: it is asked each time, on the shared connection.

    Args:
        timeout: How long connecting may take, and each command, in seconds; ``None``: as configured.
    """
    overrides: dict[str, Any] = {"client_side_cache": None, "single_connection_client": False}
    if timeout is not None:
        # The time of one attempt runs out first: it says more about why.
        times = {"connect_timeout": timeout, "initial_connect_timeout": 2 * timeout, "command_timeout": timeout}
        overrides |= times
    return overrides


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Return what reads an option that is a duration in seconds.

    Args:
        least: The shortest one.
        most: The longest one.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # nor is NaN
            raise click.BadParameter(f"it must be a number of seconds from {least:g} to {most:g}")
        return value

    return read


target_argument = click.argument("target", required=False, metavar="[TARGET]")
timeout_option = click.option(
    "--timeout",
    type=seconds(0.001, 3600),
    metavar="SECONDS",
    help="How long connecting may take, and each answer.  [default: what TARGET says, or 3 and 5]",
)
