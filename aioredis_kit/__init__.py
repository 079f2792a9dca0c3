"""A multiplexed asyncio client for Redis, Valkey and Garnet.

Names are resolved when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioredis_kit.cache.options import CacheOptions
    from aioredis_kit.cache.statistics import CacheStatistics
    from aioredis_kit.cache.store import ClientSideCache
    from aioredis_kit.client.base import ClientState
    from aioredis_kit.client.client import RedisClient
    from aioredis_kit.client.create import create_client
    from aioredis_kit.config.configuration import create_client_from_env
    from aioredis_kit.config.registry import ClientRegistry
    from aioredis_kit.credentials import CredentialProvider, Credentials
    from aioredis_kit.exceptions import (
        AuthenticationFailedError,
        ClientClosedError,
        CommandTimeoutError,
        ConfigurationError,
        ConnectError,
        ConnectionLostError,
        ConnectTimeoutError,
        HandshakeError,
        HealthCheckError,
        KitError,
        NotConnectedError,
        PoolExhaustedError,
        QueueFullError,
        ReconnectStrategyError,
        ReplyProtocolError,
        TimeoutCause,
        TimeoutDiagnosis,
        TokenRenewalError,
    )
    from aioredis_kit.health import Concern, Health
    from aioredis_kit.hooks import Call, CommandHook
    from aioredis_kit.lanes.providers import TokenCredentials
    from aioredis_kit.options import TLSOptions
    from aioredis_kit.pubsub.message import Message
    from aioredis_kit.pubsub.subscription import Subscription
    from aioredis_kit.slow_commands import SlowCommandLog
    from aioredis_kit.statistics import Statistics

_MODULES = {
    "CacheOptions": "cache.options",
    "Call": "hooks",
    "CommandHook": "hooks",
    "SlowCommandLog": "slow_commands",
    "CacheStatistics": "cache.statistics",
    "ClientSideCache": "cache.store",
    "ClientRegistry": "config.registry",
    "ClientState": "client.base",
    "RedisClient": "client.client",
    "Concern": "health",
    "create_client": "client.create",
    "create_client_from_env": "config.configuration",
    "CredentialProvider": "credentials",
    "Credentials": "credentials",
    "Health": "health",
    "Message": "pubsub.message",
    "Statistics": "statistics",
    "Subscription": "pubsub.subscription",
    "TokenCredentials": "lanes.providers",
    "TLSOptions": "options",
    **dict.fromkeys(
        (
            "AuthenticationFailedError",
            "ClientClosedError",
            "CommandTimeoutError",
            "ConfigurationError",
            "ConnectError",
            "ConnectTimeoutError",
            "ConnectionLostError",
            "HandshakeError",
            "HealthCheckError",
            "KitError",
            "NotConnectedError",
            "PoolExhaustedError",
            "QueueFullError",
            "ReconnectStrategyError",
            "ReplyProtocolError",
            "TimeoutCause",
            "TimeoutDiagnosis",
            "TokenRenewalError",
        ),
        "exceptions",
    ),
}

__all__ = [  # the names are all strings
    "AuthenticationFailedError",
    "CacheOptions",
    "CacheStatistics",
    "Call",
    "ClientClosedError",
    "ClientRegistry",
    "ClientSideCache",
    "ClientState",
    "CommandHook",
    "CommandTimeoutError",
    "Concern",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionLostError",
    "CredentialProvider",
    "Credentials",
    "HandshakeError",
    "Health",
    "HealthCheckError",
    "KitError",
    "Message",
    "NotConnectedError",
    "PoolExhaustedError",
    "QueueFullError",
    "ReconnectStrategyError",
    "RedisClient",
    "ReplyProtocolError",
    "SlowCommandLog",
    "Statistics",
    "Subscription",
    "TLSOptions",
    "TimeoutCause",
    "TimeoutDiagnosis",
    "TokenCredentials",
    "TokenRenewalError",
    "create_client",
    "create_client_from_env",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # see above

    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
