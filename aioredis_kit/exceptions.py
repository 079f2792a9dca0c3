"""The errors that this package raises itself.

::

    redis.exceptions.RedisError
    ├── ResponseError …                    redis-py's own tree for error replies, never wrapped
    └── KitError                           abstract
        ├── ConfigurationError             + ValueError
        ├── ClientClosedError              + redis ConnectionError
        ├── NotConnectedError              + redis ConnectionError
        ├── QueueFullError
        ├── PoolExhaustedError             + redis MaxConnectionsError + redis TimeoutError
        ├── ConnectError                   + redis ConnectionError
        │   ├── ConnectTimeoutError        + redis TimeoutError
        │   ├── ReconnectStrategyError
        │   └── HandshakeError
        │       └── AuthenticationFailedError   + redis AuthenticationError
        ├── TokenRenewalError
        ├── ConnectionLostError            + redis ConnectionError
        │   ├── HealthCheckError
        │   └── ReplyProtocolError         + redis InvalidResponse
        └── CommandTimeoutError            + redis TimeoutError + builtin TimeoutError

Rules of this file:

1. Each error that ends a command says whether the server may have run it: ``maybe_executed``.
2. An error derives from the redis-py class that code written for redis-py already catches.
3. Facts are keyword-only fields. Each error pickles and copies with them.
"""

from __future__ import annotations

import builtins
import copy
import enum
from dataclasses import dataclass
from typing import Any, TypeVar

from redis import exceptions as redis

__all__ = [
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
    "error_code",
    "one_for_each",
]


class KitError(redis.RedisError):
    """Root of what this package raises itself. Abstract: only its subclasses are raised.

    Attributes:
        maybe_executed: Whether the server may have run the command that this error ended. It is
            ``False`` when the command was never handed to the transport: sending it again is safe.
        lane: Which of the client's lanes an ``error`` event is about: ``shared`` or ``push``.
        replies: Of a pipeline that was lost in the middle, the raw replies that had come, in the order of the
            commands. Nobody knows of the commands after those.
    """

    maybe_executed: bool
    lane: str = "shared"
    replies: tuple[object, ...] = ()

    def __init__(self, message: str, *, maybe_executed: bool = False) -> None:
        if type(self) is KitError:
            raise TypeError("KitError is abstract: raise one of its subclasses")
        super().__init__(message)
        self.maybe_executed = maybe_executed

    def __reduce__(self) -> tuple[Any, ...]:
        # The fields are keyword-only, so BaseException's own "class(*args)" would lose them.
        return _rebuild, (type(self), self.args, self.__dict__)


ErrorT = TypeVar("ErrorT", bound=Exception)


def one_for_each(error: ErrorT) -> ErrorT:
    """Return a copy for one of several callers who share an error, with that error as its cause.

    An exception that is raised in several tasks would collect the tracebacks of all.
    """
    own = copy.copy(error)
    own.__cause__ = error
    return own


def error_code(error: Exception) -> str:
    """Return the word with which the server began an error reply, such as ``LOADING``."""
    return getattr(error, "status_code", None) or str(error).partition(" ")[0]


def _rebuild(kind: type[KitError], args: tuple[Any, ...], fields: dict[str, Any]) -> KitError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigurationError(KitError, ValueError):
    """What was asked for can't be done as it was configured or called.

    Raised before any I/O. The message names the option or command, what is wrong with its value
    and what to do instead; it never shows a secret.
    """


class ClientClosedError(KitError, redis.ConnectionError):
    """The client was closed, destroyed, or gave up reconnecting."""


class NotConnectedError(KitError, redis.ConnectionError):
    """The client isn't ready and ``disable_offline_queue`` is set."""


