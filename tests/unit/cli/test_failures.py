"""Errors in words: what happened, and what to do about it."""

from __future__ import annotations

import socket
import ssl

import pytest
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from aioredis_kit.cli.failures import failure_of
from aioredis_kit.exceptions import (
    AuthenticationFailedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectTimeoutError,
    TimeoutDiagnosis,
    one_for_each,
)


def caused(error, cause):
    error.__cause__ = cause
    return one_for_each(error)


def unverified(code):
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (ConfigurationError("port must be 1"), "port must be 1", ""),
        (AuthenticationFailedError("refused HELLO", step="HELLO"), "refused HELLO", "the user name and the password"),
        (NoPermissionError("no rights for 'set'"), "does not let this user", "give the user that right"),
        (ReadOnlyError("can't write"), "can't write", "name its primary"),
        (
            caused(ConnectError("connect call failed", address="cache:1"), ConnectionRefusedError()),
            "cache:1 refused the connection",
            "start the server",
        ),
        (
            caused(ConnectError("cache:1: unknown", address="cache:1"), socket.gaierror()),
            "cache:1: unknown",
            "how the host is spelt",
        ),
        (
            caused(ConnectError("/nope: no such file", address="/nope"), FileNotFoundError()),
            "/nope: no such file",
            "the path of its Unix socket",
        ),
        (caused(ConnectError("not trusted"), unverified(19)), "not trusted", "ssl_ca_certs=FILE"),
        (caused(ConnectError("it has expired"), unverified(10)), "it has expired", ""),
        (caused(ConnectError("reset"), ConnectionResetError()), "reset", "rediss:// in place of redis://"),
        (ConnectTimeoutError("cache:1 did not answer"), "cache:1 did not answer", "TLS on one side only"),
        (ConnectError("the certificate has expired: renew it"), "the certificate has expired", ""),
        (
            CommandTimeoutError("no reply", diagnosis=TimeoutDiagnosis(timeout=1, state="ready", advice="look there")),
            "no reply",
            "look there",
        ),
        (ResponseError("ERR unknown"), "ERR unknown", ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_in_words(error, message, remedy):
    failure = failure_of(error)
    assert message in failure.message
    assert remedy in failure.remedy
    assert bool(failure.remedy) is bool(remedy)
    assert failure.as_dict() == {
        "kind": type(error).__name__,
        "message": failure.message,
        "remedy": failure.remedy or None,
    }
