"""The test kit: real servers, faults between a client and its server, and a scripted peer.

::

    with RedisServer(persistence="aof") as server:               # a process of its own
        async with FaultProxy(server.host, server.port) as proxy:    # proxy.stall(), proxy.cut(), …
            ...
    async with ScriptedPeer() as peer:                           # peer.on("GET", resp.bulk("x"))
        ...

The pytest fixtures built on it are in `aioredis_kit.pytest_plugin`. The names are imported when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioredis_kit.testing import resp
    from aioredis_kit.testing.binaries import ServerNotFoundError, find_binary, find_server
    from aioredis_kit.testing.faults import FaultProxy, ProxyStatistics
    from aioredis_kit.testing.fixtures import RedisClientFactory
    from aioredis_kit.testing.peer import PeerConnection, ReceivedCommand, ScriptedPeer
    from aioredis_kit.testing.server import RedisServer, ServerStartError, TLSFiles
    from aioredis_kit.testing.servers import ServerAtURL, ServerForTests, open_server

__all__ = [
    "FaultProxy",
    "PeerConnection",
    "ProxyStatistics",
    "ReceivedCommand",
    "RedisClientFactory",
    "RedisServer",
    "ScriptedPeer",
    "ServerAtURL",
    "ServerForTests",
    "ServerNotFoundError",
    "ServerStartError",
    "TLSFiles",
    "find_binary",
    "find_server",
    "open_server",
    "resp",
]

_MODULES = {
    "FaultProxy": "faults",
    "PeerConnection": "peer",
    "ProxyStatistics": "faults",
    "ReceivedCommand": "peer",
    "RedisClientFactory": "fixtures",
    "RedisServer": "server",
    "ScriptedPeer": "peer",
    "ServerAtURL": "servers",
    "ServerForTests": "servers",
    "ServerNotFoundError": "binaries",
    "ServerStartError": "server",
    "TLSFiles": "server",
    "find_binary": "binaries",
    "find_server": "binaries",
    "open_server": "servers",
}


def __getattr__(name: str) -> Any:
    if name == "resp":
        return importlib.import_module("aioredis_kit.testing.resp")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
