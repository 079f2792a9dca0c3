"""What redis-py calls its options, and what becomes of each: the one table, which is in the README too.

Rules of this file:

1. Every parameter of redis-py's constructor that isn't an option of ours by the same name is in ``REDIS_PY``: as
   another name, without effect, or refused; the latter two with a reason.
2. A pool of redis-py's is read, not used: what it has is taken as if it had been given to the constructor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from redis.utils import SENTINEL

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import KEEP_ALIVE_CONSTANTS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping


_NOTHING: Final = (None, False)


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of an option, or of a field of ``TLSOptions`` (``tls.…``).

    Attributes:
        option: The option's own name.
        kind: What values this name takes, if not the option's.
        unset: Values that mean the same as leaving it out.
    """

    option: str
    kind: Kind | None = None
    unset: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """A name that is accepted, without effect.

    Attributes:
        reason: Why.
        kind: What values it takes, if not any.
        unset: Values that ask for nothing but what is so anyway.
    """

    reason: str
    kind: Kind | None = None
    unset: tuple[object, ...] = _NOTHING


@dataclass(frozen=True, slots=True)
class Refused:
    """A name that is refused, unless with a value that asks for nothing.

    Attributes:
        reason: Why, and what to do instead.
        unset: Such values.
    """

    reason: str
    unset: tuple[object, ...] = _NOTHING


@dataclass(frozen=True, slots=True)
class Source:
    """A name whose value has options.

    Attributes:
        reason: What becomes of it.
    """

    reason: str


Meaning: TypeAlias = Alias | Ignored | Refused | Source

_VERIFY: Final = Kind(
    "'required', 'optional', 'none' or an ssl.VerifyMode",
    # The numbers are those of ssl.VerifyMode, which is an IntEnum: its members are found by them.
    {"required": True, "optional": True, "none": False, None: False, 2: True, 1: True, 0: False}.__getitem__,
    str,
)
_NONE: Final = (None,)
_NO_RETRY: Final = Ignored("No option makes a client send a write twice; what is sent again says retry_unanswered.")
_LIBRARY: Final = Ignored("The server is told this package's name; client_info_tag adds to it.")
_VERIFY_FLAGS: Final = Refused("is not supported: set them on an SSLContext and pass that as tls")

REDIS_PY: Final[Mapping[str, Meaning]] = {
    "auto_close_connection_pool": Ignored("There is no pool that could be left open."),
    "connection_pool": Source("Read, not used: the options that it has are taken."),
    "credentials_provider": Alias("credential_provider"),
    "driver_info": _LIBRARY,
    "event_dispatcher": Ignored("It would be told of redis-py's own connections; see on() for events."),
    "health_check_interval": Alias("ping_interval"),
    "lib_name": _LIBRARY,
    "lib_version": _LIBRARY,
    "maint_notifications_config": Ignored("The server is not asked for maintenance notifications."),
    "max_connections": Alias("max_dedicated_connections", unset=_NONE),
    "redis_connect_func": Refused("is not supported: there is no redis-py connection to call it with"),
    "retry": _NO_RETRY,
    "retry_on_error": _NO_RETRY,
    "retry_on_timeout": _NO_RETRY,
    "socket_connect_timeout": Alias("connect_timeout"),
    "socket_keepalive": Alias("keep_alive"),
    "socket_keepalive_options": Alias("keep_alive", KEEP_ALIVE_CONSTANTS, unset=(None, {})),
    "socket_read_size": Ignored("The event loop decides how much it reads at a time."),
    "socket_timeout": Alias("command_timeout"),
    "ssl": Alias("tls"),
    "ssl_ca_certs": Alias("tls.ca_file", unset=_NONE),
    "ssl_ca_data": Alias("tls.ca_data", unset=_NONE),
    "ssl_ca_path": Alias("tls.ca_path", unset=_NONE),
    "ssl_cert_reqs": Alias("tls.verify", _VERIFY),
    "ssl_certfile": Alias("tls.certificate_file", unset=_NONE),
    "ssl_check_hostname": Alias("tls.check_hostname"),
    "ssl_ciphers": Alias("tls.ciphers", unset=_NONE),
    "ssl_exclude_verify_flags": _VERIFY_FLAGS,
    "ssl_include_verify_flags": _VERIFY_FLAGS,
    "ssl_keyfile": Alias("tls.key_file", unset=_NONE),
    "ssl_min_version": Alias("tls.minimum_version", unset=_NONE),
    "ssl_password": Alias("tls.key_password", unset=_NONE),
}

_INTERNAL: Final = Ignored("redis-py's own, between a pool and its connections.")
_POOLS: Final[Mapping[str, Meaning]] = {
    "encoder_class": Refused("is not supported: values are encoded by this package"),
    "himport_registry": _INTERNAL,
    "maint_notifications_pool_handler": _INTERNAL,
    "maintenance_notification_hash": _INTERNAL,
    "maintenance_state": _INTERNAL,
    "orig_host_address": _INTERNAL,
    "orig_socket_connect_timeout": _INTERNAL,
    "orig_socket_timeout": _INTERNAL,
    "oss_cluster_maint_notifications_handler": _INTERNAL,
    "parser_class": Ignored("Replies are parsed by this package."),
    "path": Alias("unix_socket_path"),
    "socket_type": Ignored("A name's addresses are tried one after the other."),
}
"""The further names that a pool's options may have."""


def meaning_in_pool(name: str) -> Meaning | None:
    """Return what becomes of a name that only a pool's options have, if it is one."""
    return _POOLS.get(name)


def is_unset(value: object) -> bool:
    """Whether a value is redis-py's mark of what was left out."""
    return value is SENTINEL


def read_pool(pool: Any) -> dict[str, object]:
    """Return the options that a pool of redis-py's has, under its names.

    Raises:
        ConfigurationError: It is no such pool, or its connections are of a kind of their own.
    """
    # Whoever has a pool has loaded this. It is not for this floor to load it before.
    from redis.asyncio.connection import (  # noqa: PLC0415
        Connection,
        ConnectionPool,
        SSLConnection,
        UnixDomainSocketConnection,
    )

    if not isinstance(pool, ConnectionPool):
        raise ConfigurationError(
            f"connection_pool must be a redis.asyncio.ConnectionPool, not a value of type {type(pool).__name__}"
        )
    kind = pool.connection_class
    if kind not in (Connection, SSLConnection, UnixDomainSocketConnection):
        raise ConfigurationError(
            f"connection_pool has connections of a kind of its own ({kind.__name__}), which would not be used: give "
            "the options themselves, or a URL"
        )
    options = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if not is_unset(value) and _POOLS.get(name) is not _INTERNAL
    }
    options["max_connections"] = pool.max_connections
    if kind is not UnixDomainSocketConnection:
        options["tls"] = kind is SSLConnection
    return options