class QueueFullError(KitError):
    """As many commands or bytes wait and are in flight as the options allow.

    Attributes:
        limit: The limit that was reached, in commands or in bytes (the message says which).
    """

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class TimeoutCause(enum.Enum):
    """Why a command was not answered by its deadline, as far as the numbers of its ``TimeoutDiagnosis`` tell."""

    BLOCKED_LOOP = "blocked event loop"
    """The event loop did not turn for a large part of the time: something synchronous ran in this process."""
    DISCONNECTED = "disconnected"
    """There was no connection, or its reply was lost with one."""
    DEAD_PEER = "dead peer"
    """The server's machine did not even acknowledge what was sent to it: it is gone, or the network swallows it."""
    SLOW_SERVER = "slow server"
    """The server's machine is there, but the server was busy, stopped, or slow."""
    STALLED = "stalled"
    """Nothing was read. Whether it is the server or the network, this system does not tell."""
    BIG_REPLY = "big reply ahead"
    """Large replies to earlier commands were being read."""
    LONG_QUEUE = "long queue"
    """The server was fast, but more was sent than it could answer in time."""
    LEASES_EXHAUSTED = "leases exhausted"
    """All dedicated connections were in use."""
    UNKNOWN = "unknown"
    """Nobody looked, or it waited for something else than the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutDiagnosis:
    """Where the time of a command went that was not answered by its deadline.

    Attributes:
        timeout: How long the command was allowed to take, in seconds.
        state: State of the connection when the deadline passed.
        cause: What kept it, as far as the numbers tell.
        advice: What to do about it, in words.
        queued: How long it waited to be written, in seconds.
        in_flight: How long it waited for its reply after that, in seconds.
        commands_ahead: Commands before it, on the wire or in the queue.
        bytes_ahead: The size of those commands, in bytes.
        bytes_read: Bytes read on its connection since it was written.
        replies_read: Replies read there since then, the beginning of another one not counted.
        silent_for: For how long the connection has owed a reply and nothing was read, in seconds.
        unacknowledged_for: For how long the server's machine, or the next one that takes part in the connection, has
            acknowledged no byte of what was sent, in seconds; 0 if it has acknowledged everything; ``None`` where the
            system does not tell (it does on Linux).
        delayed: For how long the event loop did not turn while the command waited, in seconds.
        lag: How late the event loop ran the deadline's timer, in seconds.
    """

    timeout: float
    state: str
    cause: TimeoutCause = TimeoutCause.UNKNOWN
    advice: str = ""
    queued: float = 0.0
    in_flight: float = 0.0
    commands_ahead: int = 0
    bytes_ahead: int = 0
    bytes_read: int = 0
    replies_read: int = 0
    silent_for: float = 0.0
    unacknowledged_for: float | None = None
    delayed: float = 0.0
    lag: float = 0.0


class PoolExhaustedError(KitError, redis.MaxConnectionsError, redis.TimeoutError):
    """No dedicated connection became free in time.

    Attributes:
        limit: ``max_dedicated_connections``.
        holders: The commands that hold the connections, by name.
        diagnosis: Where the time went.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: int,
        holders: tuple[str, ...] = (),
        diagnosis: TimeoutDiagnosis | None = None,
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.holders = holders
        self.diagnosis = diagnosis


class ConnectError(KitError, redis.ConnectionError):
    """No connection could be established.

    Attributes:
        address: Where to, as text: ``host:port`` or the path of a Unix socket.
        attempts: How many attempts were made since the last time the client was ready.
    """

    def __init__(self, message: str, *, address: str = "", attempts: int = 1) -> None:
        super().__init__(message)
        self.address = address
        self.attempts = attempts


class ConnectTimeoutError(ConnectError, redis.TimeoutError):
    """Connecting took longer than ``connect_timeout`` or ``initial_connect_timeout``."""


class ReconnectStrategyError(ConnectError):
    """The reconnect strategy returned an exception. That exception is the ``__cause__``."""


class HandshakeError(ConnectError):
    """The server refused a command of the handshake.

    Attributes:
        step: The name of the refused command.
        is_unsupported: Whether the server lacks what was asked for, so that asking again does not help.
    """

    def __init__(
        self, message: str, *, step: str, address: str = "", attempts: int = 1, is_unsupported: bool = False
    ) -> None:
        super().__init__(message, address=address, attempts=attempts)
        self.step = step
        self.is_unsupported = is_unsupported


class AuthenticationFailedError(HandshakeError, redis.AuthenticationError):
    """The server refused the credentials, or asks for some and there are none."""


class TokenRenewalError(KitError):
    """The identity provider gave no usable token.

    Attributes:
        expires_at: When the token in use ends, in seconds since the epoch, if there is one.
    """

    def __init__(self, message: str, *, expires_at: float | None = None) -> None:
        super().__init__(message)
        self.expires_at = expires_at


class ConnectionLostError(KitError, redis.ConnectionError):
    """The connection broke before the reply came.

    Attributes:
        address: Where the connection led to.
    """

    def __init__(self, message: str, *, address: str = "", maybe_executed: bool = False) -> None:
        super().__init__(message, maybe_executed=maybe_executed)
        self.address = address


class HealthCheckError(ConnectionLostError):
    """The server stopped answering, so the connection was dropped.

    Attributes:
        silent_for: For how many seconds nothing had been read.
    """

    def __init__(
        self,
        message: str,
        *,
        silent_for: float,
        address: str = "",
        maybe_executed: bool = False,
    ) -> None:
        super().__init__(message, address=address, maybe_executed=maybe_executed)
        self.silent_for = silent_for


class ReplyProtocolError(ConnectionLostError, redis.InvalidResponse):
    """The server sent bytes that are no RESP, or a reply that nobody had asked for."""


class CommandTimeoutError(KitError, redis.TimeoutError, builtins.TimeoutError):
    """The command's deadline passed.

    Attributes:
        diagnosis: Where the time went.
    """

    def __init__(self, message: str, *, diagnosis: TimeoutDiagnosis, maybe_executed: bool = False) -> None:
        super().__init__(message, maybe_executed=maybe_executed)
        self.diagnosis = diagnosis
