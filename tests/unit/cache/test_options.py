"""What a cache can be told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.cache.store import ClientSideCache
from aioredis_kit.exceptions import ConfigurationError


def test_values_are_read():
    options = CacheOptions(mode="broadcast", prefixes=["user:", b"flag:"], ttl=timedelta(minutes=1))
    assert options.prefixes == (b"user:", b"flag:")
    assert options.ttl == 60.0
    assert CacheOptions(mode="broadcast", prefixes=["a", b"a", "b"]).prefixes == (b"a", b"b")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "all"}, "CacheOptions.mode must be 'default' or 'optin' or 'broadcast'"),
        ({"prefixes": "user:", "mode": "broadcast"}, "CacheOptions.prefixes must be several prefixes of keys"),
        ({"prefixes": ("",), "mode": "broadcast"}, "CacheOptions.prefixes must be several prefixes of keys"),
        ({"prefixes": (1,), "mode": "broadcast"}, "CacheOptions.prefixes must be several prefixes of keys"),
        ({"prefixes": ("a",)}, "CacheOptions.prefixes is of use with mode='broadcast' alone, and mode is 'default'"),
        (
            {"prefixes": ("user:1", "flag:", "user:"), "mode": "broadcast"},
            "CacheOptions.prefixes must not overlap, which no server takes: b'user:1' begins with b'user:'",
        ),
        ({"max_entries": 0}, "CacheOptions.max_entries must be a whole number"),
        ({"max_bytes": 1.5}, "CacheOptions.max_bytes must be a whole number"),
        ({"ttl": 0}, "CacheOptions.ttl must be a finite number of seconds"),
        ({"eviction": "LRU"}, "CacheOptions.eviction must be 'lru' or 'fifo'"),
        ({"key_expiry": 1}, "CacheOptions.key_expiry must be True or False"),
        ({"cacheable": "GET"}, "CacheOptions.cacheable must be a function that takes a command"),
    ],
)
def test_what_makes_no_sense_is_refused(options, text):
    with pytest.raises(ConfigurationError, match=text.replace("(", r"\(")):
        CacheOptions(**options)


def test_a_cache_takes_options():
    with pytest.raises(ConfigurationError, match="takes CacheOptions, not 'dict'"):
        ClientSideCache({"ttl": 1})


@pytest.mark.parametrize(
    ("options", "tracking"),
    [
        ({}, ()),
        ({"mode": "optin"}, ("OPTIN",)),
        ({"mode": "broadcast"}, ("BCAST",)),
        ({"mode": "broadcast", "prefixes": ("a", b"b")}, ("BCAST", "PREFIX", b"a", "PREFIX", b"b")),
    ],
)
def test_what_the_server_is_told(options, tracking):
    assert CacheOptions(**options).tracking == tracking


def test_what_the_server_tells_about():
    options = CacheOptions(mode="broadcast", prefixes=("user:", "flag:"))
    assert options.covers(b"user:1")
    assert not options.covers(b"session:1")
    assert CacheOptions().covers(b"anything")
