"""The URL of a lent database is the server's, with the number in its place."""

import pytest

from aioredis_kit.testing.databases import _with_database


@pytest.mark.parametrize(
    ("url", "lent"),
    [
        ("redis://h:1", "redis://h:1/7"),
        ("redis://h:1/3", "redis://h:1/7"),
        ("redis://ada:p%40ss@h:1/?db=3", "redis://ada:p%40ss@h:1/7"),
        ("rediss://h:1?ssl_ca_certs=%2Fca.pem", "rediss://h:1/7?ssl_ca_certs=%2Fca.pem"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=7"),
        ("unix://:pw@/run/redis.sock?db=3", "unix://:pw@/run/redis.sock?db=7"),
    ],
)
def test_with_database(url, lent):
    """The number goes into the path, or for a Unix socket into the query."""
    assert _with_database(url, 7) == lent
