"""A test server's URL is taken apart as redis-py would."""

import ssl

import pytest

from aioredis_kit.testing.probe import ServerAddress


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", ServerAddress(host="localhost", port=6379)),
        ("redis://h:1/5", ServerAddress(host="h", port=1, database=5)),
        ("valkey://h:1?db=5", ServerAddress(host="h", port=1, database=5)),
        ("redis://[::1]:7/", ServerAddress(host="::1", port=7)),
        (
            "garnet://ada:p%40ssw0rd@h",
            ServerAddress(host="h", port=6379, username="ada", password="p@ssw0rd"),
        ),
        (
            "unix://:s3cret@/run/redis.sock?db=3",
            ServerAddress(unix_socket_path="/run/redis.sock", password="s3cret", database=3),
        ),
    ],
)
def test_url(url, address):
    """Host, port, credentials and database are found in every spelling."""
    assert ServerAddress.from_url(url) == address


def test_tls_url():
    """A rediss URL verifies certificate and name unless it says otherwise."""
    strict = ServerAddress.from_url("rediss://h").tls
    assert strict.verify_mode == ssl.CERT_REQUIRED
    assert strict.check_hostname
    assert not ServerAddress.from_url("rediss://h?ssl_check_hostname=false").tls.check_hostname
    assert ServerAddress.from_url("rediss://h?ssl_cert_reqs=none").tls.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize("url", ["http://h", "localhost:6379", "redis://h/x", "redis://h:x"])
def test_bad_url(url):
    """What isn't the URL of a Redis server is refused."""
    with pytest.raises(ValueError, match=r"scheme|database|[Pp]ort"):
        ServerAddress.from_url(url)


def test_password_is_not_shown():
    """The password is in no repr and in no error, not even a part of it."""
    assert "hunter2" not in repr(ServerAddress.from_url("redis://:hunter2@h"))
    for url in ("redis://:hunter2/x@h", "redis://:12/hunter2@h"):
        with pytest.raises(ValueError, match="percent-encode") as caught:
            ServerAddress.from_url(url)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
