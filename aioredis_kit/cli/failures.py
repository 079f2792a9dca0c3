"""Errors in words: what happened, and what to do about it."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import NoPermissionError, ReadOnlyError

from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectTimeoutError,
)
from aioredis_kit.policy.tls_failures import TLSFailure, find_failure, tls_error_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.exceptions import RedisError

__all__ = ["Failure", "failure_of"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command could not do what it was asked for.

    Attributes:
        kind: The name of the error's class.
        message: What happened, on what.
        remedy: What to do about it; empty if the message says that, or nobody knows.
    """

    kind: str
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str | None]:
        """Return it as it stands in JSON."""
        return {"kind": self.kind, "message": self.message, "remedy": self.remedy or None}


def failure_of(error: RedisError) -> Failure:
    """Return an error in words."""
    message, remedy = _words(error)
    return Failure(type(error).__name__, message, remedy)


def _words(error: RedisError) -> tuple[str, str]:
    if isinstance(error, ConfigurationError):
        return str(error), ""
    if isinstance(error, AuthenticationFailedError):
        return str(error), "check the user name and the password, and whether that user is enabled (ACL LIST)"
    if isinstance(error, NoPermissionError):
        return f"the server does not let this user do that: {error}", "give the user that right, or take another user"
    if isinstance(error, ReadOnlyError):
        return str(error), "this is a replica: name its primary"
    if isinstance(error, ConnectError):
        return _words_of_connecting(error)
    if isinstance(error, CommandTimeoutError):
        return str(error), "" if error.diagnosis.advice in str(error) else error.diagnosis.advice
    return str(error), ""


def _words_of_connecting(error: ConnectError) -> tuple[str, str]:
    causes = tuple(_causes(error))
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return (
            f"{error.address} refused the connection: nothing listens there",
            "start the server, or correct host and port; a firewall may refuse as well",
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return str(error), "check how the host is spelt, and whether this machine's name resolution knows it"
    if any(isinstance(cause, FileNotFoundError) for cause in causes):
        return str(error), "start the server, or correct the path of its Unix socket (unixsocket in its configuration)"
    secured = tls_error_behind(error)
    if secured is not None and find_failure(secured) is TLSFailure.UNKNOWN_AUTHORITY:
        return str(error), "in a URL, ca_file is ssl_ca_certs: rediss://HOST?ssl_ca_certs=FILE"
    if any(isinstance(cause, ConnectionResetError) for cause in causes):
        return str(error), "if that port speaks TLS, rediss:// in place of redis://; else look into the server's log"
    if isinstance(error, ConnectTimeoutError):
        return (
            str(error),
            "look for a firewall, a server that hangs, or TLS on one side only (rediss:// and redis://)",
        )
    return str(error), ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
