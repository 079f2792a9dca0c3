"""What other clients call their options, and what that is here: node-redis and Redisson.

Whoever comes from there gives such a name sooner or later. It is refused like any unknown one, with the option that
says the same. The tables are in ``config/OPTIONS.md`` too. redis-py's names are taken, see ``spellings``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NODE_REDIS", "REDISSON", "Counterpart", "counterpart"]


@dataclass(frozen=True, slots=True)
class Counterpart:
    """What another client's option is here.

    Attributes:
        option: The option that says the same, as it is written; empty if there is none.
        remark: What differs, or why there is none.
    """

    option: str = ""
    remark: str = ""


_SECONDS: Final = "in seconds, not milliseconds"
_CLUSTER: Final = "waits for cluster support"
_ONE_CONNECTION: Final = "all subscriptions share one connection"
_NO_POOLS: Final = (
    "there are no pools that are kept warm: commands share connections (connections=1), which are always open"
)
_MAINTENANCE: Final = "the server is not asked for maintenance notifications"

NODE_REDIS: Final[Mapping[str, Counterpart]] = {
    "url": Counterpart("create_client(url)", "a URL and an option that contradict each other are an error"),
    "socket": Counterpart("", "what it contains are options of their own here"),
    "username": Counterpart("username"),
    "password": Counterpart("password"),
    "credentialsProvider": Counterpart("credential_provider", "an object with get_credentials(), or a function"),
    "name": Counterpart("client_name"),
    "database": Counterpart("db"),
    "keyPrefix": Counterpart("", "keys are sent as they are given"),
    "commandsQueueMaxLength": Counterpart("commands_queue_max_length", "limited by default"),
    "disableOfflineQueue": Counterpart("disable_offline_queue"),
    "readonly": Counterpart("", f"reading from the replicas of a cluster {_CLUSTER}"),
    "pingInterval": Counterpart("ping_interval", f"{_SECONDS}; only when nothing was read for that long"),
    "commandOptions": Counterpart("client.with_options(…)", "and the options command_timeout and decode_responses"),
    "commandOptions.timeout": Counterpart("command_timeout", f"{_SECONDS}, and up to the reply"),
    "commandOptions.typeMapping": Counterpart("decode_responses", "or set_response_callback()"),
    "clientSideCache": Counterpart("client_side_cache", "CacheOptions(…)"),
    "emitInvalidate": Counterpart("emit_invalidate"),
    "disableClientInfo": Counterpart("disable_client_info"),
    "clientInfoTag": Counterpart("client_info_tag"),
    "RESP": Counterpart("protocol"),
    "modules": Counterpart("", "json(), ft(), ts() and so on are methods; execute_command() sends any command"),
    "functions": Counterpart("", "fcall() calls them"),
    "scripts": Counterpart("", "register_script() makes an object that calls one"),
    "maintNotifications": Counterpart("", _MAINTENANCE),
    "maintEndpointType": Counterpart("", _MAINTENANCE),
    "maintRelaxedCommandTimeout": Counterpart("", _MAINTENANCE),
    "maintRelaxedSocketTimeout": Counterpart("", _MAINTENANCE),
    "socket.host": Counterpart("host"),
    "socket.port": Counterpart("port"),
    "socket.path": Counterpart("unix_socket_path"),
    "socket.tls": Counterpart("tls", "True or TLSOptions(…)"),
    "socket.ca": Counterpart("TLSOptions.ca_data", "or ca_file"),
    "socket.cert": Counterpart("TLSOptions.certificate_file", "a file"),
    "socket.key": Counterpart("TLSOptions.key_file", "a file"),
    "socket.passphrase": Counterpart("TLSOptions.key_password"),
    "socket.servername": Counterpart("TLSOptions.server_hostname"),
    "socket.rejectUnauthorized": Counterpart("TLSOptions.verify"),
    "socket.connectTimeout": Counterpart("connect_timeout", f"{_SECONDS}; TLS and the handshake included"),
    "socket.socketTimeout": Counterpart("ping_interval", f"{_SECONDS}; then the server is asked for life"),
    "socket.noDelay": Counterpart("no_delay"),
    "socket.keepAlive": Counterpart("keep_alive"),
    "socket.keepAliveInitialDelay": Counterpart("keep_alive", "the first of its three values, in seconds"),
    "socket.reconnectStrategy": Counterpart(
        "reconnect_strategy", "its function takes and returns the same, in seconds"
    ),
    "rootNodes": Counterpart("", _CLUSTER),
    "defaults": Counterpart("", _CLUSTER),
    "useReplicas": Counterpart("", _CLUSTER),
    "minimizeConnections": Counterpart("", _CLUSTER),
    "maxCommandRedirections": Counterpart("", _CLUSTER),
    "nodeAddressMap": Counterpart("", _CLUSTER),
    "topologyRefreshOnReconnectionAttemptStrategy": Counterpart("", _CLUSTER),
    "sentinelRootNodes": Counterpart("", "there is no sentinel client yet"),
}

REDISSON: Final[Mapping[str, Counterpart]] = {
    "idleConnectionTimeout": Counterpart("", "dedicated connections close after 30 s, shared ones stay open"),
    "connectTimeout": Counterpart("connect_timeout", f"{_SECONDS}; TLS and the handshake included"),
    "timeout": Counterpart("command_timeout", f"{_SECONDS}, and from the call on"),
    "retryAttempts": Counterpart("retry_unanswered", "what is sent again, until the deadline; never a number"),
    "retryInterval": Counterpart("reconnect_strategy", f"{_SECONDS}; a function, a tenacity wait, or a number"),
    "retryDelay": Counterpart("reconnect_strategy", f"{_SECONDS}; a function, a tenacity wait, or a number"),
    "reconnectionDelay": Counterpart("reconnect_strategy", f"{_SECONDS}; a function, a tenacity wait, or a number"),
    "checkLockSyncedSlaves": Counterpart("", "lock() is redis-py's; wait() in a session says how many replicas know"),
    "failedSlaveReconnectionInterval": Counterpart("", _CLUSTER),
    "failedSlaveCheckInterval": Counterpart("", _CLUSTER),
    "failedSlaveNodeDetector": Counterpart("", _CLUSTER),
    "subscriptionsPerConnection": Counterpart("", _ONE_CONNECTION),
    "subscriptionConnectionMinimumIdleSize": Counterpart("", _ONE_CONNECTION),
    "subscriptionConnectionPoolSize": Counterpart("", _ONE_CONNECTION),
    "subscriptionMode": Counterpart("", _CLUSTER),
    "clientName": Counterpart("client_name"),
    "loadBalancer": Counterpart("", _CLUSTER),
    "slaveConnectionMinimumIdleSize": Counterpart("", _CLUSTER),
    "slaveConnectionPoolSize": Counterpart("", _CLUSTER),
    "masterConnectionMinimumIdleSize": Counterpart("", _NO_POOLS),
    "masterConnectionPoolSize": Counterpart("max_dedicated_connections", "for blocking commands and sessions alone"),
    "readMode": Counterpart("", _CLUSTER),
    "nodeAddresses": Counterpart("", f"{_CLUSTER}; host and port are those of one server"),
    "scanInterval": Counterpart("", _CLUSTER),
    "pingConnectionInterval": Counterpart("ping_interval", f"{_SECONDS}; only when nothing was read for that long"),
    "keepAlive": Counterpart("keep_alive", "on by default"),
    "tcpNoDelay": Counterpart("no_delay"),
    "tcpUserTimeout": Counterpart("tcp_user_timeout", _SECONDS),
    "username": Counterpart("username"),
    "password": Counterpart("password"),
    "sslKeystore": Counterpart("TLSOptions.certificate_file", "a file in PEM"),
    "sslTruststore": Counterpart("TLSOptions.ca_file", "a file in PEM"),
    "sslEnableEndpointIdentification": Counterpart("TLSOptions.check_hostname"),
    "address": Counterpart("create_client(url)", "of the single server"),
    "database": Counterpart("db"),
}


def counterpart(name: str) -> str | None:
    """Return what to tell whoever gives another client's option, as completes "there is no option …: …".

    Args:
        name: The name. What node-redis has in ``socket`` may be named alone.
    """
    for client, table, names in (
        ("node-redis", NODE_REDIS, (name, f"socket.{name}")),
        ("Redisson", REDISSON, (name,)),
    ):
        for each in names:
            if (found := table.get(each)) is not None:
                remark = f"; {found.remark}" if found.remark else ""
                if found.option:
                    return f"what {client} calls so is {found.option} here{remark}"
                return f"what {client} calls so is not known here{remark}"
    return None
